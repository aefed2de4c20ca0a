//! Threads that move bytes through pipes, by every way there is.
//!
//! Each says what it did, a line for each call that moved bytes, in the order of the stream: `w`, `r` or `p` (taken out and
//! left in the pipe), inode number, thread, name of the call, bytes.

use std::{ffi::CString, sync::Mutex, thread};

use super::sys;

/// What a pipe holds if nobody asks for more.
const CAPACITY: i64 = 65536;

/// Sizes that fit neither pages nor each other.
const WRITES: [i64; 6] = [1, 4095, 4097, 777, 65_001, 30_001];
const READS: [i64; 5] = [3, 15_000, 22_345, 1, 33_333];

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn say(side: char, inode: u64, call: &str, bytes: i64) {
    LINES.lock().unwrap().push(format!("{side} {inode} {} {call} {bytes}", sys::tid()));
}

/// All at once: while it goes on, the workload writes to no other pipe.
pub fn print_lines() {
    LINES.lock().unwrap().drain(..).for_each(|line| println!("{line}"));
}

pub fn inode(fd: i32) -> u64 {
    // SAFETY: all zero is a `stat`, and the kernel fills it in.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is alive.
    assert_eq!(unsafe { libc::fstat(fd, &raw mut stat) }, 0);
    stat.st_ino
}

pub fn close(fd: i32) {
    sys::must(libc::SYS_close, [fd.into(), 0, 0, 0, 0, 0]);
}

pub fn write(fd: i32, bytes: i64) -> i64 {
    static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
    let wrote = sys::call(libc::SYS_write, [fd.into(), ZEROS.as_ptr() as i64, bytes, 0, 0, 0]);
    if wrote > 0 {
        say('w', inode(fd), "write", wrote);
    }
    wrote
}

pub fn read(fd: i32, bytes: i64) -> i64 {
    let mut room = vec![0_u8; bytes as usize];
    let got = sys::call(libc::SYS_read, [fd.into(), room.as_mut_ptr() as i64, bytes, 0, 0, 0]);
    if got > 0 {
        say('r', inode(fd), "read", got);
    }
    got
}

/// As many bytes as that, in pieces.
fn write_all(fd: i32, total: i64) {
    let mut left = total;
    for size in WRITES.into_iter().cycle() {
        if left == 0 {
            return;
        }
        let wrote = write(fd, size.min(left));
        assert!(wrote > 0, "{wrote}");
        left -= wrote;
    }
}

/// To the end.
fn read_all(fd: i32) {
    for size in READS.into_iter().cycle() {
        let got = read(fd, size);
        assert!(got >= 0, "{got}");
        if got == 0 {
            return;
        }
    }
}

/// A file in memory of that size.
pub fn file(bytes: i64) -> i32 {
    let fd = sys::must(libc::SYS_memfd_create, [c"pipes".as_ptr() as i64, 0, 0, 0, 0, 0]) as i32;
    sys::must(libc::SYS_ftruncate, [fd.into(), bytes, 0, 0, 0, 0]);
    fd
}

pub fn transfers(total: u64) {
    let total = total as i64;
    between_threads(total, sys::pipe);
    within_a_thread(total, sys::pipe);
    between_processes(total, sys::pipe);
    without_blocking(total, sys::pipe);
    spliced(total);
    others();
    named();
    print_lines();
}

pub fn between_threads(total: i64, ends: fn() -> [i32; 2]) {
    let [from, into] = ends();
    let writer = thread::spawn(move || {
        write_all(into, total);
        close(into);
    });
    read_all(from);
    writer.join().unwrap();
    close(from);
}

pub fn within_a_thread(total: i64, ends: fn() -> [i32; 2]) {
    let [from, into] = ends();
    let mut left = total;
    for size in WRITES.into_iter().cycle() {
        // With what stays there is room for it.
        let size = size.min(left).min(30_001);
        if size == 0 {
            break;
        }
        assert_eq!(write(into, size), size);
        left -= size;
        // Some of it stays, and is taken out together with what comes next.
        let keep = if left == 0 { 0 } else { size / 3 };
        let mut unread = super::sys::unread(from);
        while unread > keep {
            unread -= read(from, (unread - keep).min(20_005));
        }
    }
    close(into);
    close(from);
}

pub fn between_processes(total: i64, ends: fn() -> [i32; 2]) {
    let [from, into] = ends();
    let child = sys::fork(|| {
        LINES.lock().unwrap().clear();
        close(from);
        write_all(into, total);
        print_lines();
    });
    close(into);
    read_all(from);
    sys::wait_for(child);
    close(from);
}

/// Both ends by one thread, as `epoll` says that they are ready.
pub fn without_blocking(total: i64, ends: fn() -> [i32; 2]) {
    let [from, into] = ends();
    let epoll = sys::must(libc::SYS_epoll_create1, [0; 6]);
    for (fd, events) in [(from, libc::EPOLLIN), (into, libc::EPOLLOUT)] {
        let flags = i64::from(libc::O_NONBLOCK);
        sys::must(libc::SYS_fcntl, [fd.into(), libc::F_SETFL.into(), flags, 0, 0, 0]);
        let event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        let event = &raw const event as i64;
        sys::must(libc::SYS_epoll_ctl, [epoll, libc::EPOLL_CTL_ADD.into(), fd.into(), event, 0, 0]);
    }
    let (mut left, mut open) = (total, true);
    let mut sizes = WRITES.into_iter().cycle();
    loop {
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 2];
        let count = sys::must(libc::SYS_epoll_wait, [epoll, ready.as_mut_ptr() as i64, 2, -1, 0, 0]);
        for event in &ready[..count as usize] {
            if event.u64 == into as u64 && open {
                // Until it is full.
                while left > 0 {
                    let wrote = write(into, sizes.next().unwrap().min(left));
                    if wrote == -i64::from(libc::EAGAIN) {
                        break;
                    }
                    left -= wrote;
                }
                if left == 0 {
                    close(into);
                    open = false;
                }
            } else if event.u64 == from as u64 {
                match read(from, 30_001) {
                    0 => {
                        close(epoll as i32);
                        return close(from);
                    }
                    got => assert!(got > 0, "{got}"),
                }
            }
        }
    }
}

/// From a file by sendfile and splice, on to a second pipe, and into a file.
fn spliced(total: i64) {
    let [from, into] = sys::pipe();
    let [from_second, into_second] = sys::pipe();
    let (source, target) = (file(total), file(0));
    let splice = |a: i32, b: i32, bytes: i64| {
        let moved = sys::must(libc::SYS_splice, [a.into(), 0, b.into(), 0, bytes, 0]);
        if a == from || a == from_second {
            say('r', inode(a), "splice", moved);
        }
        if b == into || b == into_second {
            say('w', inode(b), "splice", moved);
        }
        moved
    };
    let mut left = total;
    let mut turn = 0;
    while left > 0 {
        let size = WRITES[turn % WRITES.len()].min(left);
        turn += 1;
        let moved = if turn % 2 == 0 {
            splice(source, into, size)
        } else {
            let moved = sys::must(libc::SYS_sendfile, [into.into(), source.into(), 0, size, 0, 0]);
            say('w', inode(into), "sendfile", moved);
            moved
        };
        left -= moved;
        let mut there = moved;
        while there > 0 {
            let mut second = splice(from, into_second, there.min(20_001));
            there -= second;
            while second > 0 {
                second -= match turn % 3 {
                    0 => read(from_second, second),
                    _ => splice(from_second, target, second),
                };
            }
        }
    }
    [from, into, from_second, into_second, source, target].into_iter().for_each(close);
}

/// tee, vmsplice, readv and writev.
fn others() {
    let [from, into] = sys::pipe();
    let [from_second, into_second] = sys::pipe();
    let mut room = vec![0_u8; 6000];
    let vectors = [(room.as_mut_ptr() as i64, 1001_i64), (room.as_mut_ptr().wrapping_add(3000) as i64, 2002)];
    let by_vectors = |nr, fd: i32| sys::must(nr, [fd.into(), vectors.as_ptr() as i64, 2, 0, 0, 0]);
    say('w', inode(into), "write", by_vectors(libc::SYS_writev, into));
    let copied = sys::must(libc::SYS_tee, [from.into(), into_second.into(), 2000, 0, 0, 0]);
    assert!(copied > 0);
    say('p', inode(from), "tee", copied);
    say('w', inode(into_second), "tee", copied);
    say('r', inode(from), "read", by_vectors(libc::SYS_readv, from));
    assert_eq!(read(from_second, CAPACITY), copied);
    say('w', inode(into), "vmsplice", by_vectors(libc::SYS_vmsplice, into));
    say('r', inode(from), "vmsplice", by_vectors(libc::SYS_vmsplice, from));
    [from, into, from_second, into_second].into_iter().for_each(close);
}

/// A pipe with a name that is closed by all, with bytes left in it, and opened again: the same inode, another stream. The
/// two are told apart by the line between them.
fn named() {
    let folder = std::env::temp_dir();
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("kprobe-pipe-{}", sys::tid()));
    let name = CString::new(path.to_str().unwrap()).unwrap();
    let mode = i64::from(libc::S_IFIFO | 0o600);
    sys::must(libc::SYS_mknodat, [libc::AT_FDCWD.into(), name.as_ptr() as i64, mode, 0, 0, 0]);
    for round in 0..3 {
        let at = i64::from(libc::AT_FDCWD);
        let fd = sys::must(libc::SYS_openat, [at, name.as_ptr() as i64, libc::O_RDWR.into(), 0, 0, 0]) as i32;
        say('n', inode(fd), "new", 0);
        assert_eq!(write(fd, 11), 11);
        if round > 0 {
            assert_eq!(read(fd, 7), 7);
        }
        close(fd);
    }
    std::fs::remove_file(path).unwrap();
}

/// Many writers of one pipe, each with sizes of its own.
pub fn many_writers(writers: u64, writes: u64) {
    let [from, into] = sys::pipe();
    thread::scope(|scope| {
        for writer in 0..writers {
            scope.spawn(move || {
                for turn in 0..writes {
                    let size = 100 * (writer + 1) + turn;
                    assert_eq!(write(into, size as i64), size as i64);
                }
            });
        }
        let total =
            (0..writers).map(|writer| writes * 100 * (writer + 1) + writes * (writes - 1) / 2).sum::<u64>();
        let mut left = total as i64;
        while left > 0 {
            let mut room = [0_u8; 999];
            left -= sys::must(libc::SYS_read, [from.into(), room.as_mut_ptr() as i64, 999, 0, 0, 0]);
        }
    });
    print_lines();
}

/// Takes so many bytes, in pieces, from its standard input.
pub fn reads_input(total: u64) {
    println!("ready {} {}", inode(0), sys::tid());
    let mut left = total as i64;
    while left > 0 {
        left -= read(0, left.min(10));
    }
    print_lines();
}

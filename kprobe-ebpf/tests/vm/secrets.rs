//! A workload that brings a secret onto every path there is for bytes.

use std::{
    fs::{self, File, OpenOptions},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt as _,
        unix::{
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    process::Command,
    sync::{Mutex, mpsc},
    thread,
};

use crate::support::{
    child::{WORKLOAD, own_path},
    kernel::wait_until_in,
    workload::{block::disk, sys},
};

/// Eight bytes, so that no field of a record can have half of it.
pub const SECRET: &str = "S3cr3t-K";

/// What a futex has room for: the first half.
pub const FUTEX_VALUE: &[u8; 4] = b"S3cr";

/// All of it, or only the name of the process, which is recorded.
pub fn run(in_name: u64) {
    if in_name == 1 {
        fs::write("/proc/self/comm", SECRET).unwrap();
        return;
    }
    let text = SECRET.repeat(512);
    as_a_program(&text);
    in_files(&text);
    through_pipes(&text);
    through_unix_sockets(&text);
    through_the_network(&text);
    through_io_uring(&text);
    in_memory(&text);
    in_registers();
}

/// Arguments, environment, name of the program.
fn as_a_program(text: &str) {
    // The last part of the path would be the name of the process, which is recorded.
    let folder = format!("/tmp/{SECRET}-programs");
    fs::create_dir_all(&folder).unwrap();
    let program = format!("{folder}/program");
    let _ = fs::remove_file(&program);
    std::os::unix::fs::symlink(own_path(), &program).unwrap();
    let status = Command::new(&program)
        .arg0(text)
        .arg(text)
        .env("SECRET", text)
        .env(WORKLOAD, "secrets-of-exec")
        .status()
        .unwrap();
    assert!(status.success());
    fs::remove_dir_all(&folder).unwrap();
}

fn fd(of: &impl AsRawFd) -> i64 {
    of.as_raw_fd().into()
}

fn address(text: &str) -> i64 {
    text.as_ptr() as i64
}

/// Names and contents, by every call; on a disk, so that the device gets them too.
fn in_files(text: &str) {
    let folder = disk().join(SECRET);
    fs::create_dir_all(&folder).unwrap();
    let (old, new) = (folder.join(SECRET), folder.join(format!("{SECRET}-2")));
    fs::write(&old, text).unwrap();
    fs::rename(&old, &new).unwrap();
    assert_eq!(fs::read_to_string(&new).unwrap(), text);
    let file = OpenOptions::new().read(true).write(true).open(&new).unwrap();
    let len = text.len() as i64;
    let vectors = [(address(text), len)];
    let vectors = vectors.as_ptr() as i64;
    sys::must(libc::SYS_pwrite64, [fd(&file), address(text), len, 0, 0, 0]);
    sys::must(libc::SYS_writev, [fd(&file), vectors, 1, 0, 0, 0]);
    sys::must(libc::SYS_pwritev, [fd(&file), vectors, 1, 0, 0, 0]);
    sys::must(libc::SYS_pwritev2, [fd(&file), vectors, 1, 0, 0, 0]);
    let mut room = vec![0_u8; text.len()];
    let into = [(room.as_mut_ptr() as i64, len)];
    let into = into.as_ptr() as i64;
    sys::must(libc::SYS_pread64, [fd(&file), room.as_mut_ptr() as i64, len, 0, 0, 0]);
    sys::must(libc::SYS_preadv, [fd(&file), into, 1, 0, 0, 0]);
    sys::must(libc::SYS_preadv2, [fd(&file), into, 1, 0, 0, 0]);
    assert_eq!(room, text.as_bytes());
    // Write-back of memory that is mapped.
    let shared = i64::from(libc::MAP_SHARED);
    let at = sys::must(
        libc::SYS_mmap,
        [0, 4096, i64::from(libc::PROT_READ | libc::PROT_WRITE), shared, fd(&file), 0],
    );
    // SAFETY: mapped on the line above, and as long as the file.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), at as *mut u8, 4096) };
    sys::must(libc::SYS_msync, [at, 4096, libc::MS_SYNC.into(), 0, 0, 0]);
    sys::must(libc::SYS_munmap, [at, 4096, 0, 0, 0, 0]);
    file.sync_all().unwrap();
    // From file to file within the kernel.
    let copy = File::create(folder.join(format!("{SECRET}-3"))).unwrap();
    sys::must(libc::SYS_sendfile, [fd(&copy), fd(&file), 0, 1024, 0, 0]);
    sys::must(libc::SYS_copy_file_range, [fd(&file), 0, fd(&copy), 0, 1024, 0]);
    fs::remove_dir_all(&folder).unwrap();
}

fn through_pipes(text: &str) {
    let [read, write] = sys::pipe().map(i64::from);
    let [read_second, write_second] = sys::pipe().map(i64::from);
    let mut room = [0_u8; 1024];
    sys::must(libc::SYS_write, [write, address(text), 1024, 0, 0, 0]);
    sys::must(libc::SYS_tee, [read, write_second, 512, 0, 0, 0]);
    sys::must(libc::SYS_splice, [read, 0, write_second, 0, 512, 0]);
    let vectors = [(address(text), 1024_i64)];
    sys::must(libc::SYS_vmsplice, [write, vectors.as_ptr() as i64, 1, 0, 0, 0]);
    for from in [read, read_second] {
        sys::must(libc::SYS_read, [from, room.as_mut_ptr() as i64, 1024, 0, 0, 0]);
    }
}

/// `struct msghdr`, and after it what the `mmsg` calls want.
#[repr(C)]
struct Message {
    name: i64,
    name_len: i64,
    vectors: i64,
    count: i64,
    rest: [i64; 3],
    len: i64,
}

/// By every call for sockets: from one to the other.
fn exchange(text: &str, from: &impl AsRawFd, to: &impl AsRawFd) {
    let mut room = [0_u8; 1024];
    let vectors = [(address(text), 1024_i64)];
    let into = [(room.as_mut_ptr() as i64, 1024_i64)];
    let message = |vectors: i64| Message { name: 0, name_len: 0, vectors, count: 1, rest: [0; 3], len: 0 };
    let outgoing = message(vectors.as_ptr() as i64);
    let mut incoming = message(into.as_ptr() as i64);
    let receive = |message: &mut Message| {
        sys::must(libc::SYS_recvmsg, [fd(to), (&raw mut *message) as i64, 0, 0, 0, 0]);
    };
    sys::must(libc::SYS_sendto, [fd(from), address(text), 1024, 0, 0, 0]);
    let peek = i64::from(libc::MSG_PEEK);
    sys::must(libc::SYS_recvfrom, [fd(to), into[0].0, 1024, peek, 0, 0]);
    sys::must(libc::SYS_recvfrom, [fd(to), into[0].0, 1024, 0, 0, 0]);
    sys::must(libc::SYS_sendmsg, [fd(from), (&raw const outgoing) as i64, 0, 0, 0, 0]);
    receive(&mut incoming);
    sys::must(libc::SYS_sendmmsg, [fd(from), (&raw const outgoing) as i64, 1, 0, 0, 0]);
    sys::must(libc::SYS_recvmmsg, [fd(to), (&raw mut incoming) as i64, 1, 0, 0, 0]);
    sys::must(libc::SYS_write, [fd(from), address(text), 1024, 0, 0, 0]);
    sys::must(libc::SYS_read, [fd(to), into[0].0, 1024, 0, 0, 0]);
    assert!(text.as_bytes().starts_with(&room));
}

fn through_unix_sockets(text: &str) {
    let (here, there) = UnixStream::pair().unwrap();
    exchange(text, &here, &there);
    let (here, there) = UnixDatagram::pair().unwrap();
    exchange(text, &here, &there);
    // One that was seen being connected, at an address with the secret.
    let name = SocketAddr::from_abstract_name(SECRET).unwrap();
    let listener = UnixListener::bind_addr(&name).unwrap();
    let here = UnixStream::connect_addr(&name).unwrap();
    exchange(text, &here, &listener.accept().unwrap().0);
}

fn through_the_network(text: &str) {
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        exchange(text, &here, &listener.accept().unwrap().0);
        let sockets = [0; 2].map(|port| UdpSocket::bind((address, port)).unwrap());
        sockets[0].connect(sockets[1].local_addr().unwrap()).unwrap();
        exchange(text, &sockets[0], &sockets[1]);
    }
}

fn through_io_uring(text: &str) {
    use io_uring::{IoUring, opcode, types::Fd};
    let mut ring = IoUring::new(4).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let [read, write] = sys::pipe();
    let mut room = [0_u8; 1024];
    let (bytes, into) = (text.as_ptr(), room.as_mut_ptr());
    let entries = [
        opcode::Write::new(Fd(write), bytes, 1024).build(),
        opcode::Read::new(Fd(read), into, 1024).build(),
        opcode::Send::new(Fd(here.as_raw_fd()), bytes, 1024).build(),
        opcode::Recv::new(Fd(there.as_raw_fd()), into, 1024).build(),
    ];
    for entry in entries {
        // SAFETY: what it points to is alive until it is complete, which is before the next.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit_and_wait(1).unwrap();
        assert_eq!(ring.completion().next().unwrap().result(), 1024);
    }
}

/// A file without a name on any disk, locks that have to wait, and pages that are new.
fn in_memory(text: &str) {
    let memory = sys::must(libc::SYS_memfd_create, [c"S3cr3t-K".as_ptr() as i64, 0, 0, 0, 0, 0]);
    sys::must(libc::SYS_write, [memory, address(text), text.len() as i64, 0, 0, 0]);
    let lock = Mutex::new(text.to_owned());
    thread::scope(|scope| {
        let held = lock.lock().unwrap();
        let (sender, receiver) = mpsc::channel();
        let lock = &lock;
        scope.spawn(move || {
            sender.send(sys::tid()).unwrap();
            lock.lock().unwrap().push_str(SECRET);
        });
        wait_until_in(receiver.recv().unwrap(), libc::SYS_futex);
        drop(held);
    });
    // The value of a futex, in memory and in the call: of a wait that comes to an end by itself, and of one that is refused.
    let word = u32::from_le_bytes(*FUTEX_VALUE);
    let (at, value, soon) = ((&raw const word) as i64, i64::from(word), [0_i64, 1]);
    let wait = i64::from(libc::FUTEX_WAIT);
    let late = sys::call(libc::SYS_futex, [at, wait, value, soon.as_ptr() as i64, 0, 0]);
    assert_eq!(late, -i64::from(libc::ETIMEDOUT));
    let other = sys::call(libc::SYS_futex, [at, wait, value + 1, 0, 0, 0]);
    assert_eq!(other, -i64::from(libc::EAGAIN));
    let (second, requeue) = (0_u32, i64::from(libc::FUTEX_CMP_REQUEUE));
    sys::must(libc::SYS_futex, [at, requeue, 1, 1, (&raw const second) as i64, value]);
}

/// A value that looks like text.
fn in_registers() {
    let value = i64::from_le_bytes(SECRET.as_bytes().try_into().unwrap());
    sys::call(libc::SYS_prctl, [value, value, value, value, value, 0]);
}

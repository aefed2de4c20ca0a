//! The lines for people, as they look.

use kprobe_core::{
    abi::{self, Header, Kind},
    pipeline::{Ledger, ProbeRow, Sink},
};
use kprobe_sinks::stdout::{HumanSink, Times};

use crate::support::{Sample, at, batch, everything, idle, info, registry, syscall, user_space};

fn show(samples: &[Sample], set: impl Fn(HumanSink<&mut Vec<u8>>) -> HumanSink<&mut Vec<u8>>) -> String {
    let mut bytes = Vec::new();
    let mut sink = set(HumanSink::new(&mut bytes, &info(), &registry()).with_seeds(true));
    sink.write(&batch(samples)).expect("a Vec takes everything");
    sink.flush().expect("a Vec takes everything");
    assert_eq!(sink.row().delivered, samples.len() as u64);
    drop(sink);
    String::from_utf8(bytes).expect("lines are UTF-8")
}

#[track_caller]
fn check(actual: &str, expected: &str) {
    assert!(actual == expected.trim_start_matches('\n'), "expected:\n{expected}\nactual:\n{actual}");
}

#[test]
fn every_kind() {
    check(
        &show(&everything(), |sink| sink),
        r#"
    0.000000 ls:1234        -> make:70/77 (R, yielded) on cpu 1
    0.000000 ls:1234        -> make:70/77 (S, blocked) on cpu 1
    0.000000 ls:1234        -> make:70/77 (D, blocked, uninterruptible) on cpu 1
    0.000000 ls:1234        -> make:70/77 (T, stopped) on cpu 1
    0.000000 ls:1234        -> make:70/77 (t, traced) on cpu 1
    0.000000 ls:1234        -> make:70/77 (X, dead) on cpu 1
    0.000000 ls:1234        -> make:70/77 (Z, dead) on cpu 1
    0.000000 ls:1234        -> make:70/77 (P, parked) on cpu 1
    0.000000 ls:1234        -> make:70/77 (I, idle) on cpu 1
    0.000000 ls:1234        -> make:70/77 (?, unknown state) on cpu 1
    0.000000 1234           -> 70/77 (R, preempted) on cpu 1
    0.000000 swapper/1      -> 70/77 (R, idle) on cpu 1
    0.000001 ls:1234        [?] wakes 77 (last on cpu 3)
    0.000001 ls:1234        wakes 77 (last on cpu 3)
    0.000001 ls:1234        [softirq] wakes 77 (last on cpu 3)
    0.000001 ls:1234        [hardirq] wakes 77 (last on cpu 3)
    0.000001 ls:1234        [nmi] wakes 77 (last on cpu 3)
    0.000002 ls:1234        moves 77 from cpu 0 to cpu 3
    0.000009 sh:1234        fork -> sh:1300
    0.000009 sh:1234        new thread 1234/1301
    0.000010 ls:1234        exec ls, child of 1200, inode 131090 on 8:1
    0.000010 ls:1234        exec ls, child of 1200, called by thread 1240
    0.000011 ls:1234        exit 0
    0.000011 ls:1234        thread exit 2
    0.000011 ls:1234        exit killed by SIGKILL
    0.000011 ls:1234        exit killed by SIGSEGV (core dumped)
    0.000011 ls:1234        exit killed by signal 34
    0.000012 old:1234       renamed to worker \x1b
    0.000012 old:1234       renamed 1234/1250 to worker \x1b
    0.000019 ls:1234        getpid()                = 1234               250ns
    0.000019 ls:1234        read(3, 4096)           = 512               12.3us
    0.000019 ls:1234        openat(AT_FDCWD)        = 3                 12.3us
    0.000019 ls:1234        openat(AT_FDCWD)        = -1 ENOENT         12.3us
    0.000019 ls:1234        mmap(len 8192)          = 0x7f1234567000    12.3us
    0.000019 ls:1234        read(3, 1)              = ? ERESTARTSYS     12.3us
    0.000019 ls:1234        read(3, 1)              = -4000             12.3us
    0.000019 ls:1234        exit_group()            = ?
    0.000019 ls:1234        read[compat](5)         = 0                 12.3us
    0.000019 ls:1234        read[x32](5, 9)         = 9                 12.3us
    0.000019 ls:1234        syscall_9999()          = 0                 12.3us
    0.000019 ls:1234        syscall_?()             = 0x8000000000000000 12.3us
    0.000019 ls:1234        write(1, 18446744073709551615) = 0x7fffffffffffffff 12.3us
    0.000028 ls:1234        major fault (instruction) at 0x7f1234567000, 1.50ms, inode 99 on 8:1
    0.000028 ls:1234        major fault (read) at 0x7f1234567000, 1.50ms
    0.000028 ls:1234        major fault at 0x7f1234567000
    0.000028 ls:1234        minor fault (write) at 0x1000
    0.000028 ls:1234        minor fault (read by the kernel) at 0x1000 of another process, 1 of 100
    0.000028 ls:1234        reclaims on the machine for 2^1 pages: 32 freed, 1.50ms
    0.000028 ls:1234        reclaims in a cgroup for 2^1 pages: 32 freed, 1.50ms
    0.000028 ls:1234        reclaims in cgroup 77 for 2^1 pages: 32 freed, 1.50ms
    0.000028 ls:1234        compacts for 2^9 pages: success, 1.50ms
    0.000028 ls:1234        compacts all: result 99, 1.50ms
    0.000028 ls:1234        out of memory in cgroup 77, for 2^0 pages: kills 1300/1301 (4096 KiB anonymous, 1024 KiB of files, 0 KiB shared)
    0.000028 ls:1234        out of memory on the machine: kills 1300/1301
    0.000028 ls:1234        out of memory: kills 1300/1301
    0.000029 ls:1234        CAP_SYS_ADMIN granted
    0.000029 ls:1234        CAP_SYS_CHROOT in user namespace level 1 refused (EPERM), the kernel only wanted to know
    0.000029 ls:1234        CAP_SETUID granted
    0.000029 ls:1234        capability 63 refused (-4000)
    0.000030 ls:1234        write 4095 bytes -> pipe:[706693] 0..4095
    0.000030 ls:1234        sendfile 1 bytes -> pipe:[706693] 4095..4096, another thread did so meanwhile
    0.000030 wc:1234        tee 10 bytes <- pipe:[706693] 0..10, left in it
    0.000030 wc:1234        read 4096 bytes <- pipe:[706693] 0..4096, counted since it was first seen
    0.000032 ls:1234        sends 30 bytes, 192.0.2.1:40000 -> 192.0.2.2:53
    0.000032 ls:1234        sends 60000 bytes in datagrams of 1200, 192.0.2.1:40000 -> 192.0.2.2:53
    0.000032 ls:1234        sends 0 bytes, [::1]:40000 -> [::1]:53
    0.000032 ls:1234        sends 12 bytes, *:40000
    0.000032 wc:1234        receives 30 bytes, 192.0.2.1:40000 <- 192.0.2.2:53
    0.000032 wc:1234        receives 10 of 30 bytes, 192.0.2.1:40000 <- 192.0.2.2:53, left there
    0.000032 wc:1234        receives 60000 bytes in datagrams of 1200, [::1]:40000 <- [::1]:53
    0.000032 wc:1234        receives 30 bytes, *:40000
    0.000032 wc:1234        receives of 30 bytes, *:40000
    0.000033 ls:1234        began /usr/bin/ls
    0.000033 ls:1234        began /usr/bin/old (removed)
    0.000033 ls:1234        opened /etc/passwd as 3
    0.000033 ls:1234        opened / as 4
    0.000033 ls:1234        opened /etc/\x1b[31m"red"\x0a\xff\\ as 5
    0.000033 ls:1234        opened .../xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx as 6
    0.000033 ls:1234        opened /etc/#77 (removed) as 7
    0.000031 ls:1234        send 4095 bytes -> stream 12293 0..4095
    0.000031 ls:1234        send 1 bytes -> stream 12293 4095..4096, counted since it was first seen, another thread did so meanwhile
    0.000031 wc:1234        recv 10 bytes <- stream 12293 0..10, left in it
    0.000031 wc:1234        recv 4096 bytes <- stream 12293 0..4096
    0.000039 ls:1234        disk read 4096 bytes at 8:0+2048 (meta,split) for dd:70/77, queued 1.00us, device 4.00us
    0.000039 ls:1234        disk write 0 bytes at 8:0+2048 (sync,preflush) for dd:70/77, 5.00us
    0.000039 ls:1234        disk driver_out 4096 bytes at 8:0+2048, device 4.00us, EIO
    0.000039 ls:1234        disk other 4096 bytes at 8:0+2048, status 77
    0.000040 dd:1234        disk write 4096 bytes at 8:0+2056 for dd:70/77, merged: back
    0.000040 dd:1234        disk write 4096 bytes at 8:0+2056 for dd:70/77, merged: front
    0.000040 dd:1234        disk write 4096 bytes at 8:0+2056 for dd:70/77, merged: request
    0.000027 ls:1234        sends 1007 bytes, 7 to 1014 of 10.0.0.1:40000 > 10.0.0.2:443
    0.000027 ls:1234        receives 18446744073709551615 bytes, 0 to 18446744073709551615 of [101:101:101:101:101:101:101:101]:40000 > 10.0.0.2:443
    0.000027 ls:1234        sent again: bytes 7 to 99 of 10.0.0.1:40000 > 10.0.0.2:443, of 1234/1235
    0.000027 ls:1234        sent again: bytes 7 to 99 of [101:101:101:101:101:101:101:101]:40000 > 10.0.0.2:443, of nobody known
    0.000027 ls:1234        established -> fin_wait1 10.0.0.1:40000 > 10.0.0.2:443, of 1234/1235
    0.000027 ls:1234        listen -> unknown [101:101:101:101:101:101:101:101]:40000 > 10.0.0.2:443, of nobody known
    0.000027 ls:1234        close -> listen 10.0.0.1:40000, of nobody known
    0.000027 ls:1234        connected 10.0.0.1:40000 > 10.0.0.2:443 after 12.3us, of 1234/1235
    0.000027 ls:1234        not connected (ECONNREFUSED) 10.0.0.1:40000 > 10.0.0.2:443 after 12.3us, of 1234/1235
    0.000027 ls:1234        not connected 10.0.0.1:40000 > 10.0.0.2:443 after 12.3us, of 1234/1235
    0.000027 ls:1234        accepts 10.0.0.1:40000 > 10.0.0.2:443, queued for 31.0us
    0.000027 ls:1234        accepts 10.0.0.1:40000 > 10.0.0.2:443
    0.000024 ls:1234        waited 12.3us for futex 0x7f1234567000 (WAIT), woken by 1234/1240
    0.000024 ls:1234        waited 12.3us for futex 0x7f1234567000 (byte 8200 of inode 131090 on 8:1) (WAIT_BITSET), woken by 1234/1240
    0.000024 ls:1234        waited on 12.3us for futex 0x7f1234567000 (WAIT): ETIMEDOUT
    0.000024 ls:1234        waited 12.3us for 3 futexes (futex_waitv), woken by 1234/1240
    0.000024 ls:1234        waited 12.3us for futex 0x0 (operation 99): -4000
    0.000024 ls:1234        wakes 1 at futex 0x7f1234567000 (WAKE)
    0.000024 ls:1234        wakes 1 and requeues 2 at futex 0x7f1234567000 (CMP_REQUEUE)
    0.000024 ls:1234        wakes (futex_requeue): EAGAIN
    0.000024 ls:1234        wakes at futex 0x7f1234567000 (byte 8200 of inode 131090 on 8:1) (UNLOCK_PI)
    0.000025 ls:1234        waited 2.00ms for the kernel's mutex 0x0123456789abcdef
    0.000025 ls:1234        waited 2.00ms for the kernel's rwsem 0x0123456789abcdef to read: EINTR
    0.000025 ls:1234        [softirq] waited 2.00ms for the kernel's spinlock 0x0123456789abcdef
    0.000025 ls:1234        [?] waited 2.00ms for the kernel's rwlock 0x0123456789abcdef to write
    0.000050 ls:1234        waited 1.23ms for pipe:[706693] in read(3), woken by wc:1234/1240 in write(4)
    0.000050 ls:1234        waited 1.23ms for epoll 0x0123456789abcdef in epoll_wait(3), woken by wc:1234/1240 in write(4) for eventfd 0x0fedcba987654321
    0.000050 ls:1234        waited 1.23ms for socket:[706694] in read(3), woken by socket:[706694] [softirq]
    0.000050 ls:1234        waited 1.23ms for sleep in nanosleep(), woken by its time limit
    0.000050 ls:1234        waited 1.23ms for poll of 2 in poll(), woken by timer 0x0fedcba987654321 [softirq]
    0.000050 ls:1234        waited 1.23ms for file 131090 on 8:1 in pread64(3), woken by request at sector 2048 on 8:0 [softirq]
    0.000050 ls:1234        waited 1.23ms for futex 0x7f1234567000 in futex(), woken by wc:1234/1240 in futex()
    0.000050 ls:1234        waited 1.23ms for child 77 in wait4(), woken by wc:1234/1240, which ends
    0.000050 ls:1234        waited 1.23ms for poll of 2 in poll(), woken by wc:1234/1240 in write()
    0.000050 ls:1234        waited 1.23ms for ? in syscall_999(), woken by wc:1234/1240 for ?
    0.000050 ls:1234        waited 1.23ms for poll of 2 in poll(), woken by [hardirq]
    0.000050 ls:1234        waited 1.23ms for poll of 2 in poll(), woken by [?]
    0.000050 ls:1234        waited 1.23ms for fault, woken by what was not seen
    0.000051 ls:1234        adds 7 in epoll set 5 (0x0123456789abcdef): pipe:[706693]
    0.000051 ls:1234        changes 7 in epoll set 5 (0x0123456789abcdef): socket:[706693]
    0.000051 ls:1234        removes 7 in epoll set 5 (0x0123456789abcdef): call
    0.000051 ls:1234        epoll operation 9 7 in epoll set 5 (0x0123456789abcdef): timerfd 0x00000000000ac885
    0.000052 ls:1234        cgroup 4242 had to stop for 80.1ms on cpu 1
    0.000052 ls:1234        a cgroup had to stop for 80.1ms on cpu 1
    0.000049 ls:1234        interrupted by irq 27 for 150us
    0.000049 ls:1234        interrupted by local_timer for 150us
    0.000049 ls:1234        interrupted by vector 3 for 150us
    0.000050 ls:1234        interrupted by softirq net_rx for 151us
    0.000050 ls:1234        interrupted by softirq timer for 151us, 20.0us of it in interrupts
    0.000050 ls:1234        interrupted by softirq 15 for 151us
    0.000029                *** LOST 123 records of syscall on cpu 2 within 1.20ms ***
    0.000029                *** LOST 123 records of kind 0x0f09 on cpu 2 within 1.20ms ***
    0.000030                --- marker 42 ---
    0.000031                from here on 1 in 100 syscall events of at least 50.0us
    0.000031                from here on every syscall event
    0.000032 init:5/6       was there, child of 1
    0.000033                container 4242 is c0ffee
    0.000033                cgroup 4242 is c0ffee
    0.000034                syscall read                  1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034 1234           syscall                       1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034                sched.waking                  1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034                block.request 8:0             1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034                syscall cgroup 4242           1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034                0x7777 9                      1291 x  1.00us  50% <=   511ns  99% <=  4.10us  ▄█  ▁                                  ▁
    0.000034                paths are recorded below /etc
    0.000035                the wall clock was set, or the machine was suspended
    0.000089 app:1234       app.cache_miss line=4096 wait_duration_ns=4.10us comm=own container=true delta=-5 text=\x1b[31m"red"\x0a
"#,
    );
}

#[test]
fn in_colour() {
    let samples = [
        Sample::new(
            at(0, Kind::SYSCALL),
            &abi::Syscall { fd: 3, flags: 5, ..syscall(at(0, Kind::SYSCALL), 0, 1, -9) },
        )
        .comm(b"ls"),
        Sample::new(
            user_space(1, Kind::META_LOST),
            &abi::Lost { count: 9, kind: 0x301, ..abi::Lost::default() },
        ),
    ];
    check(
        &show(&samples, |sink| sink.with_colour(true)).replace('\u{1b}', "^"),
        r#"
^[2m    0.000000^[0m ^[36mls:1234^[0m        ^[1mread^[0m(3)                 ^[31m= -1 EBADF^[0m          ^[32m   1ns^[0m
^[2m    0.000001^[0m                ^[1m^[7m^[31m*** LOST 9 records of syscall on cpu 0 within 0ns ***^[0m
"#,
    );
}

/// Without its styles, a line in colour is the line without colour: also where columns are aligned.
#[test]
fn colour_takes_no_place() {
    let coloured = show(&everything(), |sink| sink.with_colour(true));
    let mut plain = String::new();
    let mut chars = coloured.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            let _ = chars.by_ref().find(|&char| char == 'm');
        } else {
            plain.push(char);
        }
    }
    assert_eq!(plain, show(&everything(), |sink| sink));
}

#[test]
fn times() {
    let sample = |us| Sample::new(at(us, Kind::META_MARKER), &abi::Marker { id: 1 }).comm(b"ls");
    let before = Sample::new(user_space(0, Kind::META_MARKER), &abi::Marker { id: 1 });
    let samples = [before, sample(5), sample(2), sample(1_234_572), sample(86_400_000_005)];
    check(
        &show(&samples, |sink| sink),
        r#"
                            --- marker 1 ---
    0.000000 ls:1234        --- marker 1 ---
   -0.000003 ls:1234        --- marker 1 ---
    1.234567 ls:1234        --- marker 1 ---
86400.000000 ls:1234        --- marker 1 ---
"#,
    );
    check(
        &show(&samples, |sink| sink.with_times(Times::Wall)),
        r#"
12:34:56.789012                --- marker 1 ---
12:34:56.789017 ls:1234        --- marker 1 ---
12:34:56.789014 ls:1234        --- marker 1 ---
12:34:58.023584 ls:1234        --- marker 1 ---
12:34:56.789017 ls:1234        --- marker 1 ---
"#,
    );
}

#[test]
fn names_of_threads() {
    let marker = abi::Marker { id: 1 };
    let thread = |tgid, tid, comm: &[u8]| {
        Sample::new(Header { tgid, tid, ..at(0, Kind::META_MARKER) }, &marker).comm(comm)
    };
    let samples = [
        thread(1234, 1234, b"ls"),
        thread(1234, 1240, b"Web Content"),
        thread(1234, 1234, b""),
        thread(4_194_303, 4_194_302, b"fifteen-letters"),
        thread(1234, 1234, b"ls"),
        Sample::new(idle(0, Kind::META_MARKER), &marker),
        thread(1, 1, b"\x1b]0;title\x07"),
        thread(2, 2, b"\x9b31m\xff"),
        thread(3, 3, "ü\u{202e}\u{9b}\\".as_bytes()),
    ];
    check(
        &show(&samples, |sink| sink),
        r#"
    0.000000 ls:1234        --- marker 1 ---
    0.000000 Web Content:1234/1240 --- marker 1 ---
    0.000000 1234                  --- marker 1 ---
    0.000000 fifteen-letters:4194303/4194302 --- marker 1 ---
    0.000000 ls:1234                  --- marker 1 ---
    0.000000 swapper/1                --- marker 1 ---
    0.000000 \x1b]0;title\x07:1       --- marker 1 ---
    0.000000 \x9b31m\xff:2            --- marker 1 ---
    0.000000 ü\u{202e}\u{9b}\\:3      --- marker 1 ---
"#,
    );
}

/// Whatever is in a record, no byte that steers a terminal comes out.
#[test]
fn a_terminal_is_safe() {
    let mut samples = everything();
    for sample in &mut samples {
        let hostile = Sample::new(at(0, Kind::META_MARKER), &0_u64)
            .comm(b"\x1b[2J\x07\r\n\x9b\x00")
            .other(b"\x1bc\x08");
        sample.context = hostile.context;
        sample.context.container = Some("\u{1b}[0m\u{9b}".into());
        // The text inside of a body, where there is one.
        if let Some(at) =
            sample.bytes.windows(2).position(|bytes| bytes == b"ls" || bytes == b"c0" || bytes == b"in")
        {
            sample.bytes[at..at + 2].copy_from_slice(b"\x1b\n");
        }
    }
    let text = show(&samples, |sink| sink);
    assert_eq!(text.lines().count(), samples.len());
    assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
}

#[test]
fn the_end_says_what_is_missing() {
    let end = |ledger: &Ledger, incomplete| {
        let mut bytes = Vec::new();
        HumanSink::new(&mut bytes, &info(), &registry())
            .finish(ledger, incomplete)
            .expect("a Vec takes everything");
        String::from_utf8(bytes).expect("lines are UTF-8")
    };
    assert_eq!(end(&Ledger::default(), None), "");
    let probe =
        ProbeRow { probe: "syscall".to_owned(), cpu: Some(0), submitted: 100, lost: 7, sampled_out: 0 };
    let mut ledger = Ledger::new(vec![probe], Vec::new(), Vec::new());
    (ledger.balance, ledger.uncounted) = (3, 42);
    check(
        &end(&ledger, Some("torn\u{1b} at byte 17")),
        "
*** LOST 7 of 100 records ***
*** UNCOUNTED 42 events that found no room for a sum ***
*** INCOMPLETE: torn\\x1b at byte 17 ***
*** 3 records are unaccounted for: this is a bug in kprobe ***
",
    );
}

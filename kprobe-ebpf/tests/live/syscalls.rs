//! System calls with known values.

use kprobe_core::event::{Arch, Syscall, Tgid};
use kprobe_ebpf::{Filter, Recorder, Syscalls, filter::SyscallSet};

use crate::support::{
    child::Workload,
    kernel::wait_until_in,
    recording::Recording,
    workload::calls::{BEGIN, CODE, DUPLICATE, FILE, PIPE_READ, PIPE_WRITE, SLEEP_NS, SOCKET_A, SOCKET_B},
};

crate::trials!(
    known_calls,
    a_call_that_never_returns,
    an_exec_returns_in_the_new_program,
    a_sleeper_that_is_killed,
    forks_return_twice,
    a_return_out_of_sight,
);

pub fn name(call: &Syscall) -> &'static str {
    call.nr.and_then(|nr| nr.name(Arch::native())).unwrap_or("?")
}

/// Name, descriptor, length, return value.
type Call = (&'static str, Option<i32>, Option<u64>, Option<i64>);

/// The calls of the workload `known-calls`, up to where it ends.
pub fn known(own_tgid: i64) -> Vec<Call> {
    const AT_FDCWD: i32 = -100;
    let errno = |errno: i32| Some(-i64::from(errno));
    vec![
        ("close", Some(BEGIN), None, errno(libc::EBADF)),
        ("openat", Some(AT_FDCWD), None, errno(libc::ENOENT)),
        ("write", Some(PIPE_WRITE), Some(100), Some(100)),
        ("read", Some(PIPE_READ), Some(64), Some(64)),
        ("read", Some(PIPE_READ), Some(4096), Some(36)),
        ("writev", Some(PIPE_WRITE), None, Some(30)),
        ("pwrite64", Some(FILE), Some(1000), Some(1000)),
        ("pread64", Some(FILE), Some(500), Some(500)),
        ("pread64", Some(FILE), Some(500), Some(100)),
        ("fsync", Some(FILE), None, Some(0)),
        ("sendto", Some(SOCKET_A), Some(77), Some(77)),
        ("recvfrom", Some(SOCKET_B), Some(1000), Some(77)),
        ("recvfrom", Some(SOCKET_B), Some(1000), errno(libc::EAGAIN)),
        ("dup3", Some(FILE), None, Some(DUPLICATE.into())),
        ("close", Some(DUPLICATE), None, Some(0)),
        ("close", Some(-1), None, errno(libc::EBADF)),
        ("write", Some(PIPE_READ), Some(1), errno(libc::EBADF)),
        ("getppid", None, None, Some(own_tgid)),
        ("nanosleep", None, None, Some(0)),
        ("kill", None, None, Some(0)),
        ("rt_sigreturn", None, None, Some(0)),
        ("?", None, None, errno(libc::ENOSYS)),
        ("close", Some(BEGIN - 1), None, errno(libc::EBADF)),
        ("exit_group", None, None, None),
    ]
}

fn recorded_by(builder: kprobe_ebpf::RecorderBuilder<impl Sized>) -> (Vec<Syscall>, i32) {
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("known-calls");
    let code = recording.run_to_any_end(&mut workload).code().unwrap();
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.books.syscalls.unpaired_exits, 0);
    assert_eq!(recorded.books.syscalls.fork_returns, 0);
    let calls = recorded.all::<Syscall>();
    let tgid = workload.tgid();
    assert!(calls.iter().all(|call| (call.origin.tgid.0, call.origin.tid.0) == (tgid, tgid)), "{calls:?}");
    (calls, code)
}

/// The calls from the one that marks the begin on.
pub fn from_begin(calls: Vec<Syscall>) -> Vec<Syscall> {
    calls.into_iter().skip_while(|call| !(name(call) == "close" && call.fd == Some(BEGIN))).collect()
}

fn known_calls() {
    let (calls, code) = recorded_by(Recorder::builder().probe(Syscalls::all()).filter(Filter::none()));
    assert_eq!(code, CODE as i32);
    let calls = from_begin(calls);
    let found: Vec<Call> = calls.iter().map(|call| (name(call), call.fd, call.requested, call.ret)).collect();
    assert_eq!(found, known(std::process::id().into()));
    // One after the other, none overlapping.
    for pair in calls.windows(2) {
        assert!(pair[0].origin.ktime_ns <= pair[1].enter_ns && pair[1].enter_ns <= pair[1].origin.ktime_ns);
    }
    let of = |wanted: &str| calls.iter().find(|call| name(call) == wanted).unwrap();
    let slept = of("nanosleep").duration_ns().unwrap();
    assert!((SLEEP_NS..SLEEP_NS * 500).contains(&slept), "{slept} ns");
    assert_eq!(of("exit_group").duration_ns(), None);
    let beyond = of("?").nr.unwrap();
    assert_eq!((beyond.nr, beyond.abi), (999, kprobe_core::event::SyscallAbi::Native));
}

fn a_call_that_never_returns() {
    let (calls, _) = recorded_by(Recorder::builder().probe(Syscalls::all()).filter(Filter::none()));
    let ends: Vec<_> = calls.iter().filter(|call| call.ret.is_none()).map(name).collect();
    assert_eq!(ends, ["exit_group"]);
    assert_eq!(name(calls.last().unwrap()), "exit_group");
}

fn an_exec_returns_in_the_new_program() {
    let builder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none());
    let (recorded, lines, _) = Recording::of_workload(builder, "children 3");
    let recorded = recorded.lossless();
    let calls = recorded.all::<Syscall>();
    for line in lines {
        let child: u32 = line.split(' ').next().unwrap().parse().unwrap();
        let of_child: Vec<_> = calls.iter().filter(|call| call.origin.tgid.0 == child).collect();
        let execs: Vec<_> = of_child.iter().filter(|call| name(call) == "execve").collect();
        assert_eq!(execs.iter().map(|call| call.ret).collect::<Vec<_>>(), [Some(0)]);
        assert_eq!(name(of_child.last().unwrap()), "exit_group");
    }
    // That of the workload itself is the first of all calls.
    assert_eq!((name(&calls[0]), calls[0].ret), ("execve", Some(0)));
    assert_eq!((recorded.books.syscalls.unpaired_exits, recorded.books.syscalls.fork_returns), (0, 3));
}

/// The kernel shows the return of a call that a deadly signal ends, before the thread dies of it.
fn a_sleeper_that_is_killed() {
    const ERESTART_RESTARTBLOCK: i64 = 516;
    let builder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none());
    let (recorded, lines, _) = Recording::of_workload(builder, "killed-sleeper");
    let recorded = recorded.lossless();
    let (sleeper, status) = lines[0].split_once(' ').unwrap();
    assert_eq!(status, libc::SIGKILL.to_string());
    let sleeper: u32 = sleeper.parse().unwrap();
    let calls = recorded.all::<Syscall>();
    let last = calls.iter().rfind(|call| call.origin.tgid.0 == sleeper).unwrap();
    assert_eq!((name(last), last.ret), ("nanosleep", Some(-ERESTART_RESTARTBLOCK)));
    let sleeps = calls.iter().filter(|call| name(call) == "nanosleep").count();
    assert_eq!((sleeps, recorded.books.syscalls.unpaired_exits), (1, 0));
}

fn forks_return_twice() {
    let builder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none());
    let (recorded, _, tgid) = Recording::of_workload(builder, "forks");
    let recorded = recorded.lossless();
    let forks = ["fork", "vfork", "clone", "clone3"];
    let calls = recorded.all::<Syscall>();
    let in_parent = calls.iter().filter(|call| forks.contains(&name(call))).inspect(|call| {
        assert!(call.origin.tgid.0 == tgid && call.ret.is_some_and(|child| child > 0), "{call:?}");
    });
    assert_eq!(in_parent.count(), 50);
    assert_eq!((recorded.books.syscalls.unpaired_exits, recorded.books.syscalls.fork_returns), (0, 50));
}

/// A process is removed while it is in a call, and added again while it is in the next one of the same number: the entry
/// of the first is not that of the second.
fn a_return_out_of_sight() {
    let mut gate = Workload::start("gate 1 0");
    assert_eq!(gate.line(), "ready");
    let gate_is = Tgid(gate.tgid());
    let reads = Syscalls::of(SyscallSet::named(["read"]).unwrap());
    let recording = Recording::start(Recorder::builder().probe(reads).filter(Filter::none()));
    // It is in its first read when it is added, in its second when it is removed, in its third when it is added again.
    for round in 0..3 {
        wait_until_in(gate_is.0, libc::SYS_read);
        match round {
            1 => recording.recorder.remove_process(gate_is).unwrap(),
            _ => recording.recorder.add_process(gate_is).unwrap(),
        }
        gate.go();
        assert_eq!(gate.line(), "done");
    }
    wait_until_in(gate_is.0, libc::SYS_read);
    gate.go();
    assert_eq!(gate.line(), "done");
    let recorded = recording.finish().lossless();
    let seen = recorded.all::<Syscall>();
    // The fourth, seen from its entry to its return.
    let [fourth] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((name(fourth), fourth.ret), ("read", Some(1)));
    assert_eq!(recorded.books.syscalls.unpaired_exits, 2);
}

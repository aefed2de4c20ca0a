//! What changes under a recorder, or is not as it should be: CPUs, pids, cgroups, type information.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
};

use kprobe_core::{
    event::{
        ClockChange, Event, ProcessExec, ProcessExit, ProcessFork, Syscall, Tgid, WaitBlocked, WaitClass,
    },
    pipeline::{BatchBuf, Clocks, Source, Stage},
    process::ProcessTable,
};
use kprobe_ebpf::{
    Block, Filter, Outcome, Pipes, Process, Recorder, Security, Syscalls, Wait, filter::SyscallSet, host,
};
use rustix::time::{ClockId, clock_gettime, clock_settime};

use super::system::{all, every_family};
use crate::support::{
    child::{Workload, workload},
    recording::Recording,
    workload::sys,
};

crate::trials!(
    a_cpu_that_goes_and_comes_back,
    pids_that_are_used_again,
    a_wall_clock_that_is_set,
    a_machine_that_is_suspended,
    ten_thousand_cgroups,
    type_information_without_a_struct,
    type_information_without_a_field,
    type_information_that_one_program_needs
);

fn set_online(cpu: usize, is_online: bool) {
    let value = if is_online { "1" } else { "0" };
    fs::write(format!("/sys/devices/system/cpu/cpu{cpu}/online"), value).unwrap();
}

fn a_cpu_that_goes_and_comes_back() {
    const CALLS: u64 = 2000;
    let builder = Recorder::builder()
        .require(Syscalls::of(SyscallSet::named(["getppid"]).unwrap()))
        .require(Process::default())
        .filter(Filter::all())
        .ring_bytes(16 << 20);
    let mut recording = Recording::start(builder);
    let mut calls = 0;
    let mut run = |recording: &mut Recording<_>| {
        calls += 4 * CALLS;
        recording.run(&mut Workload::start(&format!("getppid {CALLS} 4")));
    };
    for is_online in [false, true, false, true] {
        set_online(1, is_online);
        run(&mut recording);
    }
    let recorded = recording.finish().lossless();
    let getppids = recorded.all::<Syscall>();
    assert_eq!(getppids.len() as u64, calls);
    // The second and the last quarter had both CPUs.
    let quarters = getppids.chunks(4 * CALLS as usize);
    let cpus: Vec<_> = quarters
        .map(|calls| calls.iter().filter_map(|call| call.origin.cpu).collect::<BTreeSet<_>>())
        .collect();
    let (one, both) = (BTreeSet::from([0]), BTreeSet::from([0, 1]));
    assert_eq!(cpus, [one.clone(), both.clone(), one, both]);

    // Whoever begins while a CPU is away gets it when it comes: its ring is there from the start.
    set_online(1, false);
    let mut recording = Recording::start(every_family().ring_bytes(32 << 20));
    set_online(1, true);
    let mut workload = Workload::start("busy-threads 2");
    recording.poll_until(|events| events.iter().any(|event| event.origin().cpu == Some(1)));
    workload.close_input();
    workload.child.kill().unwrap();
    recording.run_to_any_end(&mut workload);
    recording.finish();
}

/// The workload: children that all have the same pid, one after the other, each with a name of its own.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn same_pids(count: u64) {
    let mut pid = sys::fork(|| ());
    sys::wait_for(pid);
    let mut made = 0;
    while made < count {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let name = CString::new(format!("life-{made}")).unwrap();
        let child = sys::fork(|| {
            sys::must(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.as_ptr() as i64, 0, 0, 0, 0]);
            sys::must(libc::SYS_getppid, [0; 6]);
        });
        sys::wait_for(child);
        // Somebody else may have been faster.
        if child == pid {
            made += 1;
        } else {
            pid = child;
            made = 0;
            println!("again");
        }
        // A process is told from another one of that pid by its start, in hundredths of a second.
        sys::nanosleep(12_000_000);
    }
    println!("{pid}");
}

/// The stream says that the clocks have changed, between what came before and what comes after: once.
fn across(change: impl FnOnce()) -> ClockChange {
    let probe = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
    let builder = Recorder::builder().require(probe).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("gate 100 0");
    assert_eq!(workload.line(), "ready");
    let calls = |recording: &mut Recording<_>, workload: &mut Workload, count: usize| {
        workload.go();
        assert_eq!(workload.line(), "done");
        recording.poll_until(|events| {
            events.iter().filter(|event| matches!(event, Event::Syscall(_))).count() == count
        });
    };
    calls(&mut recording, &mut workload, 100);
    let before = recording.recorder.info().clocks;
    change();
    let after = host::clocks();
    calls(&mut recording, &mut workload, 200);
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let changes = recorded.all::<ClockChange>();
    let [change] = changes[..] else { panic!("{changes:?}") };
    let calls: Vec<_> = recorded.all::<Syscall>().iter().map(|call| call.origin.ktime_ns).collect();
    assert!((calls[99]..calls[100]).contains(&change.origin.ktime_ns), "{change:?} {calls:?}");
    // What the machine's own clock said, within what a slow machine needs between two readings.
    let (told, own) = (Clocks::from(&change), after);
    assert!(told.wall_ns(own.monotonic_ns).abs_diff(own.realtime_ns) < 100_000_000, "{told:?} {own:?}");
    assert!(before.wall_ns(own.monotonic_ns).abs_diff(own.realtime_ns) > 1_000_000_000, "{before:?} {own:?}");
    change
}

/// For how long in all.
fn suspended(clocks: &Clocks) -> i64 {
    clocks.boottime_ns.wrapping_sub(clocks.monotonic_ns).cast_signed()
}

fn a_wall_clock_that_is_set() {
    let by = |seconds: i64| {
        let mut now = clock_gettime(ClockId::Realtime);
        now.tv_sec += seconds;
        clock_settime(ClockId::Realtime, now).unwrap();
    };
    let began = host::clocks();
    let change = across(|| by(3600));
    let slept = suspended(&Clocks::from(&change)) - suspended(&began);
    assert!(slept.abs() < 1_000_000, "{slept}");
    across(|| by(-3600));
}

/// Until its alarm wakes it two seconds later.
fn a_machine_that_is_suspended() {
    let began = host::clocks();
    let change = across(|| {
        // The alarm has no parts of a second, and threads are frozen first, which takes as long as it takes.
        fs::write("/sys/class/rtc/rtc0/wakealarm", "+4").unwrap();
        fs::write("/sys/power/state", "mem").unwrap();
    });
    let slept = suspended(&Clocks::from(&change)) - suspended(&began);
    assert!(slept > 1_000_000_000, "{slept}");
}

fn pids_that_are_used_again() {
    const COUNT: usize = 40;
    let builder =
        Recorder::builder().require(Process::default()).require(Syscalls::all()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut table = ProcessTable::new(recording.recorder.info().boot);
    let mut workload = recording.spawn(&format!("same-pids {COUNT}"));
    let (mut buf, mut exits, mut end) = (BatchBuf::default(), Vec::new(), false);
    while !end {
        if workload.child.try_wait().unwrap().is_some() {
            recording.recorder.stop();
        }
        end = recording.recorder.poll(&mut buf, Some(std::time::Duration::from_millis(20))).unwrap().end;
        let batch = table.apply(buf.take());
        for one in batch.enriched().map(Result::unwrap) {
            if let Some(Event::ProcessExit(exit)) = Event::decode(one.record).unwrap() {
                exits.push((exit, one.context.clone()));
            }
        }
        recording.take(&batch);
    }
    let pid: u32 = workload.lines().last().unwrap().parse().unwrap();
    let recorded = recording.finish().lossless();
    let lives: Vec<(ProcessExit, _)> =
        exits.into_iter().filter(|(exit, _)| exit.origin.tgid.0 == pid).rev().take(COUNT).collect();
    let forks = recorded.all::<ProcessFork>();
    for (number, (exit, context)) in lives.iter().rev().enumerate() {
        assert_eq!(context.comm.to_text(), format!("life-{number}"));
        assert_eq!(context.parent, Some(Tgid(workload.tgid())));
        let start_ns = forks.iter().filter(|fork| fork.child_tgid.0 == pid).map(|fork| fork.child_start_ns);
        assert_eq!(start_ns.filter(|start_ns| *start_ns == exit.start_ns).count(), 1, "{exit:?}");
    }
    let keys: BTreeSet<_> = lives.iter().map(|(_, context)| context.process.unwrap().start_ns).collect();
    assert_eq!(keys.len(), COUNT);
}

/// In a cgroup, and then as the program that it is to be.
fn start_in(cgroup: &Path) -> Workload {
    let procs = cgroup.join("cgroup.procs");
    let mut command = workload("getppid 10 1");
    // SAFETY: it opens, writes and closes a file.
    unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
    Workload::new(command.spawn().unwrap())
}

fn ten_thousand_cgroups() {
    const COUNT: usize = 10_000;
    const EACH: usize = 500;
    let top = Path::new("/sys/fs/cgroup/kprobe-many");
    fs::create_dir(top).unwrap();
    let paths: Vec<_> = (0..COUNT).map(|number| top.join(format!("some-{number}"))).collect();
    paths.iter().for_each(|path| fs::create_dir(path).unwrap());
    let used: Vec<_> = paths.iter().step_by(EACH).collect();
    let id = |path: &Path| fs::metadata(path).unwrap().ino();
    let builders = [
        // One of them with all that is below, and each of them by itself.
        Filter::cgroup(top).unwrap(),
        paths.iter().map(|path| Filter::cgroup(path).unwrap()).reduce(Filter::or).unwrap(),
    ];
    for filter in builders {
        let builder = Recorder::builder()
            .require(Process::default())
            .require(Syscalls::of(SyscallSet::named(["getppid"]).unwrap()))
            .filter(filter);
        let mut recording = Recording::start(builder);
        let mut elsewhere = Workload::start("getppid 10 1");
        recording.run(&mut elsewhere);
        for path in &used {
            recording.run(&mut start_in(path));
        }
        let recorded = recording.finish().lossless();
        let mut by_cgroup: Vec<(u64, usize)> = used.iter().map(|path| (id(path), 0)).collect();
        for call in recorded.all::<Syscall>() {
            let row = by_cgroup.iter_mut().find(|(id, _)| *id == call.origin.cgroup_id);
            row.unwrap_or_else(|| panic!("{call:?}")).1 += 1;
        }
        assert!(by_cgroup.iter().all(|(_, calls)| *calls == 10), "{by_cgroup:?}");
        let named = recorded.events.iter().filter_map(|event| match event {
            Event::CgroupNamed(named) => Some(named.origin.cgroup_id),
            _ => None,
        });
        let named: BTreeSet<_> = named.collect();
        assert!(used.iter().all(|path| named.contains(&id(path))), "{named:?}");
        assert_eq!(recorded.all::<ProcessExec>().len(), used.len());
    }
    for path in &paths {
        // A process that has ended leaves it a moment later.
        crate::support::kernel::Deadline::wait_for("an empty cgroup", || fs::remove_dir(path).is_ok());
    }
    fs::remove_dir(top).unwrap();
}

/// The kernel's type information, while it lives with one name in it changed.
struct Doctored;

impl Doctored {
    const KERNEL: &str = "/sys/kernel/btf/vmlinux";

    fn new(name: &str) -> Self {
        let mut btf = fs::read(Self::KERNEL).unwrap();
        let whole: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
        let at = btf.windows(whole.len()).position(|bytes| bytes == whole).unwrap();
        btf[at + name.len()] = b'#';
        fs::write("/tmp/vmlinux", btf).unwrap();
        let (from, to) = (c"/tmp/vmlinux", c"/sys/kernel/btf/vmlinux");
        let none = std::ptr::null();
        // SAFETY: the strings are alive.
        let done = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        Self
    }
}

impl Drop for Doctored {
    fn drop(&mut self) {
        // SAFETY: the string is alive.
        unsafe { libc::umount(c"/sys/kernel/btf/vmlinux".as_ptr()) };
    }
}

/// Pipes are off, and the report says why; the others go on.
fn type_information_without_a_struct() {
    let doctored = Doctored::new("pipe_inode_info");
    let builder =
        Recorder::builder().probe(Pipes::default()).require(Syscalls::all()).require(Security::default());
    let recorder = builder.filter(Filter::none()).attach().unwrap();
    for probe in &recorder.report().probes {
        assert_eq!(probe.rung.is_none(), probe.probe.starts_with("pipe."), "{}", probe.probe);
        let refused = probe.ladder.iter().filter_map(|rung| match &rung.outcome {
            Outcome::Refused(reason) => Some(reason),
            _ => None,
        });
        if probe.rung.is_none() {
            let reasons: Vec<_> = refused.collect();
            assert!(reasons.iter().all(|reason| reason.contains("pipe_inode_info")), "{reasons:?}");
        }
    }
    let mut recording = Recording::of(recorder, |_| true);
    let mut workload = recording.spawn("getppid 100 1");
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let getppid = |call: &&Syscall| call.nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid);
    assert_eq!(recorded.all::<Syscall>().iter().filter(getppid).count(), 100);
    // Required, it is an error that says the same.
    let builder = Recorder::builder().require(Pipes::default()).filter(Filter::none());
    let error = builder.attach().unwrap_err().to_string();
    assert!(error.contains("pipe_inode_info"), "{error}");
    drop(doctored);
    assert!(host::kernel_release().is_ok());
}

/// What only some of a rung's programs need, which it can do without, keeps nothing else off.
fn type_information_that_one_program_needs() {
    let doctored = Doctored::new("__sector");
    let recorder = Recorder::builder().require(Wait::default()).filter(Filter::none()).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| true);
    let mut workload = recording.spawn("naps 20");
    recording.run(&mut workload);
    let waits = recording.finish().lossless().all::<WaitBlocked>();
    let of_time = |wait: &&WaitBlocked| wait.waker.is_some_and(|waker| waker.timed_out);
    assert!(waits.iter().filter(of_time).count() >= 20, "{waits:#?}");
    // But a request needs it.
    let error = Recorder::builder()
        .require(Block::default())
        .filter(Filter::none())
        .attach()
        .unwrap_err()
        .to_string();
    assert!(error.contains("__sector"), "{error}");
    drop(doctored);

    // Whose timer it is nobody can tell: then nothing is said of it, and the report says why.
    let doctored = Doctored::new("hrtimer_sleeper");
    let recorder = Recorder::builder().require(Wait::default()).filter(Filter::none()).attach().unwrap();
    let notes = recorder.report().notes.join("\n");
    assert!(notes.contains("wait.blocked does without hrtimer_expire_entry"), "{notes}");
    assert!(notes.contains("hrtimer_sleeper"), "{notes}");
    let mut recording = Recording::of(recorder, |_| true);
    let mut workload = recording.spawn("naps 20");
    recording.run(&mut workload);
    let waits = recording.finish().lossless().all::<WaitBlocked>();
    let of_sleep: Vec<_> = waits.iter().filter(|wait| wait.key.class == WaitClass::SLEEP).collect();
    assert!(of_sleep.len() >= 20, "{waits:#?}");
    for wait in of_sleep {
        let Some(waker) = wait.waker else { panic!("{wait:?}") };
        assert!(waker.key.is_none() && !waker.timed_out, "{wait:?}");
    }
    drop(doctored);
}

/// An exec without its executable's inode is still an exec.
fn type_information_without_a_field() {
    let doctored = Doctored::new("exe_file");
    let mut recording = Recording::start(all());
    let notes = recording.recorder.report().notes.join("\n");
    assert!(notes.contains("process does not tell which file is executed"), "{notes}");
    let mut workload = Workload::start("getppid 1 1");
    recording.run(&mut workload);
    let recorded = recording.finish();
    let execs = recorded.all::<ProcessExec>();
    let exec = execs.iter().find(|exec| exec.origin.tgid.0 == workload.tgid()).unwrap();
    assert_eq!(exec.exe, None);
    drop(doctored);
}

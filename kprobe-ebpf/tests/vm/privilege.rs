//! I9: the documented capabilities and no more.

use std::ffi::CStr;

use caps::{CapSet, Capability};
use kprobe_core::{abi::Kind, event::Syscall};

use kprobe_ebpf::{Filter, Recorder, Syscalls, host};

use super::system::every_family;
use crate::support::{child::Workload, recording::Recording};

crate::trials!(two_capabilities_are_enough, a_user_who_may_not_read_trace_events);

/// Those that recording needs, as documented.
fn needed() -> caps::CapsHashSet {
    // Before 5.11 maps are locked memory, whose limit has to be raised.
    let counts_locked = !host::kernel_release().unwrap().at_least(5, 11);
    let more = counts_locked.then_some(Capability::CAP_SYS_RESOURCE);
    [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().chain(more).collect()
}

pub fn give_up_all_but(kept: &caps::CapsHashSet) {
    for capability in caps::all() {
        // Names that this kernel does not know cannot be dropped.
        if !kept.contains(&capability) {
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    caps::clear(None, CapSet::Ambient).unwrap();
    caps::clear(None, CapSet::Inheritable).unwrap();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, kept).unwrap();
    }
    rustix::thread::set_no_new_privs(true).unwrap();
    assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), *kept);
}

/// The workload: gives up everything but these capabilities, for good, and records the machine.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn record() {
    give_up_all_but(&needed());

    // What is required is attached.
    let recorder = every_family().ring_bytes(64 << 20).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| true);
    let mut workload = Workload::start("getppid 1000 1");
    recording.run(&mut workload);
    let recorded = recording.finish();
    let calls = recorded.all::<Syscall>();
    let own = calls.iter().filter(|call| call.origin.tgid.0 == workload.tgid());
    let getppids = own.filter(|call| call.nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid)).count();
    let kinds = [Kind::SCHED_SWITCH, Kind::PROCESS_EXEC].map(|kind| recorded.books.received(kind) > 0);
    println!("{getppids} {kinds:?}");
}

fn two_capabilities_are_enough() {
    let mut workload = Workload::start("record-with-two-capabilities");
    assert_eq!(workload.lines(), ["1000 [true, true]"]);
    assert!(workload.wait().success());
}

/// Of the user and the group called nobody.
const NOBODY: u32 = 65_534;

/// The workload: another user, with the two capabilities, attaches as it can, and without the two best of old kernels.
/// It writes the rung, whether there is a note, and whether the memory of task storage is known.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn attach_as_nobody() {
    let kept = [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().collect();
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }, 0);
    // SAFETY: an empty list.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: a number.
    assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
    // SAFETY: a number.
    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
    // As it is after an exec with the capabilities in the ambient set, which is how services get them.
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    for set in [CapSet::Permitted, CapSet::Effective] {
        caps::set(None, set, &kept).unwrap();
    }
    for forbidden in [&[][..], &["tp_btf", "raw_tp"]] {
        let builder = Recorder::builder().require(Syscalls::all()).filter(Filter::none());
        let builder = forbidden.iter().fold(builder, |builder, rung| builder.forbid_rung(*rung));
        let recorder = builder.attach().unwrap();
        let report = recorder.report();
        let is_said = report.notes.iter().any(|note| note.starts_with("syscall at raw tracepoints, "));
        let tasks = report.memory().maps.iter().find(|map| map.map == "TASKS").unwrap();
        let is_stored = tasks.per_thread_bytes.is_some();
        println!("{} {is_said} {is_stored}", report.probes[0].rung.as_deref().unwrap());
    }
}

fn a_user_who_may_not_read_trace_events() {
    let may_skip = host::kernel_release().unwrap().at_least(7, 0);
    let lines = || {
        let mut workload = Workload::start("attach-as-nobody");
        let lines = workload.lines();
        assert!(workload.wait().success(), "{lines:?}");
        lines
    };
    // As it is after a boot, and as the note tells to do it.
    let remount = |options: &CStr| {
        let (none, at) = (c"none".as_ptr(), c"/sys/kernel/tracing".as_ptr());
        // SAFETY: the strings are alive.
        let result = unsafe { libc::mount(none, at, none, libc::MS_REMOUNT, options.as_ptr().cast()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    };
    remount(c"gid=0,mode=0700");
    assert_eq!(lines(), [format!("tp_btf {may_skip} true"), format!("raw_tp+hash {may_skip} false")]);
    remount(c"gid=65534,mode=0750");
    std::fs::write("/proc/sys/kernel/perf_event_paranoid", "2").unwrap();
    let best = if may_skip { "tracepoint" } else { "tp_btf" };
    assert_eq!(lines(), [format!("{best} false true"), "tracepoint false true".to_owned()]);
    remount(c"gid=0,mode=0700");
}

//! I9: the documented capabilities and no more.

use caps::{CapSet, Capability};
use kprobe_core::{abi::Kind, event::Syscall};

use super::system::all;
use crate::support::{child::Workload, recording::Recording};

crate::trials!(two_capabilities_are_enough);

/// The workload: gives up everything but two capabilities, for good, and records the machine.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn record() {
    let kept: caps::CapsHashSet = [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().collect();
    for capability in caps::all() {
        // Names that this kernel does not know cannot be dropped.
        if !kept.contains(&capability) {
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    caps::clear(None, CapSet::Ambient).unwrap();
    caps::clear(None, CapSet::Inheritable).unwrap();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).unwrap();
    }
    rustix::thread::set_no_new_privs(true).unwrap();
    assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), kept);

    let mut recording = Recording::start(all());
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

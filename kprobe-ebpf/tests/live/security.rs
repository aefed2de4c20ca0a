//! Checks of capabilities.

use kprobe_core::event::SecurityCapability;
use kprobe_ebpf::{Filter, Recorder, Security};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{record, rungs},
};

crate::trials!(known_checks, every_rung_of_checks);

/// Those of `CAP_SYS_CHROOT`: results, and how much deeper than the first the user namespace was.
fn of_chroot(recorded: &Recorded, tgid: u32) -> Vec<(i32, u32)> {
    let checks = recorded.all::<SecurityCapability>();
    let checks: Vec<_> = checks.iter().filter(|check| check.name() == Some("CAP_SYS_CHROOT")).collect();
    assert!(checks.iter().all(|check| check.origin.tgid.0 == tgid), "{checks:?}");
    assert!(checks.iter().all(|check| check.is_granted() == (check.result == 0)));
    let first = checks.first().map_or(0, |check| check.user_ns_level);
    checks.iter().map(|check| (check.result, check.user_ns_level - first)).collect()
}

fn expected(lines: &[String]) -> Vec<(i32, u32)> {
    let own = if lines == ["1"] { &[(0, 1)][..] } else { &[] };
    [&[(0, 0); 3], &[(-libc::EPERM, 0); 3], own].concat()
}

fn known_checks() {
    let builder = Recorder::builder().probe(Security::default()).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, "capabilities");
    let recorded = recorded.lossless();
    assert_eq!(of_chroot(&recorded, tgid), expected(&lines));
}

fn every_rung_of_checks() {
    let rungs = rungs(Security::default());
    assert_eq!(rungs.len(), 5, "{rungs:?}");
    let mut whole = Vec::new();
    for rung in &rungs {
        let Some((recorded, lines, tgid)) = record(Security::default(), &rungs, rung, "capabilities") else {
            continue;
        };
        assert_eq!(of_chroot(&recorded, tgid), expected(&lines), "{rung}");
        // What the tracepoint does not pass.
        let is_function = rung == "fentry" || rung == "kprobe";
        let checks = recorded.all::<SecurityCapability>();
        for check in checks {
            assert_eq!(check.purpose.is_some(), is_function, "{rung}");
            let in_setid = check.purpose.is_some_and(|purpose| purpose.in_setid);
            assert!(!in_setid || matches!(check.name(), Some("CAP_SETUID" | "CAP_SETGID")), "{check:?}");
        }
        whole.push(rung);
    }
    assert!(whole.len() >= 2, "{whole:?}");
}

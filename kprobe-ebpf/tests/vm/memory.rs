//! What takes memory from the whole machine, or kills.

use std::{fs, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use kprobe_core::event::{MemoryCompaction, MemoryOomKill, MemoryReclaim, MemoryScope};
use kprobe_ebpf::{Filter, Memory, Recorder, host};

use crate::support::{
    memcg::MemoryCgroup,
    recording::Recording,
    rungs::{record, record_to, rungs},
};

crate::trials!(
    every_rung_of_kills_in_a_cgroup,
    a_kill_that_was_asked_for,
    compaction_that_was_asked_for,
    huge_pages_are_made_room_for
);

const LIMIT: u64 = 24 << 20;

fn every_rung_of_kills_in_a_cgroup() {
    let own = std::process::id();
    let rungs = rungs(Memory::default());
    let killed = ExitStatus::from_raw(libc::SIGKILL);
    let mut whole = 0;
    for rung in ["fentry", "kprobe", "tp_btf", "raw_tp"] {
        let cgroup = MemoryCgroup::new(LIMIT);
        let recorded = record_to(killed, Memory::default(), &rungs, rung, &format!("hog {own} 64"));
        let Some((recorded, lines, tgid)) = recorded else { continue };
        whole += 1;
        assert_eq!(lines, ["hogging"]);
        assert_eq!(cgroup.number("memory.events", "oom_kill"), 1);
        let kills = recorded.all::<MemoryOomKill>();
        let [kill] = kills[..] else { panic!("{rung}: {kills:?}") };
        assert_eq!((kill.victim_tgid.0, kill.victim_tid.0, kill.origin.tgid.0), (tgid, tgid, tgid), "{rung}");
        assert_eq!(kill.score_adj, 0);
        let sizes = kill.sizes.unwrap();
        // The numbers leave out what each CPU has not added yet, and have what it took before it came to the cgroup.
        assert!(sizes.total_vm_bytes >= 64 << 20, "{rung} {sizes:?}");
        assert!((LIMIT - (4 << 20)..=LIMIT + (4 << 20)).contains(&sizes.anon_bytes), "{rung} {sizes:?}");
        assert_eq!(kill.cause.is_some(), rung == "fentry" || rung == "kprobe", "{rung}");
        if let Some(cause) = kill.cause {
            assert_eq!((cause.scope, cause.order), (MemoryScope::Cgroup(cgroup.id()), Some(0)), "{rung}");
        }
    }
    assert!(whole >= 2, "{whole}");
}

fn a_kill_that_was_asked_for() {
    let mut recording = Recording::start(Recorder::builder().probe(Memory::default()).filter(Filter::none()));
    let mut workload = recording.spawn("victim 64");
    assert_eq!(workload.line(), "ready");
    fs::write("/proc/sysrq-trigger", "f").unwrap();
    assert_eq!(recording.run_to_any_end(&mut workload), ExitStatus::from_raw(libc::SIGKILL));
    let recorded = recording.finish().lossless();
    let kills = recorded.all::<MemoryOomKill>();
    let [kill] = kills[..] else { panic!("{kills:?}") };
    assert_eq!((kill.victim_tgid.0, kill.score_adj), (workload.tgid(), 1000));
    assert_ne!(kill.origin.tgid, kill.victim_tgid);
    let cause = kill.cause.unwrap();
    assert_eq!((cause.scope, cause.order), (MemoryScope::Global, None));
    assert!(kill.sizes.unwrap().anon_bytes >= 60 << 20, "{kill:?}");
}

fn compaction_that_was_asked_for() {
    let rungs = rungs(Memory::default());
    for rung in ["tp_btf", "raw_tp"] {
        let Some((recorded, ..)) = record(Memory::default(), &rungs, rung, "compacts") else { continue };
        let compactions = recorded.all::<MemoryCompaction>();
        assert!(!compactions.is_empty(), "{rung}");
        for compaction in compactions {
            assert_eq!((compaction.order, compaction.direct, compaction.sync), (None, false, true), "{rung}");
            assert!(compaction.result.name().is_some(), "{compaction:?}");
            assert!(compaction.begin_ns > 0 && compaction.begin_ns <= compaction.origin.ktime_ns);
        }
        assert_eq!(recorded.books.memory.unpaired, 0);
    }
}

/// A number of the whole machine.
fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Nobody else allocates meanwhile: what the machine counts is this process's.
fn huge_pages_are_made_room_for() {
    let before = (vmstat("allocstall"), vmstat("compact_stall"));
    let builder = Recorder::builder().probe(Memory::default()).filter(Filter::none());
    let (recorded, ..) = Recording::of_workload(builder, "huge-pages");
    let recorded = recorded.lossless();
    let after = (vmstat("allocstall"), vmstat("compact_stall"));
    let (reclaims, compactions) = (recorded.all::<MemoryReclaim>(), recorded.all::<MemoryCompaction>());
    let direct = compactions.iter().filter(|compaction| compaction.direct).collect::<Vec<_>>();
    let stalls = (after.0 - before.0, after.1 - before.1);
    assert!(stalls.0 + stalls.1 > 0, "the machine had room for all");
    assert!(
        reclaims.len() as u64 <= stalls.0 && (stalls.0 == 0) == reclaims.is_empty(),
        "{stalls:?} {reclaims:?}"
    );
    // 5.10 also counts an attempt for which there was not the room to begin one.
    let is_begun = host::kernel_release().unwrap().at_least(6, 1);
    assert!(direct.is_empty() || stalls.1 > 0, "{stalls:?} {compactions:?}");
    assert!(!direct.is_empty() || stalls.1 == 0 || !is_begun, "{stalls:?} {compactions:?}");
    assert!(direct.iter().all(|compaction| compaction.order == Some(9)), "{compactions:?}");
    assert!(reclaims.iter().all(|reclaim| reclaim.scope == MemoryScope::Global && reclaim.order == 9));
    assert_eq!(recorded.books.memory.unpaired, 0);
}

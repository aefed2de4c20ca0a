//! Every rung of a ladder gives the same records.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use kprobe_core::event::{Event, SchedMigrate, SchedSwitch, SchedWaking, Syscall, WakeContext};
use kprobe_ebpf::{Process, Sched, Syscalls, host};

use super::syscalls::{from_begin, known, name};
use crate::support::{
    kernel::{Deadline, context_switches_of_reader},
    recording::{Recorded, Recording},
    rungs::{attach, check_whole, record, record_to, rungs},
    workload::calls::CODE,
};

crate::trials!(system_calls, processes, scheduler);

fn system_calls() {
    let rungs = rungs(Syscalls::all());
    assert!(rungs.len() >= 3, "{rungs:?}");
    let mut whole = 0;
    let end = ExitStatus::from_raw((CODE as i32) << 8);
    for rung in &rungs {
        let Some((recorded, ..)) = record_to(end, Syscalls::all(), &rungs, rung, "known-calls") else {
            continue;
        };
        whole += 1;
        let calls = from_begin(recorded.all::<Syscall>());
        let found: Vec<_> =
            calls.iter().map(|call| (name(call), call.fd, call.requested, call.ret)).collect();
        assert_eq!(found, known(std::process::id().into()), "{rung}");
        assert_eq!(recorded.books.syscalls.unpaired_exits, 0);

        let Some((recorded, ..)) = record(Syscalls::all(), &rungs, rung, "forks") else { continue };
        let counts = recorded.books.syscalls;
        assert_eq!((counts.unpaired_exits, counts.fork_returns), (0, 50), "{rung}");
    }
    check_whole(whole);
}

/// By kind, what is the same in every run: processes are named by the order in which the workload made them.
fn life(recorded: &Recorded, lines: &[String], tgid: u32) -> BTreeMap<&'static str, Vec<String>> {
    let children = lines.iter().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok());
    let known: Vec<u32> = [tgid].into_iter().chain(children).collect();
    let number = |tgid: u32| known.iter().position(|known| *known == tgid);
    let mut life: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in &recorded.events {
        let text = match event {
            Event::ProcessFork(fork) => format!(
                "{:?} forks {:?} of {:?}",
                number(fork.origin.tgid.0),
                number(fork.child_tgid.0),
                number(fork.parent_tgid.0)
            ),
            Event::ProcessExec(exec) => format!(
                "{:?} of {:?} becomes {:?} {:?} {}",
                number(exec.origin.tgid.0),
                number(exec.parent_tgid.0),
                exec.exe,
                exec.comm,
                exec.old_tid == exec.origin.tid
            ),
            Event::ProcessExit(exit) => {
                format!("{:?} ends {:#x} {}", number(exit.origin.tgid.0), exit.status, exit.process_ended)
            }
            Event::ProcessRename(rename) => format!(
                "{:?} renames {:?} {:?}",
                number(rename.origin.tgid.0),
                number(rename.renamed_tgid.0),
                rename.comm
            ),
            _ => continue,
        };
        life.entry(event.kind().name().unwrap()).or_default().push(text);
    }
    // Threads that end at the same moment do so in any order.
    life.get_mut("process.exit").into_iter().for_each(|exits| exits.sort());
    life
}

fn processes() {
    let rungs = rungs(Process::default());
    assert!(rungs.len() >= 2, "{rungs:?}");
    for workload in ["children 5", "renames"] {
        let mut all: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
        for rung in &rungs {
            let found = record(Process::default(), &rungs, rung, workload);
            let found = found.map(|(recorded, lines, tgid)| life(&recorded, &lines, tgid));
            for (kind, lines) in found.into_iter().flatten() {
                all.entry(kind).or_default().push((rung, lines));
            }
        }
        assert_eq!(all.len(), 4, "{all:?}");
        for (kind, by_rung) in all {
            assert!(by_rung.len() >= 2, "{kind}: {by_rung:?}");
            assert!(by_rung.windows(2).all(|pair| pair[0].1 == pair[1].1), "{kind}: {by_rung:#?}");
        }
    }
}

fn scheduler() {
    let rungs = rungs(Sched::default());
    assert!(rungs.len() >= 2, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let Some((recorded, _, tgid)) = record(Sched::default(), &rungs, rung, "moves 50") else {
            continue;
        };
        whole += 1;
        let moves = recorded.all::<SchedMigrate>();
        assert!(moves.iter().all(|moved| moved.moved_tid.0 == tgid));
        let pairs: Vec<_> = moves.iter().rev().take(50).map(|moved| (moved.from_cpu, moved.to_cpu)).collect();
        assert!(pairs.len() == 50 && pairs.windows(2).all(|pair| pair[0].0 == pair[1].1), "{pairs:?}");
        let switches = recorded.events.iter().filter(|event| matches!(event, Event::SchedSwitch(_))).count();
        assert!(switches >= 50, "{switches}");
    }
    check_whole(whole);
    check_whole(rungs.iter().filter(|rung| wake_each_other(&rungs, rung)).count());
}

/// Two threads that hand a byte to and fro: how each left its CPU, as the kernel counts it, and who woke whom. Whether the kernel
/// skipped no program.
fn wake_each_other(rungs: &[String], rung: &str) -> bool {
    const ROUNDS: usize = 500;
    let mut recording = Recording::of(attach(Sched::default(), rungs, rung), |_| true);
    let mut workload = recording.spawn(&format!("ping-pong {ROUNDS}"));
    let players: Vec<u32> = workload.line().split(' ').map(|tid| tid.parse().unwrap()).collect();
    // The last thing that each does is to wait for the test.
    let deadline = Deadline::new();
    let counted = players.iter().map(|player| {
        loop {
            if let Some(counted) = context_switches_of_reader(*player) {
                return counted;
            }
            deadline.check(&format!("thread {player} to wait for the test"));
            recording.poll();
        }
    });
    let counted: Vec<_> = counted.collect();
    let until = host::clocks().monotonic_ns;
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    if recorded.skipped != 0 {
        return false;
    }
    let (switches, wakings) = (recorded.all::<SchedSwitch>(), recorded.all::<SchedWaking>());
    let mut by_other = 0;
    for (at, player) in players.iter().enumerate() {
        let left =
            switches.iter().filter(|left| left.origin.tid.0 == *player && left.origin.ktime_ns < until);
        let states: Vec<_> = left.map(|left| left.prev_state.letter()).collect();
        let count = |letters: &str| states.iter().filter(|state| letters.contains(**state)).count() as u64;
        // It waits for a byte, or for the lock of the pipe where the other one was preempted within.
        let (blocked, runnable) = (count("SD"), count("R"));
        assert_eq!((blocked, runnable), counted[at], "{rung}: {states:?}");
        assert_eq!(blocked + runnable, states.len() as u64, "{rung}: {states:?}");
        // It cannot go on before the other one has had the CPU, which they share.
        assert!(states.len() >= ROUNDS, "{rung}: {}", states.len());
        // It sleeps now, and was woken from each of its other sleeps. Who is preempted may have wanted to sleep.
        let woken = wakings.iter();
        let woken = woken.filter(|waking| waking.wakee_tid.0 == *player && waking.origin.ktime_ns < until);
        let woken: Vec<_> = woken.collect();
        let wakings = woken.len() as u64;
        assert!(
            wakings + 1 >= blocked && wakings <= blocked + runnable,
            "{rung}: {wakings} {:?}",
            counted[at]
        );
        // By the other one, but for something else before it began.
        let own: Vec<_> = woken.iter().filter(|waking| waking.origin.tid.0 == players[1 - at]).collect();
        assert!(own.iter().all(|waking| waking.context == Some(WakeContext::Task)), "{rung}: {woken:?}");
        assert!(own.len() + 2 >= woken.len(), "{rung}: {woken:?}");
        by_other += own.len();
    }
    // One may be preempted whenever it wrote, and never sleep, but then the other one does in each round.
    assert!(by_other >= ROUNDS * 9 / 10, "{rung}: {by_other}");
    true
}

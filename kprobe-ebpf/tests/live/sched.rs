//! Who runs, who wakes whom, who moves.

use kprobe_core::event::{Event, SchedMigrate, SchedSwitch, SchedWaking, Tgid, ThreadState, WakeContext};
use kprobe_ebpf::{Filter, Recorder, Sched};

use crate::support::{
    child::Workload,
    in_vm,
    kernel::{Deadline, context_switches_of_reader},
    recording::Recording,
    times,
};

crate::trials!(
    switches_as_the_kernel_counts_them,
    switches_with_a_signal_pending,
    wake_ups_by_a_timer,
    moves,
    a_deadline_thread
);

fn switches_as_the_kernel_counts_them() {
    let rounds = times(5000);
    let mut recording = Recording::start(Recorder::builder().probe(Sched::default()).filter(Filter::none()));
    let mut workload = recording.spawn(&format!("ping-pong {rounds}"));
    let line = workload.line();
    let players: Vec<u32> = line.split(' ').map(|tid| tid.parse().unwrap()).collect();
    // The last thing that each does is to wait for the test.
    let counted = players.iter().map(|tid| settled(&mut recording, *tid)).collect::<Vec<_>>();
    let until = kprobe_ebpf::host::clocks().monotonic_ns;
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();

    let before = |event: &Event| event.origin().ktime_ns < until;
    let events: Vec<_> = recorded.events.iter().filter(|event| before(event)).collect();
    for (player, other, (voluntary, involuntary)) in
        [(players[0], players[1], counted[0]), (players[1], players[0], counted[1])]
    {
        let left: Vec<&SchedSwitch> = events
            .iter()
            .filter_map(|event| match event {
                Event::SchedSwitch(switch) if switch.origin.tid.0 == player => Some(switch),
                _ => None,
            })
            .collect();
        let blocked = left.iter().filter(|switch| !switch.prev_state.is_runnable()).count() as u64;
        assert_eq!((blocked, left.len() as u64 - blocked), (voluntary, involuntary));
        let preempted = left.iter().filter(|switch| switch.preempt).count() as u64;
        assert!(left.iter().all(|switch| !switch.preempt || switch.prev_state == ThreadState(0)));
        let came = events
            .iter()
            .filter(|event| matches!(event, Event::SchedSwitch(switch) if switch.next_tid.0 == player));
        // It sleeps now: it came as often as it went. For the difference see `wake_ups_by_a_timer`.
        let came = came.count();
        assert!(came == left.len() || !in_vm() && came < left.len(), "{came} {}", left.len());

        let woken: Vec<&SchedWaking> = events
            .iter()
            .filter_map(|event| match event {
                Event::SchedWaking(waking) if waking.wakee_tid.0 == player => Some(waking),
                _ => None,
            })
            .collect();
        let wakings = woken.len() as u64;
        assert!(wakings + 1 >= blocked && wakings <= blocked + preempted, "{wakings} {blocked} {preempted}");
        let by_other = woken
            .iter()
            .filter(|waking| waking.origin.tid.0 == other && waking.context == Some(WakeContext::Task));
        assert!(by_other.clone().count() > 0);
        assert!(
            by_other.clone().all(|waking| waking.origin.cpu == Some(waking.target_cpu) && waking.prio == 120)
        );
    }
}

/// Whoever is about to give up its CPU and has a signal pending stays runnable, though the kernel counts that as voluntary.
fn switches_with_a_signal_pending() {
    // Before 6.1 and from 6.15 on the kernel says so itself; from 6.6 on another thread does not always go first, so that
    // only there it can be brought about. One that just runs is no good neighbour otherwise: in a guest with 7.2 the timer of
    // a CPU that nothing else interrupts was seen to have stopped.
    let release = kprobe_ebpf::host::kernel_release().unwrap();
    let hits = in_vm() && release.at_least(6, 1) && !release.at_least(6, 6);
    // It is a matter of chance, of about one in ten; on a busy machine there are fewer chances, and fewer of them come true.
    let tries = if hits { 5 } else { 1 };
    let hit = (0..tries).any(|_| {
        let [blocked, runnable, voluntary, involuntary] = signalled(hits);
        assert!(
            blocked + runnable == voluntary + involuntary && blocked > 0 && blocked <= voluntary,
            "{blocked} {runnable}, {voluntary} {involuntary}"
        );
        blocked < voluntary
    });
    assert!(hit || !hits, "not once in {tries} tries");
}

/// Switches of a thread that often has a signal just when it is about to sleep: those that left it blocked and those that left it
/// runnable, by the records; its voluntary and its involuntary ones, by the kernel.
fn signalled(beside_another: bool) -> [u64; 4] {
    let count = times(2000);
    let builder = Recorder::builder().probe(Sched::default()).ring_bytes(64 << 20).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn(&format!("signalled {count} {}", u8::from(beside_another)));
    let tid: u32 = workload.line().parse().unwrap();
    let (voluntary, involuntary) = settled(&mut recording, tid);
    let until = kprobe_ebpf::host::clocks().monotonic_ns;
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let switches = recorded.all::<SchedSwitch>();
    let left = switches.iter().filter(|left| left.origin.tid.0 == tid && left.origin.ktime_ns < until);
    let (runnable, blocked): (Vec<_>, Vec<_>) = left.copied().partition(|left| left.prev_state.is_runnable());
    [blocked.len() as u64, runnable.len() as u64, voluntary, involuntary]
}

/// Voluntary and involuntary switches of a thread that waits for the test and will not run before that.
fn settled<P>(recording: &mut Recording<P>, tid: u32) -> (u64, u64) {
    let deadline = Deadline::new();
    loop {
        if let Some(counted) = context_switches_of_reader(tid) {
            return counted;
        }
        deadline.check(&format!("thread {tid} to wait for the test"));
        recording.poll();
    }
}

/// On one hosted machine a few timer wake-ups had no record, always while a certain thread of its first process was current:
/// no number was missing, no program skipped, and ftrace saw them. The cause is not known, so outside of our own machines,
/// where all of them must be there, half is enough.
fn wake_ups_by_a_timer() {
    let naps = u64::from(times(100));
    let builder = Recorder::builder().probe(Sched::default().without_switch()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let source = recording.recorder.report().wake_context.clone().unwrap();
    let mut workload = recording.spawn(&format!("naps {naps}"));
    recording.run(&mut workload);
    let tid = workload.tgid();
    let recorded = recording.finish().lossless();
    let wakings = recorded.all::<SchedWaking>();
    let of_sleeper: Vec<_> = wakings.iter().filter(|waking| waking.wakee_tid.0 == tid).collect();
    let is_interrupt =
        |waking: &SchedWaking| matches!(waking.context, Some(WakeContext::Hardirq | WakeContext::Softirq));
    let (by_interrupt, others): (Vec<&SchedWaking>, Vec<&SchedWaking>) =
        of_sleeper.into_iter().partition(|waking| is_interrupt(waking));
    let least = if in_vm() { naps } else { naps / 2 };
    assert!(
        by_interrupt.len() as u64 >= least,
        "{} of {naps}, by {source}; others: {others:#?}",
        by_interrupt.len()
    );
    // Whatever else woke it did so before its first sleep or after its last.
    assert!(others.len() <= 5, "by {source}: {others:#?}");
}

fn moves() {
    let count = times(500);
    let builder =
        Recorder::builder().probe(Sched::default().without_switch().without_waking()).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, &format!("moves {count}"));
    let (first, second) = lines[0].split_once(' ').unwrap();
    let cpus: [u16; 2] = [first.parse().unwrap(), second.parse().unwrap()];
    let moves = recorded.lossless().all::<SchedMigrate>();
    assert!(
        moves.iter().all(|moved| (moved.moved_tgid.0, moved.moved_tid.0, moved.prio) == (tgid, tgid, 120))
    );
    let found: Vec<_> = moves.iter().map(|moved| (moved.from_cpu, moved.to_cpu)).collect();
    // Before it was pinned it may have moved as the kernel liked.
    let expected: Vec<_> = (0..count as usize).map(|at| (cpus[at % 2], cpus[(at + 1) % 2])).collect();
    assert!(found.ends_with(&expected), "{found:?}");
    assert!(found.len() < expected.len() + 20, "{found:?}");
}

/// The kernel's priority of a deadline thread is -1.
fn a_deadline_thread() {
    const MS: u64 = 1_000_000;
    let mut gate = Workload::start("gate 1 0");
    assert_eq!(gate.line(), "ready");
    let tid = gate.tgid();
    // SAFETY: all fields are numbers, for which 0 will do.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    attributes.size = size_of::<libc::sched_attr>() as u32;
    attributes.sched_policy = libc::SCHED_DEADLINE as u32;
    (attributes.sched_runtime, attributes.sched_deadline, attributes.sched_period) = (MS, 100 * MS, 100 * MS);
    // SAFETY: the kernel reads `attributes`, which says how long it is.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attributes, 0) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let filter = Filter::tgids([Tgid(tid)]);
    let recording = Recording::start(Recorder::builder().probe(Sched::default()).filter(filter));
    for _ in 0..5 {
        gate.go();
        assert_eq!(gate.line(), "done");
    }
    let recorded = recording.finish().lossless();
    let switches: Vec<SchedSwitch> = recorded.all();
    let away = switches.iter().filter(|switch| switch.origin.tid.0 == tid).map(|switch| switch.prev_prio);
    let back = switches.iter().filter(|switch| switch.next_tid.0 == tid).map(|switch| switch.next_prio);
    let wakings: Vec<SchedWaking> = recorded.all();
    let woken = wakings.iter().filter(|waking| waking.wakee_tid.0 == tid).map(|waking| waking.prio);
    let priorities: Vec<i16> = away.chain(back).chain(woken).collect();
    assert!(priorities.len() >= 10 && priorities.iter().all(|priority| *priority == -1), "{priorities:?}");
}

//! Waits for futexes and who ends them; locks of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use kprobe_core::{
    abi::futex_op,
    event::{FutexKey, FutexPlace, LockContention, LockFutex, LockFutexWake, WakeContext},
};
use kprobe_ebpf::{Filter, Lock, Recorder};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{check_whole, record, rungs},
    times,
};

crate::trials!(
    ping_pong_one_to_one,
    a_futex_in_a_file,
    waits_that_nobody_ends,
    requeued,
    threads_that_end,
    newer_calls,
    every_rung_of_futexes,
    locks_of_the_kernel,
    every_rung_of_contention,
    only_long_waits,
);

fn futexes() -> Lock {
    Lock::default().without_contention()
}

fn recorded(probe: Lock, workload: &str) -> (Recorded, Vec<String>, u32) {
    let builder = Recorder::builder().probe(probe).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, workload);
    (recorded.lossless(), lines, tgid)
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(' ').map(|number| number.parse().unwrap()).collect()
}

fn waits(recorded: &Recorded, of: impl Fn(&LockFutex) -> bool) -> Vec<LockFutex> {
    recorded.all::<LockFutex>().into_iter().filter(of).collect()
}

fn is_at(key: Option<FutexKey>, address: u64) -> bool {
    key.is_some_and(|key| key.address == address)
}

/// Every wait that was woken belongs to one call that woke, and every such call to as many waits as it says.
fn check_hand_offs(recorded: &Recorded, lines: &[String], has_waker: bool) {
    let address = numbers(&lines[2])[0];
    let players: Vec<_> = lines[..2].iter().map(|line| numbers(line)).collect();
    let wakes = recorded.all::<LockFutexWake>();
    let mut matched: BTreeMap<(u32, u64), u32> = BTreeMap::new();
    for (own, other) in [(&players[0], &players[1]), (&players[1], &players[0])] {
        let [tid, woken, in_vain, woke] = own[..] else { panic!("{own:?}") };
        let of_player = |wait: &LockFutex| u64::from(wait.origin.tid.0) == tid && is_at(wait.key, address);
        let waits = waits(recorded, of_player);
        assert!(waits.iter().all(|wait| wait.op.name() == Some("WAIT") && !wait.timed && !wait.restarted));
        let (ended, others): (Vec<_>, Vec<_>) = waits.into_iter().partition(LockFutex::is_woken);
        assert_eq!((ended.len() as u64, others.len() as u64), (woken, in_vain));
        assert!(others.iter().all(|wait| wait.ret == -libc::EAGAIN && wait.waker.is_none()));
        let of_player =
            |wake: &&LockFutexWake| u64::from(wake.origin.tid.0) == tid && is_at(wake.key, address);
        let claimed: u32 = wakes.iter().filter(of_player).map(|wake| wake.woken().unwrap()).sum();
        assert_eq!(u64::from(claimed), woke);
        for wait in ended {
            let Some(waker) = wait.waker else {
                assert!(!has_waker, "{wait:?}");
                continue;
            };
            assert!(has_waker);
            assert_eq!((waker.tgid, u64::from(waker.tid.0)), (wait.origin.tgid, other[0]), "{wait:?}");
            assert_eq!(waker.address, Some(address));
            assert!((wait.enter_ns..=wait.origin.ktime_ns).contains(&waker.ktime_ns), "{wait:?}");
            let is_its_call = |wake: &&LockFutexWake| {
                wake.origin.tid == waker.tid
                    && (wake.enter_ns..=wake.origin.ktime_ns).contains(&waker.ktime_ns)
            };
            let calls: Vec<_> = wakes.iter().filter(is_its_call).collect();
            let [call] = calls[..] else { panic!("{wait:?}: {calls:?}") };
            assert_eq!(call.key, wait.key);
            *matched.entry((call.origin.tid.0, call.enter_ns)).or_default() += 1;
        }
    }
    if has_waker {
        let of_word = wakes.iter().filter(|wake| is_at(wake.key, address));
        for wake in of_word {
            let waits = matched.remove(&(wake.origin.tid.0, wake.enter_ns)).unwrap_or_default();
            assert_eq!(wake.woken(), Some(waits), "{wake:?}");
        }
        assert!(matched.is_empty(), "{matched:?}");
    }
}

fn ping_pong_one_to_one() {
    let rounds = times(2000);
    let (recorded, lines, _) = recorded(futexes(), &format!("futex-ping-pong {rounds}"));
    check_hand_offs(&recorded, &lines, true);
    // On one CPU nearly every turn of it has to wait.
    let woken: u64 = lines[..2].iter().map(|line| numbers(line)[1]).sum();
    assert!(woken >= u64::from(rounds), "{lines:?}");
}

/// The same key for both, though they have it at different addresses.
fn a_futex_in_a_file() {
    let (recorded, lines, tgid) = recorded(futexes(), "futex-shared");
    let words: Vec<_> = lines[0].split(' ').collect();
    let [inode, device, offset, child] = words[..] else { panic!("{lines:?}") };
    let addresses = numbers(&lines[1]);
    let expected = |place: FutexPlace| {
        let FutexPlace::File { inode: of, device: on, offset: at, .. } = place else { panic!("{place:?}") };
        assert_eq!(
            (of.to_string(), on.to_string(), at.to_string()),
            (inode.into(), device.into(), offset.into())
        );
    };
    let waits =
        waits(&recorded, |wait| wait.origin.tid.0.to_string() == child && is_at(wait.key, addresses[0]));
    let [wait] = &waits[..] else { panic!("{waits:?}") };
    let key = wait.key.unwrap();
    assert!(!key.private && wait.blocked && wait.ret == 0);
    expected(key.place);
    let waker = wait.waker.unwrap();
    assert_eq!((waker.tgid.0, waker.tid.0, waker.address), (tgid, tgid, Some(addresses[1])));
    let wakes = recorded.all::<LockFutexWake>();
    let wake = wakes.iter().find(|wake| is_at(wake.key, addresses[1])).unwrap();
    assert_eq!((wake.wanted, wake.woken(), wake.ret), (1, Some(1), 1));
    expected(wake.key.unwrap().place);
    assert_ne!(addresses[0], addresses[1]);

    let copy = numbers(&lines[2])[0];
    let wake = wakes.iter().find(|wake| is_at(wake.key, copy)).unwrap();
    let key = wake.key.unwrap();
    let is_space =
        matches!(key.place, FutexPlace::Space { space } if space.is_some() == cfg!(target_arch = "x86_64"));
    assert!(!key.private && is_space, "{key:?}");
}

fn waits_that_nobody_ends() {
    const ERESTARTSYS: i32 = 512;
    const ERESTART_RESTARTBLOCK: i32 = 516;
    let (recorded, lines, tgid) = recorded(futexes(), "futex-outcomes");
    let [address, ..] = lines[0].split(' ').collect::<Vec<_>>()[..] else { panic!("{lines:?}") };
    let address = address.parse().unwrap();
    let returned: Vec<i32> = lines[0].split(' ').skip(1).map(|ret| ret.parse().unwrap()).collect();
    assert_eq!(returned, [-libc::ETIMEDOUT, -libc::EAGAIN, -libc::EINTR, -libc::ETIMEDOUT]);
    let waits = waits(&recorded, |wait| is_at(wait.key, address));
    assert!(
        waits.iter().all(|wait| wait.origin.tid.0 == tgid && wait.waker.is_none() && wait.timed),
        "{waits:?}"
    );
    let [timed_out, no_such_value, interrupted, stopped, restarted] = &waits[..] else {
        panic!("{waits:#?}")
    };
    assert_eq!((timed_out.ret, timed_out.blocked, timed_out.restarted), (-libc::ETIMEDOUT, true, false));
    assert!(timed_out.duration_ns() >= 20_000_000, "{timed_out:?}");
    assert_eq!((no_such_value.ret, no_such_value.blocked), (-libc::EAGAIN, false));
    // The thread sees EINTR, or nothing: the kernel has the call go on.
    assert!(matches!(-interrupted.ret, ERESTARTSYS | ERESTART_RESTARTBLOCK), "{interrupted:?}");
    assert!(interrupted.blocked && !interrupted.restarted);
    assert_eq!((stopped.ret, stopped.restarted), (-ERESTART_RESTARTBLOCK, false));
    assert_eq!((restarted.ret, restarted.restarted), (-libc::ETIMEDOUT, true));
    assert_eq!((restarted.key, restarted.op), (stopped.key, stopped.op));
    assert!(restarted.origin.ktime_ns - stopped.enter_ns >= 400_000_000);
    assert_eq!(recorded.books.locks.unpaired, 0);
}

fn requeued() {
    let (recorded, lines, tgid) = recorded(futexes(), "futex-requeue");
    let [from, to] = numbers(&lines[0])[..] else { panic!("{lines:?}") };
    let wakes = recorded.all::<LockFutexWake>();
    let requeue = wakes.iter().find(|wake| wake.op.0 == futex_op::CMP_REQUEUE).unwrap();
    assert!(is_at(requeue.key, from));
    assert_eq!(
        (requeue.second_address, requeue.wanted, requeue.wanted_second),
        (Some(to), 1, Some(i32::MAX as u32))
    );
    assert_eq!((requeue.ret, requeue.woken(), requeue.requeued()), (3, Some(1), Some(2)));
    let woken: Vec<_> = wakes.iter().filter(|wake| is_at(wake.key, to)).map(|wake| wake.woken()).collect();
    assert_eq!(woken, [Some(1), Some(1)]);
    let mut by: Vec<_> = lines[1..]
        .iter()
        .map(|tid| {
            let waits =
                waits(&recorded, |wait| wait.origin.tid.0.to_string() == *tid && is_at(wait.key, from));
            let [wait] = waits[..] else { panic!("{waits:?}") };
            let waker = wait.waker.unwrap();
            assert_eq!((waker.tgid.0, waker.tid.0), (tgid, tgid));
            waker.address.unwrap()
        })
        .collect();
    by.sort_by_key(|address| *address == to);
    assert_eq!(by, [from, to, to]);
}

fn threads_that_end() {
    let (recorded, lines, tgid) = recorded(futexes(), "futex-ends");
    let mut ops = Vec::new();
    for line in &lines {
        let (what, tids) = line.split_once(' ').unwrap();
        let [waiter, ended] = numbers(tids)[..] else { panic!("{line}") };
        let of_pair = |wait: &LockFutex| {
            u64::from(wait.origin.tid.0) == waiter
                && wait.waker.is_some_and(|waker| u64::from(waker.tid.0) == ended)
        };
        let waits = waits(&recorded, of_pair);
        // The last: what came before is how the threads agreed that they are ready.
        let wait = waits.last().unwrap_or_else(|| panic!("{line}: {recorded:#?}"));
        let waker = wait.waker.unwrap();
        assert!(wait.blocked && wait.ret == 0 && waker.tgid.0 == tgid);
        assert_eq!(waker.address.is_none(), what != "pi", "{line}: {wait:?}");
        ops.push((what.to_owned(), wait.op.name().unwrap()));
        if what == "join" {
            // Anonymous memory, though the call does not say that it is private.
            let key = wait.key.unwrap();
            assert!(!key.private && matches!(key.place, FutexPlace::Space { .. }), "{wait:?}");
        }
        if what == "pi" {
            let unlocks = recorded.all::<LockFutexWake>();
            let unlock =
                unlocks.iter().find(|wake| wake.op.0 == futex_op::UNLOCK_PI && wake.key == wait.key).unwrap();
            let is_in = (unlock.enter_ns..=unlock.origin.ktime_ns).contains(&waker.ktime_ns);
            assert!(is_in, "{wait:#?} {unlocks:#?}");
            assert_eq!((unlock.ret, unlock.woken()), (0, None));
        }
    }
    assert_eq!(ops.len(), 3);
    assert!(matches!(ops[2].1, "LOCK_PI" | "LOCK_PI2"), "{ops:?}");
}

fn newer_calls() {
    let (recorded, lines, tgid) = recorded(futexes(), "futex-newer");
    let [tid, woken] = numbers(&lines[0])[..] else { panic!("{lines:?}") };
    assert_eq!(woken, 1);
    let waits = waits(&recorded, |wait| wait.op.0 == futex_op::FUTEX2_WAITV);
    let [wait] = waits[..] else { panic!("{waits:?}") };
    assert_eq!((u64::from(wait.origin.tid.0), wait.ret, wait.futexes, wait.key), (tid, 1, 2, None));
    assert!(wait.blocked && wait.waker.unwrap().tid.0 == tgid);

    let returned: Vec<i64> = lines[1].split(' ').map(|number| number.parse().unwrap()).collect();
    let is_there = returned[0] == 0;
    assert!(is_there || returned[0] == -i64::from(libc::ENOSYS), "{lines:?}");
    let address = returned[2] as u64;
    let wakes = recorded.all::<LockFutexWake>();
    let wake = wakes.iter().find(|wake| wake.op.0 == futex_op::FUTEX2_WAKE).unwrap();
    assert!(is_at(wake.key, address) && wake.wanted == 3 && i64::from(wake.ret) == returned[0]);
    let all = recorded.all::<LockFutex>();
    let wait = all.iter().find(|wait| wait.op.0 == futex_op::FUTEX2_WAIT).unwrap();
    assert!(is_at(wait.key, address) && !wait.blocked && i64::from(wait.ret) == returned[1]);
}

fn every_rung_of_futexes() {
    let rungs = rungs(futexes());
    assert_eq!(rungs.len(), 3, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let Some((recorded, lines, _)) = record(futexes(), &rungs, rung, "futex-ping-pong 200") else {
            continue;
        };
        check_hand_offs(&recorded, &lines, rung != "raw_tp");
        let Some((recorded, lines, _)) = record(futexes(), &rungs, rung, "futex-shared") else { continue };
        let offset: u64 = lines[0].split(' ').nth(2).unwrap().parse().unwrap();
        let places =
            recorded.all::<LockFutexWake>().into_iter().filter_map(|wake| wake.key).map(|key| key.place);
        let in_file =
            places.filter(|place| matches!(place, FutexPlace::File { offset: at, .. } if *at == offset));
        assert_eq!(in_file.count(), 1, "{rung}");
        whole += 1;
    }
    check_whole(whole);
}

/// Of each byte that had to wait, the wait is found, inside of its call and most of it.
fn check_contention(recorded: &Recorded, lines: &[String]) {
    let mut waits = recorded.all::<LockContention>();
    assert!(waits.iter().all(|wait| wait.begin_ns <= wait.origin.ktime_ns));
    waits.retain(|wait| !wait.how.spun() || wait.how.class() == "mutex");
    let mut classes: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let [nr, tid, begin, end] = numbers(line)[..] else { panic!("{line}") };
        let in_call = waits.iter().filter(|wait| {
            u64::from(wait.origin.tid.0) == tid && wait.begin_ns >= begin && wait.origin.ktime_ns <= end
        });
        let Some(longest) = in_call.max_by_key(|wait| wait.duration_ns()) else { continue };
        assert_eq!(longest.ret, 0);
        assert!(matches!(longest.context, Some(WakeContext::Task) | None), "{longest:?}");
        if longest.duration_ns() >= (end - begin) / 2 {
            classes.entry(nr).or_default().push(longest.how.class());
        }
    }
    let of = |nr: i64| classes.get(&nr.unsigned_abs()).cloned().unwrap_or_default();
    let (file, place) = (of(libc::SYS_pwrite64), of(libc::SYS_write));
    assert!(file.contains(&"rwsem") && place.contains(&"mutex"), "{classes:?} {lines:?} {waits:#?}");
}

fn locks_of_the_kernel() {
    let probe = Lock::default().without_futex();
    let (recorded, lines, _) = recorded(probe, "contention 3");
    check_contention(&recorded, &lines);
    let waits = recorded.all::<LockContention>();
    // The file's lock and that of its place: each has one number all the time, and not the same. The thread may wait for
    // others as well, but not within these calls.
    let of = |class, of: i64| {
        let calls = lines.iter().map(|line| numbers(line)).filter(|call| call[0] == of.unsigned_abs());
        let longest = calls.filter_map(|call| {
            let in_call = waits.iter().filter(|wait| {
                wait.how.class() == class
                    && u64::from(wait.origin.tid.0) == call[1]
                    && wait.begin_ns >= call[2]
                    && wait.origin.ktime_ns <= call[3]
            });
            in_call.max_by_key(|wait| wait.duration_ns()).filter(|wait| wait.duration_ns() > 1_000_000)
        });
        longest.map(|wait| wait.lock).collect::<BTreeSet<_>>()
    };
    let (files, places) = (of("rwsem", libc::SYS_pwrite64), of("mutex", libc::SYS_write));
    assert!(files.len() == 1 && places.len() == 1 && files != places, "{files:?} {places:?}");
}

fn every_rung_of_contention() {
    let probe = || Lock::default().without_futex();
    let rungs = rungs(probe());
    assert_eq!(rungs.len(), 3, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let Some((recorded, lines, _)) = record(probe(), &rungs, rung, "contention 3") else { continue };
        check_contention(&recorded, &lines);
        whole += 1;
    }
    check_whole(whole);
}

fn only_long_waits() {
    let probe = futexes().min_duration(std::time::Duration::from_millis(10));
    let (recorded, lines, _) = recorded(probe, "futex-outcomes");
    let address = lines[0].split(' ').next().unwrap().parse().unwrap();
    let waits = recorded.all::<LockFutex>();
    assert!(waits.iter().all(|wait| wait.duration_ns() >= 10_000_000));
    let here = waits.iter().filter(|wait| is_at(wait.key, address));
    assert!(here.clone().any(|wait| wait.ret == -libc::ETIMEDOUT));
    assert!(here.clone().all(|wait| wait.ret != -libc::EAGAIN));
}

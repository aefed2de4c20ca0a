use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    param::page_size,
};

use super::{
    Next, Pacing, Reader, ReaderStates, RingError, Stop, Woken,
    buffer::monotonic_ns,
    model::{self, Producer, Wake},
};

const LIMIT: usize = 1 << 16;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// So many rings, each with a program that knows its `ReaderState`, and their reader.
fn reader(rings: usize) -> (Vec<Producer>, ReaderStates, Reader) {
    let (producers, rings): (Vec<_>, Vec<_>) = (0..rings).map(|_| model::ring(4 * page_size())).unzip();
    let (states, programs) = model::states(rings.len());
    (producers, programs, Reader::new(rings, states, Pacing::default()).expect("descriptors"))
}

fn idle(states: &ReaderStates) -> Vec<u32> {
    (0..states.count()).map(|ring| states.idle(ring).load(Ordering::Relaxed)).collect()
}

fn drain(reader: &mut Reader) -> u64 {
    reader.copy_into(&mut BytesMut::new(), LIMIT).records
}

fn is_readable(reader: &Reader) -> bool {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    poll(&mut fds, Some(&NOW)).expect("poll") == 1
}

#[test]
fn too_few_states_are_refused() {
    let rings = (0..2).map(|_| model::ring(page_size()).1).collect();
    let states = ReaderStates::unshared(1).expect("memory");
    let refused = Reader::new(rings, states, Pacing::default());
    assert!(matches!(refused, Err(RingError::States { rings: 2, states: 1 })), "{refused:?}");
}

#[test]
fn an_idle_reader_is_woken_by_the_first_record_only() {
    let (producers, states, mut reader) = reader(2);
    assert_eq!(drain(&mut reader), 0);
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
    assert_eq!(idle(&states), [1, 1]);
    assert!(!is_readable(&reader));

    assert!(producers[1].emit(states.idle(1), b"first"));
    assert_eq!(idle(&states), [1, 0]);
    assert!(is_readable(&reader));
    assert_eq!(reader.wait(Next::Idle).expect("epoll"), Woken::ByRecord);
    assert!(producers[1].emit(states.idle(1), b"second"));
    assert!(!is_readable(&reader), "the second record came silently");
    assert_eq!(drain(&mut reader), 2);
}

#[test]
fn a_reader_that_is_not_idle_naps_and_is_not_woken() {
    let (producers, states, mut reader) = reader(1);
    assert!(producers[0].emit(states.idle(0), b"one"));
    assert_eq!(drain(&mut reader), 1);
    let Next::Again(nap) = reader.pace().expect("epoll") else { panic!("records were coming") };
    assert!(producers[0].emit(states.idle(0), b"two"));
    let began = Instant::now();
    assert_eq!(reader.wait(Next::Again(nap)).expect("epoll"), Woken::ByTime);
    assert!(began.elapsed() >= nap);
    assert_eq!(drain(&mut reader), 1);
}

#[test]
fn a_full_ring_ends_a_nap() {
    let (producers, _states, mut reader) = reader(1);
    producers[0].reserve(8).expect("room").submit(Wake::Force);
    assert_eq!(reader.wait(Next::Again(Duration::from_secs(3600))).expect("epoll"), Woken::ByRecord);
}

#[test]
fn a_reserved_record_keeps_the_reader_from_going_idle() {
    let (producers, states, mut reader) = reader(2);
    let reserved = producers[0].reserve(8).expect("room");
    assert_eq!(reader.copy_into(&mut BytesMut::new(), LIMIT).stop, Stop::Busy);
    assert!(matches!(reader.pace().expect("epoll"), Next::Again(nap) if !nap.is_zero()));
    assert_eq!(idle(&states), [0, 0], "taken back");
    reserved.submit(Wake::No);
    assert_eq!(drain(&mut reader), 1);
}

#[test]
fn a_record_between_the_drain_and_the_handshake_is_noticed() {
    let (producers, states, mut reader) = reader(1);
    assert_eq!(drain(&mut reader), 0);
    assert!(producers[0].emit(states.idle(0), b"late"));
    assert!(matches!(reader.pace().expect("epoll"), Next::Again(_)));
    assert_eq!(drain(&mut reader), 1);
}

#[test]
fn a_drain_cut_short_is_followed_by_no_nap() {
    let (producers, states, mut reader) = reader(1);
    // So few that what is left would not be worth it otherwise.
    for _ in 0..3 {
        assert!(producers[0].emit(states.idle(0), &[0; 64]));
    }
    for _ in 0..2 {
        assert_eq!(reader.copy_into(&mut BytesMut::new(), 100).stop, Stop::Limit);
        assert_eq!(reader.pace().expect("epoll"), Next::Again(Duration::ZERO));
    }
    assert_eq!(reader.copy_into(&mut BytesMut::new(), 100).stop, Stop::CaughtUp);
    assert!(matches!(reader.pace().expect("epoll"), Next::Again(nap) if !nap.is_zero()));
}

#[test]
fn rings_take_turns_when_the_limit_cuts() {
    let (producers, states, mut reader) = reader(3);
    for (ring, producer) in producers.iter().enumerate() {
        for _ in 0..2 {
            assert!(producer.emit(states.idle(ring), &[u8::try_from(ring).expect("small"); 8]));
        }
    }
    let mut sources = Vec::new();
    loop {
        let mut out = BytesMut::new();
        let drained = reader.copy_into(&mut out, 16);
        if drained.records == 0 {
            break;
        }
        assert_eq!((drained.records, out.len()), (1, 16));
        sources.push(out[8]);
    }
    sources.sort_unstable();
    assert_eq!(sources, [0, 0, 1, 1, 2, 2]);
}

#[test]
fn the_watermark_is_that_of_the_slowest_ring_and_going_idle_moves_it() {
    let (producers, _states, mut reader) = reader(2);
    drain(&mut reader);
    let before = monotonic_ns();
    let reserved = producers[1].reserve(8).expect("room");
    drain(&mut reader);
    assert!(reader.drained_until_ns() <= before);
    reserved.submit(Wake::No);
    drain(&mut reader);
    reader.pace().expect("epoll");
    drain(&mut reader);
    let quiet = monotonic_ns();
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
    assert!(reader.drained_until_ns() >= quiet);
}

#[test]
fn the_waker_ends_an_idle_wait_once() {
    let (_producers, _states, mut reader) = reader(1);
    let waker = reader.waker();
    thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        assert_eq!(reader.wait(Next::Idle).expect("epoll"), Woken::ByWaker);
    });
    assert_eq!(reader.wait(Next::Again(Duration::ZERO)).expect("epoll"), Woken::ByTime);
    waker.wake();
    assert!(is_readable(&reader));
}

/// A loop that looked for what the waker stands for just before it was woken, and then drains, must look again.
#[test]
fn a_wake_during_a_drain_is_not_lost() {
    let (_producers, _states, mut reader) = reader(1);
    drain(&mut reader);
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
    reader.waker().wake();
    drain(&mut reader);
    assert_eq!(reader.pace().expect("epoll"), Next::Again(Duration::ZERO));
    assert_eq!(reader.wait(Next::Idle).expect("epoll"), Woken::ByWaker);
    // Somebody else's loop never waits here: one more round, no more.
    drain(&mut reader);
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
    reader.waker().wake();
    assert_eq!(reader.pace().expect("epoll"), Next::Again(Duration::ZERO));
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
}

/// Somebody else's loop: the descriptor is readable when it should be and not when a nap is on.
#[test]
fn the_descriptor_tells_another_loop() {
    let (producers, states, mut reader) = reader(1);
    assert_eq!(drain(&mut reader), 0);
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
    assert!(producers[0].emit(states.idle(0), b"one"));
    assert!(is_readable(&reader));
    assert_eq!(drain(&mut reader), 1);
    let next = reader.pace().expect("epoll");
    assert!(matches!(next, Next::Again(_)), "{next:?}");
    assert!(!is_readable(&reader), "pace took the event");
    assert!(producers[0].emit(states.idle(0), b"two"));
    assert!(!is_readable(&reader), "it is napping");
    assert_eq!(drain(&mut reader), 1);
    assert!(matches!(reader.pace().expect("epoll"), Next::Again(_)));
    assert_eq!(drain(&mut reader), 0);
    assert_eq!(reader.pace().expect("epoll"), Next::Idle);
}

/// epoll_wait would round 100 us up to a millisecond, ten naps to ten of them. The best of many tries: a busy machine
/// only ever makes a nap longer.
#[test]
fn a_nap_is_as_long_as_asked_and_not_a_millisecond() {
    let (_producers, _states, mut reader) = reader(1);
    let nap = Duration::from_micros(100);
    let mut shortest = Duration::MAX;
    for _ in 0..1000 {
        let began = Instant::now();
        assert_eq!(reader.wait(Next::Again(nap)).expect("poll"), Woken::ByTime);
        shortest = shortest.min(began.elapsed());
        if shortest < 5 * nap {
            break;
        }
    }
    assert!(shortest >= nap && shortest < 5 * nap, "{shortest:?}");
}

/// Two programs that wait for the reader to go idle, again and again, and a reader that then blocks without a limit: a
/// lost wake-up is a hang, which the watchdog turns into a failure.
fn no_wake_up_is_lost(emit: impl Fn(&Producer, &AtomicU32, &[u8]) -> bool + Sync) {
    const RECORDS: u64 = 20_000;
    let (producers, states, mut reader) = reader(2);
    let timed_out = Arc::new(AtomicBool::new(false));
    let (finished, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn({
        let (timed_out, waker) = (Arc::clone(&timed_out), reader.waker());
        move || {
            if watch.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
                timed_out.store(true, Ordering::SeqCst);
                waker.wake();
            }
        }
    });
    let (mut seen, mut blocked) = (0, 0);
    thread::scope(|scope| {
        for (source, producer) in producers.iter().enumerate() {
            let (emit, idle) = (&emit, states.idle(source));
            scope.spawn(move || {
                for number in 0..RECORDS {
                    while !emit(producer, idle, &number.to_le_bytes()) {
                        thread::yield_now();
                    }
                    // Then not before the reader has said that it is idle: just while it makes up its mind to block.
                    while number % 16 == 0 && idle.load(Ordering::Relaxed) == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        while seen < 2 * RECORDS {
            seen += drain(&mut reader);
            let next = reader.pace().expect("epoll");
            if seen == 2 * RECORDS {
                break;
            }
            blocked += u64::from(next == Next::Idle);
            if reader.wait(next).expect("epoll") == Woken::ByWaker {
                assert!(!timed_out.load(Ordering::SeqCst), "blocked with {seen} of {} records", 2 * RECORDS);
            }
        }
    });
    drop(finished);
    watchdog.join().expect("no panic");
    assert_eq!(seen, 2 * RECORDS);
    assert!(blocked > 0, "never went idle, nothing was tested");
}

#[test]
fn no_wake_up_is_lost_by_programs_that_ask() {
    no_wake_up_is_lost(Producer::emit);
}

#[test]
fn no_wake_up_is_lost_by_programs_that_submit_with_flags_0() {
    no_wake_up_is_lost(|producer, _idle, record| {
        let Some(mut reservation) = producer.reserve(record.len()) else { return false };
        reservation.bytes().copy_from_slice(record);
        reservation.submit(Wake::IfCaughtUp);
        true
    });
}

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use bytes::BytesMut;
use rustix::param::page_size;

use super::{
    Drained, Ring, Stop,
    buffer::{BUSY, DISCARD, HEADER, monotonic_ns},
    model::{self, Producer, Wake},
};

/// xorshift64: the same lengths in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// A record that can be recognized: who, which, and a pattern to the end.
fn record(source: u8, number: u32, len: usize) -> Vec<u8> {
    let mut record = vec![source; 1];
    record.extend(number.to_le_bytes());
    record.extend((5..len).map(|at| pattern(source, number, at)));
    record
}

fn pattern(source: u8, number: u32, at: usize) -> u8 {
    number.wrapping_mul(0x9e37_79b9).rotate_left(u32::from(source)).to_le_bytes()[at % 4]
        ^ at.to_le_bytes()[0]
}

fn check(bytes: &[u8]) -> (u8, u32) {
    let (source, number) = (bytes[0], u32::from_le_bytes(bytes[1..5].try_into().expect("4 bytes")));
    assert_eq!(bytes, record(source, number, bytes.len()));
    (source, number)
}

fn submit(producer: &Producer, bytes: &[u8]) {
    let mut reservation = producer.reserve(bytes.len()).expect("room");
    reservation.bytes().copy_from_slice(bytes);
    reservation.submit(Wake::No);
}

fn consume(ring: &mut Ring, limit: usize) -> (Vec<Vec<u8>>, Drained) {
    let mut records = Vec::new();
    let drained = ring.consume(limit, |record| records.push(record.to_vec()));
    assert_eq!(drained.records, records.len() as u64);
    (records, drained)
}

/// Takes a copied batch apart: (length without flags, discarded, bytes).
fn split(mut batch: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let mut records = Vec::new();
    while !batch.is_empty() {
        let header = u32::from_ne_bytes(batch[..4].try_into().expect("4 bytes"));
        assert_eq!(header & BUSY, 0);
        let len = (header & !DISCARD) as usize;
        records.push((header & DISCARD != 0, batch[HEADER..HEADER + len].to_vec()));
        batch = &batch[(HEADER + len).next_multiple_of(8)..];
    }
    records
}

#[test]
fn an_empty_ring_gives_nothing() {
    let (_producer, mut ring) = model::ring(page_size());
    let nothing = Drained { records: 0, discarded: 0, bytes: 0, stop: Stop::CaughtUp };
    assert_eq!(consume(&mut ring, 100), (vec![], nothing));
    let mut out = BytesMut::new();
    assert_eq!((ring.copy_into(&mut out, 100), out.len()), (nothing, 0));
}

#[test]
fn records_come_whole_and_in_order_and_the_room_is_given_back() {
    let (producer, mut ring) = model::ring(page_size());
    let sent = [5, 8, 13, 64, 255].map(|len| record(1, 7, len));
    for bytes in &sent {
        submit(&producer, bytes);
    }
    let total = 16 + 16 + 24 + 72 + 264;
    assert_eq!(ring.unread_bytes(), total);
    let (records, drained) = consume(&mut ring, usize::MAX);
    assert_eq!(records, sent);
    assert_eq!(drained, Drained { records: 5, discarded: 0, bytes: total, stop: Stop::CaughtUp });
    assert_eq!(ring.unread_bytes(), 0);
    assert!(producer.reserve(page_size() - HEADER - 8).is_some(), "all room is free again");
}

#[test]
fn a_copied_batch_is_what_consume_would_have_shown() {
    let (producer, mut ring) = model::ring(page_size());
    submit(&producer, &record(1, 1, 20));
    producer.reserve(30).expect("room").discard(Wake::No);
    submit(&producer, &record(1, 2, 64));
    let mut out = BytesMut::from(&b"before"[..]);
    let drained = ring.copy_into(&mut out, usize::MAX);
    assert_eq!(drained, Drained { records: 2, discarded: 1, bytes: 32 + 40 + 72, stop: Stop::CaughtUp });
    assert_eq!(&out[..6], b"before");
    let records = split(&out[6..]);
    assert_eq!(records.iter().map(|(discarded, _)| *discarded).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((&records[0].1, &records[2].1), (&record(1, 1, 20), &record(1, 2, 64)));
}

#[test]
fn a_reserved_record_stops_the_scan_also_for_those_behind_it() {
    let (producer, mut ring) = model::ring(page_size());
    submit(&producer, &record(1, 1, 8));
    let mut reserved = producer.reserve(16).expect("room");
    submit(&producer, &record(1, 3, 8));
    let (records, drained) = consume(&mut ring, usize::MAX);
    assert_eq!((records, drained.stop), (vec![record(1, 1, 8)], Stop::Busy));
    assert_eq!(consume(&mut ring, usize::MAX).1.stop, Stop::Busy);
    assert_eq!(ring.unread_bytes(), 24 + 16);
    reserved.bytes().copy_from_slice(&record(1, 2, 16));
    reserved.submit(Wake::No);
    let (records, drained) = consume(&mut ring, usize::MAX);
    assert_eq!((records, drained.stop), (vec![record(1, 2, 16), record(1, 3, 8)], Stop::CaughtUp));
}

#[test]
fn the_limit_cuts_between_records_and_never_starves() {
    let (producer, mut ring) = model::ring(page_size());
    for number in 0..3 {
        submit(&producer, &record(1, number, 64));
    }
    let numbers = |(records, drained): (Vec<Vec<u8>>, Drained)| {
        (records.iter().map(|bytes| check(bytes).1).collect::<Vec<_>>(), drained.stop)
    };
    assert_eq!(numbers(consume(&mut ring, 0)), (vec![0], Stop::Limit));
    assert_eq!(numbers(consume(&mut ring, 143)), (vec![1], Stop::Limit));
    assert_eq!(numbers(consume(&mut ring, 143)), (vec![2], Stop::CaughtUp));
}

#[test]
fn a_full_ring_refuses_and_goes_on_when_drained() {
    let (producer, mut ring) = model::ring(page_size());
    let mut sent = 0;
    while let Some(mut reservation) = producer.reserve(64) {
        reservation.bytes().copy_from_slice(&record(1, sent, 64));
        reservation.submit(Wake::No);
        sent += 1;
    }
    assert_eq!(sent as usize, page_size() / 72);
    let (records, drained) = consume(&mut ring, usize::MAX);
    assert_eq!((records.len(), drained.stop), (sent as usize, Stop::CaughtUp));
    submit(&producer, &record(1, sent, 64));
    assert_eq!(consume(&mut ring, usize::MAX).0, [record(1, sent, 64)]);
}

#[test]
#[cfg_attr(miri, ignore = "its ring has the data once")]
fn a_record_across_the_end_is_in_one_piece() {
    for start in (0..page_size()).step_by(8).skip(page_size() / 8 - 40) {
        let (producer, mut ring) = model::ring_at(page_size(), start);
        submit(&producer, &record(1, 1, 200));
        submit(&producer, &record(1, 2, 100));
        let mut out = BytesMut::new();
        assert_eq!(ring.copy_into(&mut out, usize::MAX).records, 2);
        assert_eq!(split(&out), [(false, record(1, 1, 200)), (false, record(1, 2, 100))]);
    }
}

#[test]
fn a_length_that_cannot_be_is_refused_and_nothing_behind_it_is_read() {
    for header in [17, 4096, DISCARD - 1, DISCARD | 999] {
        let (producer, mut ring) = model::ring(page_size());
        submit(&producer, &record(1, 1, 8));
        submit(&producer, &record(1, 2, 16));
        producer.corrupt(16, header);
        let (records, drained) = consume(&mut ring, usize::MAX);
        assert_eq!((records, drained.stop), (vec![record(1, 1, 8)], Stop::Corrupt), "{header:#x}");
        assert_eq!(
            consume(&mut ring, usize::MAX).1,
            Drained { records: 0, discarded: 0, bytes: 0, stop: Stop::Corrupt }
        );
    }
}

/// The kernel has then written over what this reader had not read, more than once around.
#[test]
fn room_that_another_reader_gave_back_is_noticed() {
    let (producer, mut ring) = model::ring(page_size());
    for number in 0..2 {
        for _ in 0..40 {
            submit(&producer, &record(1, number, 64));
        }
        producer.read_by_another();
    }
    let corrupt = Drained { records: 0, discarded: 0, bytes: 0, stop: Stop::Corrupt };
    assert_eq!(consume(&mut ring, usize::MAX), (Vec::new(), corrupt));
    assert_eq!(ring.copy_into(&mut BytesMut::new(), usize::MAX), corrupt);
}

#[test]
fn a_callback_that_panics_has_consumed_its_record() {
    let (producer, mut ring) = model::ring(page_size());
    for number in 0..3 {
        submit(&producer, &record(1, number, 8));
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        ring.consume(usize::MAX, |bytes| assert_ne!(check(bytes).1, 1, "on purpose"))
    }));
    assert!(panicked.is_err());
    assert_eq!(consume(&mut ring, usize::MAX).0, [record(1, 2, 8)]);
}

#[test]
fn the_watermark_covers_what_was_reserved_and_waits_for_what_is_busy() {
    let (producer, mut ring) = model::ring(page_size());
    assert_eq!(ring.drained_until_ns(), 0);
    let before = monotonic_ns();
    consume(&mut ring, usize::MAX);
    let empty = ring.drained_until_ns();
    assert!(empty >= before && empty <= monotonic_ns());

    submit(&producer, &record(1, 1, 8));
    let reserved = producer.reserve(8).expect("room");
    consume(&mut ring, usize::MAX);
    assert_eq!(ring.drained_until_ns(), empty, "a reserved record may be as old as the last drain");
    let late = monotonic_ns();
    reserved.submit(Wake::No);
    submit(&producer, &record(1, 3, 8));
    // The drain was aimed when it found the busy record, so record 3 is not part of it.
    assert_eq!(consume(&mut ring, usize::MAX).0.len(), 1);
    let then = ring.drained_until_ns();
    assert!(then > empty && then <= late, "{then} in {empty}..={late}");
    assert_eq!(consume(&mut ring, 1).0, [record(1, 3, 8)]);
    assert!(ring.drained_until_ns() >= late);
}

#[test]
fn a_drain_stopped_by_its_limit_does_not_move_the_watermark() {
    let (producer, mut ring) = model::ring(page_size());
    submit(&producer, &record(1, 1, 8));
    submit(&producer, &record(1, 2, 8));
    assert_eq!(consume(&mut ring, 1).1.stop, Stop::Limit);
    assert_eq!(ring.drained_until_ns(), 0);
    assert_eq!(consume(&mut ring, 1).1.stop, Stop::CaughtUp);
    assert_ne!(ring.drained_until_ns(), 0);
}

/// Two programs on two CPUs, one of which also discards, against a reader that copies or looks in turn, in a ring that
/// is full most of the time. Each record must come, whole, once, in its program's order.
#[test]
fn two_programs_and_a_reader_at_full_speed() {
    // Miri is slow, and its ring does not go round.
    const RECORDS: u32 = if cfg!(miri) { 100 } else { 100_000 };
    let (producer, mut ring) = model::ring(if cfg!(miri) { 32 } else { 2 } * page_size());
    let produce = |source: u8| {
        let producer = producer.clone();
        move || {
            let mut random = Random(u64::from(source) + 1);
            let mut refused = 0u64;
            for number in 0..RECORDS {
                let len = 5 + random.below(300);
                let mut reservation = loop {
                    match producer.reserve(len) {
                        Some(reservation) => break reservation,
                        None => refused += 1,
                    }
                    thread::yield_now();
                };
                if source == 1 && number % 7 == 3 {
                    reservation.discard(Wake::No);
                } else {
                    reservation.bytes().copy_from_slice(&record(source, number, len));
                    reservation.submit(Wake::No);
                }
            }
            refused
        }
    };
    let mut expected: [VecDeque<u32>; 2] =
        [(0..RECORDS).collect(), (0..RECORDS).filter(|number| number % 7 != 3).collect()];
    let discards = u64::from(RECORDS) - expected[1].len() as u64;
    thread::scope(|scope| {
        let programs = [scope.spawn(produce(0)), scope.spawn(produce(1))];
        let mut seen = |bytes: &[u8]| {
            let (source, number) = check(bytes);
            assert_eq!(expected[source as usize].pop_front(), Some(number));
        };
        let (mut discarded, mut bytes, mut turn) = (0, 0, 0);
        let mut out = BytesMut::new();
        loop {
            let over = programs.iter().all(thread::ScopedJoinHandle::is_finished);
            turn += 1;
            let drained = if turn % 2 == 0 {
                ring.consume(3000, &mut seen)
            } else {
                out.clear();
                let drained = ring.copy_into(&mut out, 3000);
                split(&out).iter().filter(|(discarded, _)| !discarded).for_each(|(_, bytes)| seen(bytes));
                drained
            };
            assert_ne!(drained.stop, Stop::Corrupt);
            discarded += drained.discarded;
            bytes += drained.bytes;
            if drained.bytes == 0 {
                if over {
                    break;
                }
                thread::yield_now();
            }
        }
        assert_eq!(expected, [VecDeque::new(), VecDeque::new()]);
        assert_eq!(discarded, discards);
        assert!(cfg!(miri) || bytes > 1000 * ring.len_bytes(), "wrapped around many times");
        for program in programs {
            program.join().expect("no panic");
        }
    });
    assert_eq!(ring.unread_bytes(), 0);
}

//! What is written is read, in order, byte for byte, and nothing else.

mod capture_support;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::Arc,
};

use capture_support::{batch_of, capture_of, every_kind, info, probes_of, read_all, record};
use kprobe_core::{
    abi::{Header, Kind, MAX_RECORD},
    capture::{CaptureReader, CaptureWriter, MAX_BLOCK},
    decode::{FRAME_HEADER, Record},
    event::BootId,
    pipeline::{BatchBuf, BatchId, Clocks, Ledger, Pipeline, ProbeRow, Sink, SinkError, Source, StreamInfo},
};
use proptest::{collection::vec, prelude::*};
use zerocopy::IntoBytes;

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        3 => proptest::sample::select(Kind::ALL).prop_map(|kind| kind.0),
        1 => any::<u16>(),
    ];
    let body = vec(any::<u8>(), 0..=MAX_RECORD - size_of::<Header>());
    let from = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u16>(), any::<u32>());
    (kind, body, from).prop_map(|(kind, body, (ktime_ns, cgroup_id, tgid, tid, cpu, seq))| {
        let header = Header { ktime_ns, cgroup_id, tgid, tid, kind, cpu, seq };
        [header.as_bytes(), &body].concat()
    })
}

/// Real records differ little from one another, random ones do not compress: both must do.
fn any_records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![vec(any_record(), 0..40), vec(proptest::sample::select(every_kind()), 0..200)]
}

proptest! {
    #[test]
    fn gives_back_what_was_written(blocks in vec(any_records(), 0..6), finished: bool) {
        let probes = probes_of(&blocks.concat());
        let bytes = capture_of(&blocks, finished.then_some(&probes));
        let contents = read_all(bytes.as_slice()).expect("a capture");
        prop_assert_eq!(contents.info, info());
        prop_assert_eq!(contents.records, blocks.concat());
        prop_assert_eq!(contents.probes, probes);
        prop_assert_eq!(contents.dropped, 0);
        if finished {
            prop_assert_eq!(contents.damage, []);
            let trailer = contents.trailer.expect("it is finished");
            prop_assert_eq!(trailer.index, contents.index);
            prop_assert_eq!(trailer.records, blocks.concat().len() as u64);
        } else {
            prop_assert_eq!(contents.damage.len(), 1);
            prop_assert_eq!(contents.trailer, None);
        }
    }

    #[test]
    fn does_not_depend_on_the_batches(records in any_records(), batch in 1_usize..50) {
        let whole = capture_of(std::slice::from_ref(&records), Some(&[]));
        let mut bytes = Vec::new();
        let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
        for records in records.chunks(batch) {
            writer.write(&batch_of(records)).expect("memory takes it");
        }
        writer.finish(&Ledger::default(), None).expect("memory takes it");
        drop(writer);
        prop_assert_eq!(bytes, whole);
    }
}

/// More than a block has room for.
fn many() -> Vec<Vec<u8>> {
    (0..20_000).map(|seq| record(Kind::SYSCALL, 0, seq, &[u64::from(seq); 4])).collect()
}

#[test]
fn a_block_is_bounded() {
    let records = many();
    let bytes = capture_of(std::slice::from_ref(&records), Some(&[]));
    let mut reader = CaptureReader::new(bytes.as_slice(), "test.kcap").expect("a capture");
    let mut batch = BatchBuf::default();
    let mut blocks = Vec::new();
    while !reader.poll(&mut batch, None).expect("readable").end {
        blocks.push(batch.take().bytes().len());
    }
    let frame = FRAME_HEADER + records[0].len();
    let full = MAX_BLOCK / frame * frame;
    let rest = records.len() * frame - 5 * full;
    assert_eq!(blocks, [full, full, full, full, full, rest]);
    assert_eq!(read_all(bytes.as_slice()).expect("a capture").records, records);
}

#[test]
fn equal_records_give_equal_bytes() {
    let blocks = [every_kind(), many(), every_kind()];
    let probes = probes_of(&blocks.concat());
    let first = capture_of(&blocks, Some(&probes));
    assert_eq!(first, capture_of(&blocks, Some(&probes)));
    // A frame out of the ring carries in its second word where it was; a discarded record has no meaning at all.
    let mut buf = BatchBuf::default();
    for bytes in &every_kind() {
        let discarded: u32 = 1 << 30 | 16;
        buf.frames_mut().extend_from_slice(&discarded.to_le_bytes());
        buf.frames_mut().extend_from_slice(&[0xaa; 20]);
        let start = buf.len();
        buf.push(Record::new(bytes).expect("a record"));
        buf.frames_mut()[start + 4..start + 8].copy_from_slice(&[1, 2, 3, 4]);
    }
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    writer.write(&buf.take()).expect("memory takes it");
    writer.finish(&Ledger::default(), None).expect("memory takes it");
    drop(writer);
    assert_eq!(bytes, capture_of(&[every_kind()], Some(&[])));
}

#[test]
fn the_index_leads_to_the_blocks() {
    let blocks: Vec<_> = (1..=1500).map(|n| every_kind()[..n % 7 + 1].to_vec()).collect();
    let bytes = capture_of(&blocks, Some(&[]));
    let (_, end) = bytes.split_last_chunk::<8>().expect("long enough");
    let offset = usize::try_from(u64::from_le_bytes(*end)).expect("an offset");
    assert_eq!(bytes[offset..offset + 10], *b"\xf1kcapv1\n\x03\0", "the last bytes say where the trailer is");

    let contents = read_all(bytes.as_slice()).expect("a capture");
    let index = contents.trailer.expect("it is finished").index;
    assert_eq!(index, contents.index);
    assert_eq!(index.len(), 750);
    let start = usize::try_from(index[0].offset).expect("an offset");
    for (number, entry) in index.iter().enumerate() {
        let blocks = &blocks[2 * number..2 * number + 2];
        assert_eq!((entry.blocks, entry.records), (2, blocks.iter().map(|block| block.len() as u64).sum()));
        // What comes before the first block makes any part of the file that begins with a block a capture.
        let from = usize::try_from(entry.offset).expect("an offset");
        let part = [&bytes[..start], &bytes[from..]].concat();
        let mut reader = CaptureReader::new(part.as_slice(), "part").expect("a capture");
        let mut batch = BatchBuf::default();
        reader.poll(&mut batch, None).expect("readable");
        reader.poll(&mut batch, None).expect("readable");
        let batch = batch.take();
        let records: Vec<_> = batch.records().map(|record| record.expect("whole").bytes().to_vec()).collect();
        assert_eq!(records, blocks.concat());
        let times = || batch.records().map(|record| record.expect("whole").header().ktime_ns);
        assert_eq!((Some(entry.first_ktime_ns), Some(entry.last_ktime_ns)), (times().min(), times().max()));
    }
}

/// Gives one byte at a time, and is interrupted before each.
struct Trickle<R>(R, bool);

impl<R: Read> Read for Trickle<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = buf.len().min(1);
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn a_pipe_will_do() {
    let blocks = [every_kind(), every_kind()];
    let bytes = capture_of(&blocks, Some(&[]));
    let contents = read_all(Trickle(bytes.as_slice(), false)).expect("a capture");
    assert_eq!(contents.records, blocks.concat());
    assert_eq!(contents.damage, []);
}

#[test]
fn the_books_are_those_of_the_source() {
    let submitted = |submitted, lost| ProbeRow {
        probe: "syscall".to_owned(),
        cpu: Some(1),
        submitted,
        lost,
        sampled_out: 9,
    };
    let records: Vec<_> = (0..7).map(|seq| record(Kind::SYSCALL, 1, seq, &[0_u8; 32])).collect();
    // All that the source submitted is there: its own rows.
    let bytes = capture_of(std::slice::from_ref(&records), Some(&[submitted(12, 5)]));
    assert_eq!(read_all(bytes.as_slice()).expect("a capture").probes, [submitted(12, 5)]);
    // Three did not reach the file, because a queue before it was full, say: to a reader they are lost.
    let bytes = capture_of(&[records], Some(&[submitted(15, 5)]));
    assert_eq!(read_all(bytes.as_slice()).expect("a capture").probes, [submitted(15, 8)]);
}

/// What a spill kept of an earlier run, which had other clocks or was even of another boot.
#[test]
fn a_capture_has_the_records_of_its_own_stream() {
    let records = every_kind();
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    let id = BatchId::default();
    let earlier = StreamInfo { boot: BootId(7), ..info() };
    let later = StreamInfo { clocks: Clocks { monotonic_ns: 7, ..info().clocks }, ..info() };
    for other in [earlier, later] {
        let batch = batch_of(&records).labelled(id, &Arc::new(other));
        let error = writer.write(&batch).expect_err("they are of another stream");
        assert!(matches!(error, SinkError::Lossy(_)), "{error}");
    }
    writer.write(&batch_of(&records).labelled(id, &Arc::new(info()))).expect("memory takes it");
    writer.flush().expect("memory takes it");
    let (row, count) = (writer.row(), records.len() as u64);
    assert_eq!((row.received, row.delivered), (3 * count, count));
    assert_eq!(row.dropped, BTreeMap::from([("other_stream".to_owned(), 2 * count)]));
    drop(writer);
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!((contents.records, contents.dropped), (records, 2 * count));
}

#[test]
fn what_is_in_no_sum_is_known_to_whoever_reads() {
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    writer.finish(&Ledger::default().with_uncounted(17), None).expect("memory takes it");
    drop(writer);
    let mut run =
        Pipeline::builder(CaptureReader::new(std::io::Cursor::new(bytes), "x.kcap").expect("a capture"))
            .build()
            .expect("threads");
    while run.step().expect("memory gives it").end.is_none() {}
    let finished = run.finish();
    assert_eq!((finished.ledger.uncounted, finished.ledger.balance), (17, 0));
    assert_eq!(finished.incomplete, None);
}

#[test]
fn without_a_trailer_the_books_follow_from_the_records() {
    let records = every_kind();
    let contents = read_all(capture_of(&[records], None).as_slice()).expect("a capture");
    let lost: Vec<_> = contents.probes.iter().filter(|row| row.lost > 0).collect();
    let expected =
        ProbeRow { probe: "syscall".to_owned(), cpu: Some(1), submitted: 7, lost: 5, sampled_out: 0 };
    assert_eq!(lost, [&expected]);
    assert_eq!(contents.probes.iter().map(|row| row.submitted).sum::<u64>(), 18 + 5);
    let user = contents.probes.iter().find(|row| row.probe == "kind-0x0f03").expect("a user's own kind");
    assert_eq!((user.cpu, user.submitted), (Some(0), 1));
}

#[test]
fn what_comes_after_the_end_is_dropped() {
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    writer.write(&batch_of(&every_kind())).expect("memory takes it");
    writer.finish(&Ledger::default(), None).expect("memory takes it");
    writer.write(&batch_of(&every_kind()[..3])).expect("dropped");
    writer.flush().expect("nothing to write");
    writer.finish(&Ledger::default(), None).expect("it is finished");
    let row = writer.row();
    assert_eq!((row.received, row.delivered), (21, 18));
    assert_eq!(row.dropped.into_iter().collect::<Vec<_>>(), [("finished".to_owned(), 3)]);
    drop(writer);
    assert_eq!(bytes, capture_of(&[every_kind()], Some(&[])));
}

#[test]
fn stopped_in_the_middle() {
    let bytes = capture_of(&[every_kind(), every_kind()], Some(&[]));
    let mut reader = CaptureReader::new(bytes.as_slice(), "x.kcap").expect("a capture");
    let mut batch = BatchBuf::default();
    assert!(!reader.poll(&mut batch, None).expect("readable").end);
    assert_eq!(reader.incomplete(), None);
    reader.stop();
    assert!(reader.poll(&mut batch, None).expect("readable").end);
    assert_eq!(batch.take().records().count(), 18);
    let submitted_less_lost: u64 = reader.probes().iter().map(|row| row.submitted - row.lost).sum();
    assert_eq!(submitted_less_lost, 18);
    let at = reader.index()[0].offset;
    let reason = reader.incomplete().expect("it was stopped");
    assert!(reason.starts_with("x.kcap: reading was stopped at byte "), "{reason}");
    assert!(reason.rsplit(' ').next().expect("a number").parse::<u64>().expect("a number") > at);
}

#[test]
fn a_recording_of_what_was_not_whole_says_so() {
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    writer.finish(&Ledger::default(), Some("old.kcap: was torn")).expect("memory takes it");
    drop(writer);
    let mut reader = CaptureReader::new(bytes.as_slice(), "new.kcap").expect("a capture");
    assert!(reader.poll(&mut BatchBuf::default(), None).expect("readable").end);
    assert_eq!(reader.incomplete().as_deref(), Some("new.kcap: old.kcap: was torn"));
}

#[test]
fn what_is_said_to_be_complete_is() {
    let same_time = vec![record(Kind::META_MARKER, 0, 7, &[0_u64]); 2];
    let bytes = capture_of(&[same_time.clone(), same_time], Some(&[]));
    let mut reader = CaptureReader::new(bytes.as_slice(), "test.kcap").expect("a capture");
    let mut batch = BatchBuf::default();
    let polled = reader.poll(&mut batch, None).expect("readable");
    let time = batch.take().records().next().expect("a record").expect("whole").header().ktime_ns;
    assert_eq!(
        (polled.complete_until_ns, polled.end),
        (time - 1, false),
        "the next block has records of that time"
    );
}

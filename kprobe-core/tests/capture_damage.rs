//! Damage at every byte: nothing is given that was not written, every block that is whole is given, and what is missing
//! is reported.

mod capture_support;

use std::ops::Range;

use capture_support::{Contents, capture_of, every_kind, info, probes_of, read_all, record};
use kprobe_core::{
    abi::Kind,
    capture::{Cause, OpenError, Problem},
    pipeline::ProbeRow,
};

const HEAD: usize = 16;
const CHUNK_HEADER: usize = 72;

/// A small capture and what is where in it.
struct Sample {
    bytes: Vec<u8>,
    blocks: Vec<Vec<Vec<u8>>>,
    probes: Vec<ProbeRow>,
    /// Where each block is, in order.
    ranges: Vec<Range<usize>>,
    infos: [Range<usize>; 2],
    trailer: Range<usize>,
}

impl Sample {
    fn new() -> Self {
        let kinds = every_kind();
        let twins = vec![record(Kind::SYSCALL, 1, 40, &[0_u8; 32]); 5];
        let blocks = vec![kinds[..6].to_vec(), kinds[6..11].to_vec(), twins, kinds[11..].to_vec()];
        let probes = probes_of(&blocks.concat());
        let bytes = capture_of(&blocks, Some(&probes));
        let mut chunks = Vec::new();
        let mut at = HEAD;
        while at < bytes.len() {
            let len = u32::from_le_bytes(*bytes[at + 40..].first_chunk().expect("a header"));
            let end = at + CHUNK_HEADER + len as usize;
            chunks.push(at..end);
            at = end;
        }
        let [first, second, ranges @ .., trailer, _] = chunks.as_slice() else {
            panic!("two infos, blocks, a trailer and an end");
        };
        let (infos, trailer) = ([first.clone(), second.clone()], trailer.clone());
        let ranges = ranges.to_vec();
        assert_eq!(ranges.len(), blocks.len());
        Self { bytes, blocks, probes, ranges, infos, trailer }
    }

    /// The block with the byte `at` in it.
    fn block_at(&self, at: usize) -> Option<usize> {
        self.ranges.iter().position(|range| range.contains(&at))
    }

    /// The records of all blocks but those.
    fn records_without(&self, damaged: Option<usize>) -> Vec<Vec<u8>> {
        let whole = self.blocks.iter().enumerate().filter(|(number, _)| Some(*number) != damaged);
        whole.flat_map(|(_, records)| records.clone()).collect()
    }

    fn lost(&self, damaged: Option<usize>) -> u64 {
        damaged.map_or(0, |block| self.blocks[block].len() as u64)
    }

    /// Asserts all there is to say of a copy whose byte `at` was changed, deleted or pushed aside, which costs the
    /// block `damaged` or no block at all.
    fn check(&self, what: &str, at: usize, bytes: &[u8], damaged: Option<usize>) {
        let what = format!("{what} {at}");
        let result = read_all(bytes);
        if bytes[..8] != self.bytes[..8] {
            let problem = result.map_err(|error| error.problem);
            assert!(matches!(problem, Err(Problem::NotACapture { .. })), "{what}: {problem:?}");
            return;
        }
        let contents = result.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(contents.info, info(), "{what}");
        assert_eq!(contents.records, self.records_without(damaged), "{what}");
        let [damage] = contents.damage.as_slice() else {
            panic!("{what}: {:?}", contents.damage);
        };
        assert_eq!(damage.records, Some(self.lost(damaged)), "{what}: {damage:?}");
        let (start, end) = (damage.offset, damage.offset + damage.length);
        assert!((start..=end).contains(&(at as u64)), "{what}: {damage:?}");
        if let Some(block) = damaged {
            let range = &self.ranges[block];
            let moved = bytes.len() as u64 + range.end as u64 - self.bytes.len() as u64;
            assert_eq!((start, end), (range.start as u64, moved), "{what}: {damage:?}");
        }
        if contents.trailer.is_some() {
            let rows = |rows: &[ProbeRow]| rows.iter().map(|row| row.submitted).sum::<u64>();
            assert_eq!(rows(&contents.probes), rows(&self.probes), "{what}: what is missing is lost");
        }
        if damaged.is_none() && contents.trailer.is_some() {
            assert_eq!(contents.probes, self.probes, "{what}");
        }
    }
}

#[test]
fn every_byte_changed() {
    let sample = Sample::new();
    for at in 0..sample.bytes.len() {
        for mask in [1, 0x40, 0xff] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= mask;
            sample.check("changed", at, &bytes, sample.block_at(at));
        }
    }
}

#[test]
fn every_byte_deleted() {
    let sample = Sample::new();
    for at in 0..sample.bytes.len() {
        let mut bytes = sample.bytes.clone();
        let byte = bytes.remove(at);
        // Of a run of equal bytes any may be the one that is gone, so the last.
        let run = sample.bytes[at..].iter().take_while(|other| **other == byte).count();
        let at = at + run - 1;
        sample.check("deleted", at, &bytes, sample.block_at(at));
    }
}

#[test]
fn a_byte_inserted_everywhere() {
    let sample = Sample::new();
    for at in 0..=sample.bytes.len() {
        let mut bytes = sample.bytes.clone();
        bytes.insert(at, sample.bytes.get(at).map_or(0x55, |byte| !byte));
        let between = sample.ranges.iter().any(|range| range.start == at);
        sample.check("inserted at", at, &bytes, sample.block_at(at).filter(|_| !between));
    }
}

#[test]
fn cut_at_every_byte() {
    let sample = Sample::new();
    let first = sample.infos[0].end;
    for at in 0..sample.bytes.len() {
        let result = read_all(&sample.bytes[..at]);
        if at < first {
            let error = result.expect_err("no header").problem;
            match (at, error) {
                (0, Problem::Empty) => (),
                (_, Problem::Truncated { length }) if length == at as u64 => (),
                (_, error) => panic!("cut at {at}: {error:?}"),
            }
            continue;
        }
        let contents = result.unwrap_or_else(|error| panic!("cut at {at}: {error}"));
        let whole = sample.ranges.iter().filter(|range| range.end <= at).count();
        assert_eq!(contents.records, sample.blocks[..whole].concat(), "cut at {at}");
        check_tail(&sample, at, &contents);
    }
}

/// The one damage of a capture that was cut at `at` says where the last whole chunk ends, and what is known.
fn check_tail(sample: &Sample, at: usize, contents: &Contents) {
    let [damage] = contents.damage.as_slice() else {
        panic!("cut at {at}: {:?}", contents.damage);
    };
    let ends = [HEAD, sample.infos[0].end, sample.infos[1].end]
        .into_iter()
        .chain(sample.ranges.iter().map(|range| range.end))
        .chain([sample.trailer.end]);
    let start = ends.filter(|end| *end <= at).max().expect("the head is there");
    assert_eq!((damage.offset, damage.length), (start as u64, (at - start) as u64), "cut at {at}");
    assert_eq!(damage.cause, if start == at { Cause::Unfinished } else { Cause::Cut }, "cut at {at}");
    let known = match () {
        () if at >= sample.trailer.end => Some(0),
        () if at - start < CHUNK_HEADER => None,
        () => Some(sample.lost(sample.block_at(start))),
    };
    assert_eq!(damage.records, known, "cut at {at}");
    assert_eq!(contents.trailer.is_some(), at >= sample.trailer.end);
    let missing = contents.probes.iter().find(|row| row.probe == "capture.missing");
    assert_eq!(missing.map_or(0, |row| row.lost), known.unwrap_or(0), "cut at {at}");
}

#[test]
fn two_blocks_in_a_row_are_one_damage() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    bytes[sample.ranges[1].start] ^= 1;
    bytes[sample.ranges[2].end - 1] ^= 1;
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!(contents.records, [&sample.blocks[0][..], &sample.blocks[3]].concat());
    let [damage] = contents.damage.as_slice() else { panic!("{:?}", contents.damage) };
    assert_eq!((damage.records, damage.cause), (Some(10), Cause::NotAChunk));
    let range = sample.ranges[1].start..sample.ranges[2].end;
    assert_eq!((damage.offset, damage.length), (range.start as u64, range.len() as u64));
    assert_eq!(
        damage.to_string(),
        format!("bytes {}..{}: not a chunk of a capture; 10 records are missing", range.start, range.end)
    );
}

#[test]
fn what_is_missing_is_lost_by_kind_and_cpu() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    bytes[sample.ranges[2].start + 80] ^= 1;
    let probes = read_all(bytes.as_slice()).expect("a capture").probes;
    let mut expected = sample.probes.clone();
    for row in expected.iter_mut().filter(|row| row.probe == "syscall" && row.cpu == Some(1)) {
        row.lost += 5;
    }
    assert_eq!(probes, expected);
}

#[test]
fn a_block_taken_out_or_put_in_twice_is_noticed() {
    let sample = Sample::new();
    let range = sample.ranges[1].clone();
    let mut bytes = sample.bytes.clone();
    bytes.drain(range.clone());
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!(contents.records, sample.records_without(Some(1)));
    let [damage] = contents.damage.as_slice() else { panic!("{:?}", contents.damage) };
    assert_eq!((damage.offset, damage.length), (range.start as u64, 0));
    assert_eq!((damage.records, damage.cause), (Some(5), Cause::Missing));

    let mut bytes = sample.bytes.clone();
    bytes.splice(range.end..range.end, sample.bytes[range.clone()].to_vec());
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!(contents.records, sample.records_without(None));
    let [damage] = contents.damage.as_slice() else { panic!("{:?}", contents.damage) };
    assert_eq!((damage.offset, damage.length), (range.end as u64, range.len() as u64));
    assert_eq!((damage.records, damage.cause), (Some(0), Cause::Misplaced));
}

#[test]
fn blocks_of_another_capture_are_not_taken() {
    let sample = Sample::new();
    let mut other = info();
    other.host = "db-2".to_owned();
    let mut bytes = Vec::new();
    let writer = kprobe_core::capture::CaptureWriter::new(&mut bytes, &other).expect("memory takes it");
    drop(writer);
    let start = bytes.len();
    bytes.extend_from_slice(&sample.bytes[sample.ranges[0].start..]);
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!(contents.records, Vec::<Vec<u8>>::new());
    let causes: Vec<_> = contents.damage.iter().map(|damage| (damage.offset, damage.cause)).collect();
    assert_eq!(causes, [(start as u64, Cause::Misplaced), (bytes.len() as u64, Cause::Unfinished)]);
}

/// The sample with these bytes of its second block's header set, checksum and all.
fn with_header(sample: &Sample, field: Range<usize>, value: u64) -> Vec<u8> {
    let mut bytes = sample.bytes.clone();
    let header = &mut bytes[sample.ranges[1].start..][..CHUNK_HEADER];
    let len = field.len();
    header[field].copy_from_slice(&value.to_le_bytes()[..len]);
    let checksum = crc32fast::hash(&header[..68]);
    header[68..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_header_that_lies() {
    let sample = Sample::new();
    let times = |records: &[Vec<u8>]| {
        let time = |record: &Vec<u8>| u64::from_le_bytes(*record.first_chunk().expect("a header"));
        (records.iter().map(time).min(), records.iter().map(time).max())
    };
    let (Some(first), Some(last)) = times(&sample.blocks[1]) else { panic!("it has records") };
    let raw_len = 700;
    let cases = [
        ("records, more", 32..36, 6, Cause::Contents),
        ("records, fewer", 32..36, 4, Cause::Contents),
        ("records, none", 32..36, 0, Cause::NotAChunk),
        ("raw_len, more", 36..40, raw_len, Cause::Contents),
        ("raw_len, less", 36..40, 8, Cause::Contents),
        ("raw_len, too much", 36..40, (256 << 10) + 1, Cause::NotAChunk),
        ("len, too much", 40..44, (320 << 10) + 1, Cause::NotAChunk),
        ("first_ktime_ns", 48..56, first - 1, Cause::Contents),
        ("last_ktime_ns", 56..64, last + 1, Cause::Contents),
        ("stream", 12..16, 0, Cause::Misplaced),
        ("kind, unknown", 8..10, 5, Cause::NotAChunk),
        ("kind, end", 8..10, 4, Cause::NotAChunk),
        ("first_record, before", 16..24, 5, Cause::Misplaced),
        ("first_record, absurd", 16..24, u64::MAX, Cause::Misplaced),
        ("dropped, absurd", 24..32, u64::MAX, Cause::Misplaced),
    ];
    for (what, field, value, cause) in cases {
        let contents = read_all(with_header(&sample, field, value).as_slice()).expect("a capture");
        assert_eq!(contents.records, sample.records_without(Some(1)), "{what}");
        let [damage] = contents.damage.as_slice() else { panic!("{what}: {:?}", contents.damage) };
        let range = &sample.ranges[1];
        assert_eq!((damage.offset, damage.length), (range.start as u64, range.len() as u64), "{what}");
        assert_eq!((damage.records, damage.cause), (Some(5), cause), "{what}");
    }
}

#[test]
fn a_trailer_that_cannot_be_added_up() {
    let row = |cpu, submitted, lost| ProbeRow {
        probe: "syscall".to_owned(),
        cpu: Some(cpu),
        submitted,
        lost,
        sampled_out: 0,
    };
    let too_many = [row(0, u64::MAX / 2 + 1, 0), row(1, u64::MAX / 2 + 1, 0)];
    // As many as were read, if what was lost too much were not noticed.
    let more_lost = [row(0, every_kind().len() as u64, 0), row(1, 1, 5)];
    for probes in [too_many, more_lost] {
        let bytes = capture_of(&[every_kind()], Some(&probes));
        let contents = read_all(bytes.as_slice()).expect("a capture");
        assert_eq!((contents.records, contents.trailer), (every_kind(), None));
        let [damage] = contents.damage.as_slice() else { panic!("{:?}", contents.damage) };
        assert_eq!((damage.records, damage.cause), (Some(0), Cause::Contents));
    }
}

#[test]
fn damaged_and_cut_off() {
    let sample = Sample::new();
    let last = sample.ranges[3].clone();
    let mut bytes = sample.bytes[..last.end].to_vec();
    bytes[last.end - 1] ^= 1;
    let damages = |bytes: &[u8]| {
        let contents = read_all(bytes).expect("a capture");
        assert_eq!(contents.records, sample.records_without(Some(3)));
        let damages = contents.damage.iter();
        damages.map(|damage| (damage.offset, damage.records, damage.cause)).collect::<Vec<_>>()
    };
    let (start, end) = (last.start as u64, last.end as u64);
    let lost = Some(sample.lost(Some(3)));
    assert_eq!(damages(&bytes), [(start, lost, Cause::Checksum), (end, None, Cause::Unfinished)]);
    // A byte more may be the beginning of another block.
    bytes.push(0);
    assert_eq!(damages(&bytes), [(start, None, Cause::Checksum), (end + 1, None, Cause::Unfinished)]);
}

#[test]
fn both_headers_damaged() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    for range in &sample.infos {
        bytes[range.end - 1] ^= 1;
    }
    let error = read_all(bytes.as_slice()).expect_err("no header");
    assert!(matches!(error, OpenError { problem: Problem::DamagedHeader, .. }), "{error:?}");
}

#[test]
fn bytes_behind_the_end() {
    let sample = Sample::new();
    let bytes = [&sample.bytes[..], &sample.bytes].concat();
    let contents = read_all(bytes.as_slice()).expect("a capture");
    assert_eq!(contents.records, sample.records_without(None));
    assert_eq!(contents.probes, sample.probes);
    let [damage] = contents.damage.as_slice() else { panic!("{:?}", contents.damage) };
    let len = sample.bytes.len() as u64;
    assert_eq!((damage.offset, damage.length, damage.records), (len, len, Some(0)));
}

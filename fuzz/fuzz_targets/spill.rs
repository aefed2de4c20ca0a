//! Spill directories made of anything. The first byte says how the rest becomes files: checksums would keep the fuzzer out of
//! everything behind them, so two of the three ways set them right.

#![no_main]

#[path = "../../kprobe-core/tests/spill_support/mod.rs"]
mod spill_support;

use std::sync::LazyLock;

use kprobe_core::{
    pipeline::Batch,
    spill::{Spill, SpillLimits},
};
use libfuzzer_sys::fuzz_target;
use spill_support::{Files, Memory, PLENTY, batch, number_of, plain, stream};

const SEGMENT: &str = "kprobe-spill-00000000000000000000.seg";
const ACK: &str = "kprobe-spill.ack";
const BATCHES: u64 = 8;

/// Eight batches in three segments, two of them acknowledged.
static WHOLE: LazyLock<Files> = LazyLock::new(|| {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    for number in 0..BATCHES {
        spill.append(&batch(number, &stream(if number == 4 { 9 } else { 4 }))).expect("room");
    }
    for _ in 0..2 {
        spill.next().expect("readable").expect("a batch");
        spill.ack(spill.position()).expect("writable");
    }
    disk.files()
});

/// The beginning of a segment, in front of its first batch.
static START: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = &WHOLE[SEGMENT];
    let len = u32::from_le_bytes(*file[84..].first_chunk().expect("an info")) as usize;
    file[..16 + 2 * (80 + len)].to_vec()
});

fuzz_target!(|input: &[u8]| {
    let Some((way, rest)) = input.split_first() else {
        return;
    };
    match way % 3 {
        0 => of_bytes(rest),
        1 => of_frames(rest),
        _ => of_changes(rest),
    }
});

/// Opens the directory, reads all, and opens it again: it must be the same, and go on. Gives what was read.
fn read(files: Files) -> Vec<Batch> {
    let disk = Memory::with(files);
    let limits = SpillLimits { max_bytes: u64::MAX, ..PLENTY };
    let Ok(mut spill) = Spill::on(disk.clone(), limits) else {
        return Vec::new();
    };
    for damage in &spill.recovered().damage {
        assert_eq!(damage.to_string().lines().count(), 1);
    }
    let all = |spill: &mut Spill<Memory>| {
        let held = spill.held();
        let mut batches = Vec::new();
        while let Some(batch) = spill.next().expect("memory is readable") {
            batches.push(batch);
        }
        assert_eq!(spill.lost().batches + batches.len() as u64, held.batches);
        assert_eq!(spill.unread(), Default::default());
        batches
    };
    let batches = all(&mut spill);
    assert_eq!(spill.bytes(), disk.bytes());
    // At the highest positions there are, no more can be appended.
    let more = spill.append(&plain(99)).is_ok();
    drop(spill);
    let mut spill = Spill::on(disk, limits).expect("it was opened before");
    let again = all(&mut spill);
    assert_eq!(again.len(), batches.len() + usize::from(more));
    for (again, batch) in again.iter().zip(&batches) {
        spill_support::assert_same(again, batch);
    }
    batches
}

/// Any bytes as a segment, and the last 1,024 of them also as the acknowledgement.
fn of_bytes(bytes: &[u8]) {
    let ack = &bytes[bytes.len().saturating_sub(1024)..];
    let files = [(SEGMENT, bytes), (ACK, ack)];
    drop(read(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()));
}

/// A segment's beginning, then frames: from the input 12 bytes of what a header says, and a payload before compression; the
/// checksums are set right.
fn of_frames(mut input: &[u8]) {
    let mut file = START.clone();
    let stream = file[16 + 12..16 + 16].to_vec();
    let mut position = [0_u64; 2];
    while let Some((header, rest)) = input.split_first_chunk::<12>() {
        let len = usize::from(u16::from_le_bytes([header[0], header[1]])).min(rest.len());
        let (raw, rest) = rest.split_at(len);
        input = rest;
        let payload = literals(raw);
        let records = u32::from(header[2]);
        let frames_len = u32::from(u16::from_le_bytes([header[3], header[4]]));
        let mut frame = vec![0; 80];
        frame[..8].copy_from_slice(b"\xf1ksplv1\n");
        frame[8] = 2;
        frame[10] = header[5] & 1;
        frame[12..16].copy_from_slice(&stream);
        position[0] += u64::from(header[6] % 3);
        frame[16..24].copy_from_slice(&position[0].to_le_bytes());
        frame[24..32].copy_from_slice(&position[1].to_le_bytes());
        frame[32..36].copy_from_slice(&header[7..11]);
        frame[56..60].copy_from_slice(&records.to_le_bytes());
        frame[60..64].copy_from_slice(&frames_len.to_le_bytes());
        frame[64..68].copy_from_slice(&(raw.len() as u32 + u32::from(header[11] % 64 == 63)).to_le_bytes());
        frame[68..72].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        frame[72..76].copy_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        let checksum = crc32fast::hash(&frame[..76]);
        frame[76..].copy_from_slice(&checksum.to_le_bytes());
        file.extend_from_slice(&frame);
        file.extend_from_slice(&payload);
        position = [position[0] + 1, position[1] + u64::from(records)];
    }
    for batch in read([(SEGMENT.to_owned(), file)].into()) {
        // Whatever the contexts say, each is of a record.
        assert!(batch.enriched().count() <= 255);
    }
}

/// These bytes as an LZ4 block that compresses nothing.
fn literals(raw: &[u8]) -> Vec<u8> {
    let Some(mut more) = raw.len().checked_sub(15) else {
        return [&[(raw.len() as u8) << 4], raw].concat();
    };
    let mut block = vec![0xf0];
    while more >= 255 {
        block.push(255);
        more -= 255;
    }
    block.push(more as u8);
    block.extend_from_slice(raw);
    block
}

/// Changes of a real directory, five bytes each: in which file, where, what and with which byte. What is read then is some
/// of the batches, in order.
fn of_changes(changes: &[u8]) {
    let mut files = WHOLE.clone();
    let names: Vec<String> = files.keys().cloned().collect();
    for change in changes.chunks_exact(5).take(64) {
        let Some(file) = files.get_mut(&names[usize::from(change[0]) % names.len()]) else {
            continue;
        };
        let at = usize::from(u16::from_le_bytes([change[1], change[2]]));
        if file.is_empty() {
            continue;
        }
        let at = at % file.len();
        match change[3] % 5 {
            0 => file[at] = change[4],
            1 => file.insert(at, change[4]),
            2 => drop(file.remove(at)),
            3 => file.truncate(at),
            _ => drop(file.drain(at..(at + usize::from(change[4])).min(file.len()))),
        }
    }
    let numbers: Vec<u64> = read(files).iter().map(number_of).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order or twice: {numbers:?}");
    assert!(numbers.iter().all(|number| *number < BATCHES));
}

//! Captures made of anything. The first byte says how the rest becomes a file: checksums would keep the fuzzer out of
//! everything behind them, so two of the three ways set them right.

#![no_main]

#[path = "../../kprobe-core/tests/capture_support/mod.rs"]
mod capture_support;

use std::sync::LazyLock;

use capture_support::{Contents, capture_of, every_kind, probes_of, read_all};
use libfuzzer_sys::fuzz_target;

/// A finished capture of three blocks, and one with nothing but its header.
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let kinds = every_kind();
    let blocks = [kinds[..6].to_vec(), kinds[6..12].to_vec(), kinds[12..].to_vec()];
    capture_of(&blocks, Some(&probes_of(&kinds)))
});
static START: LazyLock<Vec<u8>> = LazyLock::new(|| capture_of(&[], None));

fuzz_target!(|input: &[u8]| {
    let Some((way, rest)) = input.split_first() else {
        return;
    };
    match way % 3 {
        0 => drop(read(rest)),
        1 => drop(read(&of_chunks(rest))),
        _ => of_changes(rest),
    }
});

fn read(file: &[u8]) -> Option<Contents> {
    let contents = read_all(file).ok()?;
    let mut end = 0;
    for damage in &contents.damage {
        assert!(damage.offset >= end, "in the order of the file");
        end = damage.offset + damage.length;
        assert!(end <= file.len() as u64, "within the file");
        assert_eq!(damage.to_string().lines().count(), 1);
    }
    let complete = contents.trailer.is_some() && contents.damage.is_empty();
    if complete {
        assert_eq!(
            contents.records.len() as u64,
            contents.index.iter().map(|entry| entry.records).sum::<u64>()
        );
    }
    Some(contents)
}

/// A capture's header, then chunks: from the input 56 bytes of header behind the magic, a length and a payload; the
/// stream and the checksums are set right.
fn of_chunks(mut input: &[u8]) -> Vec<u8> {
    let mut file = START.clone();
    let stream = file[28..32].to_vec();
    while let Some((header, rest)) = input.split_first_chunk::<58>() {
        let len = usize::from(u16::from_le_bytes([header[56], header[57]])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        input = rest;
        let mut chunk = [b"\xf1kcapv1\n", &header[..56], &[0; 8]].concat();
        chunk[8..10].copy_from_slice(&u16::from(header[0] % 5).to_le_bytes());
        chunk[12..16].copy_from_slice(&stream);
        chunk[40..44].copy_from_slice(&(len as u32).to_le_bytes());
        chunk[44..48].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        let checksum = crc32fast::hash(&chunk[..68]);
        chunk[68..72].copy_from_slice(&checksum.to_le_bytes());
        file.extend_from_slice(&chunk);
        file.extend_from_slice(payload);
    }
    file
}

/// Changes of a real capture, four bytes each: where, what and with which byte. What is read then is some of the records,
/// in order, and whatever is missing was reported.
fn of_changes(changes: &[u8]) {
    let mut file = WHOLE.clone();
    for change in changes.chunks_exact(4).take(64) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if file.is_empty() {
            break;
        }
        let at = at % file.len();
        match change[2] % 5 {
            0 => file[at] = change[3],
            1 => file.insert(at, change[3]),
            2 => drop(file.remove(at)),
            3 => file.truncate(at),
            _ => drop(file.drain(at..(at + usize::from(change[3])).min(file.len()))),
        }
    }
    let Some(contents) = read(&file) else {
        return;
    };
    let written = every_kind();
    let mut rest = written.iter();
    for record in &contents.records {
        assert!(rest.any(|written| written == record), "a record that was not written, or out of order");
    }
    let missing = (written.len() - contents.records.len()) as u64;
    let known: u64 = contents.damage.iter().filter_map(|damage| damage.records).sum();
    if contents.trailer.is_some() {
        assert!(contents.damage.iter().all(|damage| damage.records.is_some()), "{:?}", contents.damage);
        assert_eq!(known, missing, "{:?}", contents.damage);
    } else {
        assert!(known <= missing && !contents.damage.is_empty(), "{:?}", contents.damage);
    }
}

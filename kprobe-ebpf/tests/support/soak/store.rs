//! What arrived at a destination: a file with an entry for each batch, in the order of arrival.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufReader, Read, Write},
    path::Path,
};

use kprobe_core::{
    abi::Kind,
    decode::{Frames, Record},
    pipeline::BatchId,
};

/// A batch as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: BatchId,
    pub records: u64,
    /// Those of the records that are system calls.
    pub calls: u64,
    /// Of every byte of every record, whatever their order is.
    pub sum: u64,
}

const BYTES: usize = 48;

impl Entry {
    /// Looks at every record.
    pub fn of(id: BatchId, frames: &[u8]) -> Self {
        let mut entry = Self { id, records: 0, calls: 0, sum: 0 };
        for record in Frames::new(frames) {
            let record = record.unwrap();
            entry.records += 1;
            entry.calls += u64::from(record.kind() == Kind::SYSCALL);
            entry.sum = entry.sum.wrapping_add(hash(record));
        }
        entry
    }

    fn bytes(self) -> [u8; BYTES] {
        let Self { id: BatchId { run, seq }, records, calls, sum } = self;
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&run.to_le_bytes());
        for (place, number) in bytes[16..].chunks_exact_mut(8).zip([seq, records, calls, sum]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8; BYTES]) -> Self {
        let (run, rest) = bytes.split_first_chunk().unwrap();
        let mut numbers = rest.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let mut next = || numbers.next().unwrap();
        let id = BatchId { run: u128::from_le_bytes(*run), seq: next() };
        Self { id, records: next(), calls: next(), sum: next() }
    }
}

/// A record is a multiple of 8 bytes long.
fn hash(record: Record<'_>) -> u64 {
    let words = record.bytes().chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.fold(0, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// Appends, an entry in one `write`: whoever is killed has written a whole one or none.
pub struct Store(File);

impl Store {
    pub fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    pub fn add(&mut self, entry: Entry) {
        self.0.write_all(&entry.bytes()).unwrap();
    }
}

/// Everything in a store.
#[derive(Debug, Default)]
pub struct Received {
    /// By the place of the batch in the stream.
    pub batches: BTreeMap<u64, Entry>,
    /// Entries of batches that were there already, and were the same.
    pub again: u64,
    /// Entries of another run, and those of a batch that was there already and differed.
    pub wrong: Vec<Entry>,
}

impl Received {
    pub fn read(path: &Path) -> Self {
        let mut received = Self::default();
        let mut file = BufReader::new(File::open(path).unwrap());
        let mut run = None;
        let mut bytes = [0; BYTES];
        loop {
            match file.read(&mut bytes[..1]).unwrap() {
                0 => return received,
                _ => file.read_exact(&mut bytes[1..]).unwrap(),
            }
            let entry = Entry::read(&bytes);
            let is_ours = *run.get_or_insert(entry.id.run) == entry.id.run;
            match received.batches.get(&entry.id.seq) {
                _ if !is_ours => received.wrong.push(entry),
                Some(before) if *before == entry => received.again += 1,
                Some(_) => received.wrong.push(entry),
                None => {
                    received.batches.insert(entry.id.seq, entry);
                }
            }
        }
    }

    pub fn records(&self) -> u64 {
        self.batches.values().map(|entry| entry.records).sum()
    }

    pub fn calls(&self) -> u64 {
        self.batches.values().map(|entry| entry.calls).sum()
    }
}

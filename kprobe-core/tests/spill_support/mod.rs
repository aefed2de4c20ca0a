//! What the tests of the spill share: a disk in memory that fills up, fails and remembers, and batches to put on it.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

#[path = "../capture_support/mod.rs"]
mod capture_support;

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc, sync::Arc};

pub(crate) use capture_support::{every_kind, info};
use kprobe_core::{
    decode::Record,
    event::{Comm, ProcessKey, Tgid},
    pipeline::{Batch, BatchBuf, BatchId, Context, StreamInfo},
    spill::{Damage, Disk, Spill, SpillLimits},
};

/// What was done to the files of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create(String),
    Write(String, u64, Vec<u8>),
    Cut(String, u64),
    Remove(String),
    Rename(String, String),
}

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A directory in memory. Clones are the same directory.
#[derive(Clone)]
pub(crate) struct Memory(Rc<RefCell<State>>);

struct State {
    files: Files,
    changes: Vec<Change>,
    /// Bytes that all files together may have.
    space: usize,
    /// Nothing can be cut or deleted.
    stuck: bool,
    /// Nothing can be written.
    broken: bool,
    /// Nothing can be read.
    unreadable: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::with(Files::new())
    }

    pub(crate) fn with(files: Files) -> Self {
        let changes = Vec::new();
        let (space, stuck, broken, unreadable) = (usize::MAX, false, false, false);
        Self(Rc::new(RefCell::new(State { files, changes, space, stuck, broken, unreadable })))
    }

    pub(crate) fn files(&self) -> Files {
        self.0.borrow().files.clone()
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.borrow().changes.clone()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.borrow().files.values().map(|file| file.len() as u64).sum()
    }

    pub(crate) fn set_space(&self, space: usize) {
        self.0.borrow_mut().space = space;
    }

    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.0.borrow_mut().stuck = stuck;
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.0.borrow_mut().broken = broken;
    }

    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.0.borrow_mut().unreadable = unreadable;
    }

    /// Changes a file behind the spill's back.
    pub(crate) fn tamper(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
        how(self.0.borrow_mut().files.get_mut(name).expect("a file"));
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        apply(&mut state.files, &change, usize::MAX)?;
        state.changes.push(change);
        Ok(())
    }

    fn unless_stuck(&self) -> io::Result<()> {
        if self.0.borrow().stuck { Err(io::Error::other("stuck")) } else { Ok(()) }
    }
}

/// Makes a change, of a write so many bytes.
pub(crate) fn apply(files: &mut Files, change: &Change, bytes: usize) -> io::Result<()> {
    let there = |files: &Files, name: &String| match files.contains_key(name) {
        true => Ok(()),
        false => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    match change {
        Change::Create(name) => {
            if files.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            files.insert(name.clone(), Vec::new());
        }
        Change::Write(name, offset, written) => {
            there(files, name)?;
            let file = files.entry(name.clone()).or_default();
            let offset = usize::try_from(*offset).expect("a short file");
            assert!(offset <= file.len(), "{name}: no hole is written");
            let written = &written[..bytes.min(written.len())];
            let over = written.len().min(file.len() - offset);
            file[offset..offset + over].copy_from_slice(&written[..over]);
            file.extend_from_slice(&written[over..]);
        }
        Change::Cut(name, len) => {
            there(files, name)?;
            let file = files.entry(name.clone()).or_default();
            let len = usize::try_from(*len).expect("a short file");
            assert!(len <= file.len(), "{name}: it is only ever cut");
            file.truncate(len);
        }
        Change::Remove(name) => {
            there(files, name)?;
            files.remove(name);
        }
        Change::Rename(from, to) => {
            there(files, from)?;
            assert!(!files.contains_key(to), "{to}: nothing is overwritten");
            let file = files.remove(from).unwrap_or_default();
            files.insert(to.clone(), file);
        }
    }
    Ok(())
}

impl Disk for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.0.borrow().files.iter().map(|(name, file)| (name.clone(), file.len() as u64)).collect())
    }

    fn create(&mut self, file: &str) -> io::Result<()> {
        if self.0.borrow().broken {
            return Err(io::Error::other("broken"));
        }
        self.change(Change::Create(file.to_owned()))
    }

    fn read_at(&mut self, file: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.0.borrow();
        if state.unreadable {
            return Err(io::Error::other("unreadable"));
        }
        let file = state.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let rest = file.get(usize::try_from(offset).expect("a short file")..).unwrap_or_default();
        let len = buf.len().min(rest.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.0.borrow().broken {
            return Err(io::Error::other("broken"));
        }
        let grows = {
            let state = self.0.borrow();
            let len = state.files.get(file).map_or(0, Vec::len);
            (usize::try_from(offset).expect("a short file") + bytes.len()).saturating_sub(len)
        };
        let space =
            self.0.borrow().space.saturating_sub(usize::try_from(self.bytes()).expect("a short file"));
        let fits = bytes.len() - grows.saturating_sub(space);
        self.change(Change::Write(file.to_owned(), offset, bytes[..fits].to_vec()))?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn cut(&mut self, file: &str, len: u64) -> io::Result<()> {
        self.unless_stuck()?;
        self.change(Change::Cut(file.to_owned(), len))
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        self.unless_stuck()?;
        self.change(Change::Remove(file.to_owned()))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.unless_stuck()?;
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) const RUN: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

/// The description of a stream; different for each number.
pub(crate) fn stream(number: u16) -> Arc<StreamInfo> {
    Arc::new(StreamInfo { cpus: number, ..info() })
}

/// A batch of one to six records with contexts, different for each number.
pub(crate) fn batch(number: u64, stream: &Arc<StreamInfo>) -> Batch {
    let kinds = every_kind();
    let count = 1 + usize::try_from(number % 6).expect("small");
    let container: Arc<str> = format!("{:064x}", number / 3).into();
    let mut buf = BatchBuf::default();
    for (at, bytes) in
        kinds.iter().cycle().skip(usize::try_from(number % 18).expect("small")).take(count).enumerate()
    {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let context = Context {
            comm: Comm::from_text(format!("worker-{number}").as_bytes()),
            process: Some(ProcessKey::new(info().boot, Tgid(7), 10_000_000 * number)),
            parent: at.is_multiple_of(2).then_some(Tgid(1)),
            container: number.is_multiple_of(2).then(|| Arc::clone(&container)),
            ..Context::default()
        };
        buf.push_enriched(Record::new(&bytes).expect("a record"), &context);
    }
    buf.take().labelled(BatchId { run: RUN, seq: number }, stream)
}

/// A batch of the one stream.
pub(crate) fn plain(number: u64) -> Batch {
    batch(number, &stream(4))
}

/// The number that a batch was made with, if it still is that very batch.
pub(crate) fn number_of(found: &Batch) -> u64 {
    let number = found.id().expect("an id").seq;
    let stream = found.stream().expect("a stream");
    assert_same(found, &batch(number, &self::stream(stream.cpus)));
    number
}

/// The same in every respect.
pub(crate) fn assert_same(found: &Batch, expected: &Batch) {
    assert_eq!(found.bytes(), expected.bytes());
    assert_eq!(found.id(), expected.id());
    assert_eq!(found.stream(), expected.stream());
    let mut enriched = found.enriched();
    for expected in expected.enriched() {
        let found = enriched.next().expect("as many records");
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.record.bytes(), expected.record.bytes());
                assert_eq!(found.context, expected.context);
            }
            (found, expected) => assert_eq!(found.err(), expected.err()),
        }
    }
    assert!(enriched.next().is_none(), "no more records");
}

pub(crate) const PLENTY: SpillLimits = SpillLimits { max_bytes: 1 << 30, segment_bytes: 2_500 };

/// Reads to the end: the numbers of the batches.
pub(crate) fn read_all(spill: &mut Spill<impl Disk>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(batch) = spill.next().expect("readable") {
        numbers.push(number_of(&batch));
    }
    assert_eq!(spill.unread(), Default::default(), "all is read");
    numbers
}

/// All damage that is known.
pub(crate) fn damage_of(spill: &Spill<impl Disk>) -> Vec<Damage> {
    [&spill.recovered().damage, spill.damage()].concat()
}

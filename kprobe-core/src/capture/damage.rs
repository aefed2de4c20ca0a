use std::fmt;

use crate::file::Damaged;

/// Bytes of a capture that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where they start in the file.
    pub offset: u64,
    /// How many bytes; 0 if bytes are missing there.
    pub length: u64,
    /// Records that are missing for it; `None` if that cannot be known.
    pub records: Option<u64>,
    /// What is wrong with the first of the bytes.
    pub cause: Cause,
}

/// What is wrong with bytes of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The first bytes of the file do not match their checksum.
    Head,
    /// They are not a chunk: magic, lengths or checksum of the header are wrong.
    NotAChunk,
    /// The contents of a chunk do not match their checksum.
    Checksum,
    /// The contents match their checksum, but are not what the chunk should have.
    Contents,
    /// A chunk that does not belong there: of another capture, or there already, or behind the end.
    Misplaced,
    /// One or more whole blocks were taken out.
    Missing,
    /// The file ends in the middle of a chunk.
    Cut,
    /// The file ends where the next chunk should be: the recording was not finished.
    Unfinished,
}

impl Cause {
    const fn text(self) -> &'static str {
        match self {
            Self::Head => "the head of the file does not match its checksum",
            Self::NotAChunk => "not a chunk of a capture",
            Self::Checksum => "the contents do not match their checksum",
            Self::Contents => "the contents are not what their header says",
            Self::Misplaced => "a chunk that does not belong there",
            Self::Missing => "blocks were taken out there",
            Self::Cut => "the file ends in the middle of a chunk: the recording was cut off",
            Self::Unfinished => "the file ends without its trailer: the recording was cut off",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, length, records, cause, .. } = *self;
        Damaged { offset, length, cause, records }.fmt(f)
    }
}

/// More damages than this are not told apart: the last one grows.
const MAX_DAMAGES: usize = 1024;

/// Every damage so far, and the one being looked at.
#[derive(Debug, Default)]
pub(super) struct DamageLog {
    list: Vec<Damage>,
    open: Option<Open>,
}

/// Bytes that are no good, with their end not found yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    offset: u64,
    cause: Cause,
    /// Records in the bytes up to `known_until`.
    known: u64,
    known_until: u64,
}

impl DamageLog {
    pub(super) fn list(&self) -> &[Damage] {
        &self.list
    }

    /// What is wrong with the bytes being looked at.
    pub(super) fn open_cause(&self) -> Option<Cause> {
        self.open.map(|open| open.cause)
    }

    /// The bytes at `offset` are no good; part of the open damage, if there is one.
    pub(super) fn open(&mut self, offset: u64, cause: Cause) {
        self.open.get_or_insert(Open { offset, cause, known: 0, known_until: offset });
    }

    /// From a header among these bytes it is known that up to `until` they held so many records.
    pub(super) fn know(&mut self, records: u64, until: u64) {
        if let Some(open) = &mut self.open {
            open.known = records;
            open.known_until = until;
        }
    }

    /// All is well from `end` on, and so many records are missing up to there.
    pub(super) fn close(&mut self, end: u64, records: u64) {
        match self.open.take() {
            Some(open) => self.push(Damage {
                offset: open.offset,
                length: end - open.offset,
                records: Some(records),
                cause: open.cause,
            }),
            None if records > 0 => {
                self.push(Damage { offset: end, length: 0, records: Some(records), cause: Cause::Missing });
            }
            None => (),
        }
    }

    /// The file ends at `end`. With `counted` it is known that no record is missing up to there, with `complete` the
    /// end was seen. Gives the number of records that were found missing now.
    pub(super) fn end(&mut self, end: u64, counted: bool, complete: bool) -> u64 {
        let open = self.open.take();
        let mut missing = 0;
        if let Some(Open { offset, cause, known, known_until }) = open {
            let records = if counted { Some(0) } else { (known_until >= end).then_some(known) };
            self.push(Damage { offset, length: end - offset, records, cause });
            missing = records.unwrap_or(0);
        }
        let told = complete || open.is_some_and(|open| counted || open.cause == Cause::Cut);
        if !told {
            let records = counted.then_some(0);
            self.push(Damage { offset: end, length: 0, records, cause: Cause::Unfinished });
        }
        missing
    }

    fn push(&mut self, damage: Damage) {
        let full = self.list.len() == MAX_DAMAGES;
        match self.list.last_mut() {
            Some(last) if full => {
                last.length = damage.offset + damage.length - last.offset;
                last.records = last.records.zip(damage.records).map(|(a, b)| a.saturating_add(b));
            }
            _ => self.list.push(damage),
        }
    }
}

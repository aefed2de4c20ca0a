use std::fmt;

use crate::file::Damaged;

/// Bytes of a spill that could not be read, or were not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the file in the directory.
    pub file: String,
    /// Where they start in it.
    pub offset: u64,
    /// How many bytes; 0 if bytes are missing there.
    pub length: u64,
    /// Records that are missing for it; `None` if that cannot be known.
    pub records: Option<u64>,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with bytes of a spill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The end of an append that never returned; cut off, with the file if no batch was in it.
    Torn,
    /// The first bytes of a segment do not match their checksum.
    Head,
    /// One of the two descriptions of the stream is damaged.
    Info,
    /// A file with the name of a segment that is none, or whose stream cannot be known; renamed, not deleted.
    PutAside,
    /// They are not a frame: magic, lengths or checksum of the header are wrong.
    NotAFrame,
    /// A frame that does not belong there: of another stream, or of a batch that was there already.
    Misplaced,
    /// The contents of a batch do not match their checksum.
    Checksum,
    /// The contents match their checksum, but are not what the header says.
    Contents,
    /// One or more whole batches were taken out.
    Missing,
    /// An acknowledgement is damaged: batches may come again.
    Ack,
}

impl Cause {
    const fn text(self) -> &'static str {
        match self {
            Self::Torn => "an append was cut off; cut back to the last whole batch",
            Self::Head => "the head of the file does not match its checksum",
            Self::Info => "one of the two descriptions of the stream is damaged",
            Self::PutAside => {
                "not a segment of a spill that can be read; renamed to end in .aside: look at it, and delete it"
            }
            Self::NotAFrame => "not a frame of a spill",
            Self::Misplaced => "a frame that does not belong there",
            Self::Checksum => "the contents do not match their checksum",
            Self::Contents => "the contents are not what their header says",
            Self::Missing => "batches were taken out there",
            Self::Ack => "an acknowledgement is damaged; batches that have arrived may come again",
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
        write!(f, "{}: ", self.file)?;
        let Self { offset, length, records, cause, .. } = *self;
        Damaged { offset, length, cause, records }.fmt(f)
    }
}

/// No more damages than this are listed.
const MAX_DAMAGES: usize = 1024;

/// Damages. Those that find no room are counted.
#[derive(Debug, Default)]
pub(super) struct DamageLog {
    pub(super) list: Vec<Damage>,
    pub(super) left_out: u64,
}

impl DamageLog {
    pub(super) fn push(&mut self, damage: Damage) {
        if self.list.len() < MAX_DAMAGES {
            self.list.push(damage);
        } else {
            self.left_out += 1;
        }
    }
}

//! What the files of captures and of spills have in common.

use std::{fmt, mem::offset_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::ABI_VERSION;

/// The first bytes of a file; the same in every version of its format.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u16,
    pub(crate) abi: u16,
    checksum: u32,
}

impl Head {
    pub(crate) fn new(magic: [u8; 8], version: u16) -> Self {
        let mut head = Self { magic, version, abi: ABI_VERSION, checksum: 0 };
        head.checksum = head.computed();
        head
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.checksum == self.computed()
    }

    fn computed(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..offset_of!(Self, checksum)])
    }
}

/// Bytes that are damaged, why, and how many records are missing for it, for people.
pub(crate) struct Damaged<C> {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) cause: C,
    pub(crate) records: Option<u64>,
}

impl<C: fmt::Display> fmt::Display for Damaged<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            0 => write!(f, "at byte {}: ", self.offset)?,
            length => write!(f, "bytes {}..{}: ", self.offset, self.offset.saturating_add(length))?,
        }
        write!(f, "{}; ", self.cause)?;
        match self.records {
            None => f.write_str("how many records are missing is not known"),
            Some(0) => f.write_str("no record is missing"),
            Some(1) => f.write_str("1 record is missing"),
            Some(records) => write!(f, "{records} records are missing"),
        }
    }
}

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::Position;
use crate::file::Head;

/// Version of the spill format that this module writes, and the latest it reads.
pub const FORMAT_VERSION: u16 = 1;

/// The most that a batch may take: bytes of its frames and contexts.
pub const MAX_BATCH: usize = 32 << 20;
/// The most that a batch takes in the file. LZ4 makes bytes that it cannot compress longer by less than 1 %.
const MAX_PACKED: u32 = 33 << 20;
/// LZ4 makes at most so many bytes of one.
const MAX_EXPANSION: u64 = 255;
/// The longest JSON of an info.
pub(super) const MAX_JSON: u32 = 4 << 20;
/// No spill comes so far; higher positions are not believed, so that sums cannot overflow.
const MAX_COUNT: u64 = 1 << 60;

const FILE_MAGIC: [u8; 8] = *b"\x89KSPL\r\n\x1a";
pub(super) const FRAME_MAGIC: [u8; 8] = *b"\xf1ksplv1\n";

pub(super) const HEAD: usize = size_of::<Head>();
pub(super) const HEADER: usize = size_of::<Header>();

/// The head that this version writes.
pub(super) fn own_head() -> Head {
    Head::new(FILE_MAGIC, FORMAT_VERSION)
}

/// The head at the beginning of `bytes`, if it is one that can be trusted.
pub(super) fn parse_head(bytes: &[u8]) -> Option<Head> {
    let (head, _) = Head::read_from_prefix(bytes).ok()?;
    (head.magic == FILE_MAGIC && head.is_sound()).then_some(head)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Info,
    Batch,
}

const INFO: u16 = 1;
const BATCH: u16 = 2;

/// The batch has an id.
pub(super) const LABELLED: u16 = 1;

/// What stands in front of every payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    kind: u16,
    pub(super) flags: u16,
    /// Checksum of the info payload.
    pub(super) stream: u32,
    batch: u64,
    record: u64,
    pub(super) run: [u8; 16],
    pub(super) seq: u64,
    pub(super) records: u32,
    pub(super) frames_len: u32,
    pub(super) raw_len: u32,
    pub(super) len: u32,
    pub(super) payload_checksum: u32,
    header_checksum: u32,
}

impl Header {
    /// A header at that place; [`seal`](Self::seal) makes it valid.
    pub(super) fn new(kind: Kind, at: Position) -> Self {
        let kind = match kind {
            Kind::Info => INFO,
            Kind::Batch => BATCH,
        };
        Self { magic: FRAME_MAGIC, kind, batch: at.batch, record: at.record, ..Self::new_zeroed() }
    }

    /// Sets what depends on the payload and on the other fields.
    pub(super) fn seal(&mut self, payload: &[u8]) {
        #[expect(clippy::cast_possible_truncation, reason = "the writer keeps payloads within the limits")]
        let len = payload.len() as u32;
        self.len = len;
        if self.kind == INFO {
            self.raw_len = len;
        }
        self.payload_checksum = crc32fast::hash(payload);
        self.header_checksum = self.computed();
    }

    /// The header at the beginning of `bytes`, if it can be trusted and keeps to the limits.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Kind, Self)> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        if header.magic != FRAME_MAGIC || header.header_checksum != header.computed() {
            return None;
        }
        let raw_len = header.raw_len as usize;
        let (kind, fits) = match header.kind {
            INFO => (Kind::Info, header.len <= MAX_JSON && header.raw_len == header.len),
            BATCH => {
                let expanded = u64::from(header.len) * MAX_EXPANSION;
                let packed = header.len <= MAX_PACKED && u64::from(header.raw_len) <= expanded;
                (Kind::Batch, packed && raw_len <= MAX_BATCH && header.frames_len <= header.raw_len)
            }
            _ => return None,
        };
        (fits && header.batch <= MAX_COUNT && header.record <= MAX_COUNT).then_some((kind, header))
    }

    /// Bytes of the whole frame.
    pub(super) const fn size(&self) -> u64 {
        HEADER as u64 + self.len as u64
    }

    pub(super) const fn position(&self) -> Position {
        Position { batch: self.batch, record: self.record }
    }

    /// The position behind this batch.
    pub(super) const fn end(&self) -> Position {
        Position { batch: self.batch + 1, record: self.record + self.records as u64 }
    }

    fn computed(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..std::mem::offset_of!(Self, header_checksum)])
    }
}

/// Length of the file that says up to where everything has arrived.
pub(super) const ACK_LEN: usize = 1024;
/// Where its slots are: in sectors of their own.
pub(super) const SLOTS: [usize; 2] = [0, 512];
const SLOT_MAGIC: [u8; 8] = *b"\xf1ksplack";

/// One statement of how far everything has arrived.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Slot {
    magic: [u8; 8],
    pub(super) generation: u64,
    batch: u64,
    record: u64,
    reserved: u32,
    checksum: u32,
}

pub(super) const SLOT: usize = size_of::<Slot>();

impl Slot {
    pub(super) fn new(generation: u64, at: Position) -> Self {
        let Position { batch, record } = at;
        let mut slot = Self { magic: SLOT_MAGIC, generation, batch, record, reserved: 0, checksum: 0 };
        slot.checksum = slot.computed();
        slot
    }

    /// The slot at the beginning of `bytes`, if it can be trusted.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (slot, _) = Self::read_from_prefix(bytes).ok()?;
        let sound = slot.magic == SLOT_MAGIC && slot.checksum == slot.computed();
        (sound && slot.batch <= MAX_COUNT && slot.record <= MAX_COUNT).then_some(slot)
    }

    pub(super) const fn position(&self) -> Position {
        Position { batch: self.batch, record: self.record }
    }

    fn computed(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..std::mem::offset_of!(Self, checksum)])
    }
}

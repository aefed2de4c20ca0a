use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{abi::ABI_VERSION, file::Head};

/// Version of the capture format that this module writes, and the latest it reads.
pub const FORMAT_VERSION: u16 = 1;

/// A block holds at most so many bytes of frames.
pub const MAX_BLOCK: usize = 256 << 10;
/// The most that a block takes in the file. LZ4 makes bytes that it cannot compress longer by less than 1 %.
const MAX_PACKED: u32 = 320 << 10;
/// The longest JSON of an info or a trailer.
pub(super) const MAX_JSON: u32 = 4 << 20;

/// No recording has more records; higher numbers are not believed, so that sums cannot overflow.
pub(super) const MAX_COUNT: u64 = 1 << 60;

pub(super) const FILE_MAGIC: [u8; 8] = *b"\x89KCAP\r\n\x1a";
pub(super) const CHUNK_MAGIC: [u8; 8] = *b"\xf1kcapv1\n";

/// The head that this version writes.
pub(super) fn own_head() -> Head {
    Head::new(FILE_MAGIC, FORMAT_VERSION)
}

/// What stands in front of every payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Chunk {
    magic: [u8; 8],
    kind: u16,
    pub(super) abi: u16,
    /// Checksum of the info payload.
    pub(super) stream: u32,
    /// Records in all blocks before this chunk.
    pub(super) first_record: u64,
    /// Records that the writer could not write so far.
    pub(super) dropped: u64,
    pub(super) records: u32,
    pub(super) raw_len: u32,
    pub(super) len: u32,
    pub(super) payload_checksum: u32,
    pub(super) first_ktime_ns: u64,
    pub(super) last_ktime_ns: u64,
    reserved: u32,
    header_checksum: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    Info,
    Block,
    Trailer,
    End,
}

impl ChunkKind {
    const fn number(self) -> u16 {
        match self {
            Self::Info => 1,
            Self::Block => 2,
            Self::Trailer => 3,
            Self::End => 4,
        }
    }

    const fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Info,
            2 => Self::Block,
            3 => Self::Trailer,
            4 => Self::End,
            _ => return None,
        })
    }

    const fn max_len(self) -> u32 {
        match self {
            Self::Info | Self::Trailer => MAX_JSON,
            Self::Block => MAX_PACKED,
            Self::End => 8,
        }
    }
}

pub(super) const CHUNK_HEADER: usize = size_of::<Chunk>();

impl Chunk {
    /// Header of an empty chunk; [`seal`](Self::seal) makes it valid.
    pub(super) fn new(kind: ChunkKind) -> Self {
        Self { magic: CHUNK_MAGIC, kind: kind.number(), abi: ABI_VERSION, ..Self::new_zeroed() }
    }

    /// Sets what depends on the payload and on the other fields. `raw_len` stays if it was set.
    pub(super) fn seal(&mut self, payload: &[u8]) {
        #[expect(clippy::cast_possible_truncation, reason = "the writer keeps payloads within max_len")]
        let len = payload.len() as u32;
        self.len = len;
        if self.raw_len == 0 {
            self.raw_len = len;
        }
        self.payload_checksum = crc32fast::hash(payload);
        self.header_checksum = self.computed();
    }

    /// Takes the first bytes of `bytes` as a header, if they are one that can be trusted.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (chunk, _) = Self::read_from_prefix(bytes).ok()?;
        (chunk.magic == CHUNK_MAGIC && chunk.header_checksum == chunk.computed()).then_some(chunk)
    }

    /// The kind, if its lengths are within the limits.
    pub(super) fn kind(&self) -> Option<ChunkKind> {
        let kind = ChunkKind::of(self.kind)?;
        let raw_fits = match kind {
            ChunkKind::Block => self.records > 0 && self.raw_len as usize <= MAX_BLOCK,
            _ => self.records == 0 && self.raw_len == self.len,
        };
        (raw_fits && self.len <= kind.max_len()).then_some(kind)
    }

    /// Bytes of the whole chunk.
    pub(super) const fn size(&self) -> usize {
        CHUNK_HEADER + self.len as usize
    }

    fn computed(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..std::mem::offset_of!(Self, header_checksum)])
    }
}

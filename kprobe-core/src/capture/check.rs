use std::io::{self, Read};

use bytes::BytesMut;

use super::{
    Cause,
    format::{CHUNK_HEADER, Chunk, ChunkKind, MAX_COUNT},
    window::Window,
};
use crate::decode::Frames;

/// What stands at the beginning of the window.
pub(super) enum Look {
    /// A chunk whose checksums and lengths are right; all of it is in the window.
    Chunk(ChunkKind, Chunk),
    /// Something else. The header is there if it can be trusted.
    Bad(Cause, Option<Chunk>),
    /// Nothing: the end of the stream.
    End,
}

pub(super) fn look(window: &mut Window<impl Read>) -> io::Result<Look> {
    let bytes = window.fill(CHUNK_HEADER)?;
    if bytes.is_empty() {
        return Ok(Look::End);
    }
    if bytes.len() < CHUNK_HEADER {
        return Ok(Look::Bad(Cause::Cut, None));
    }
    let Some((kind, chunk)) = Chunk::parse(bytes).and_then(|chunk| Some((chunk.kind()?, chunk))) else {
        return Ok(Look::Bad(Cause::NotAChunk, None));
    };
    let bytes = window.fill(chunk.size())?;
    Ok(match bytes.get(CHUNK_HEADER..chunk.size()) {
        None => Look::Bad(Cause::Cut, Some(chunk)),
        Some(payload) if crc32fast::hash(payload) != chunk.payload_checksum => {
            Look::Bad(Cause::Checksum, Some(chunk))
        }
        Some(_) => Look::Chunk(kind, chunk),
    })
}

/// The payload of a chunk that [`look`] found.
pub(super) fn payload<'a>(window: &'a Window<impl Read>, chunk: &Chunk) -> &'a [u8] {
    window.bytes().get(CHUNK_HEADER..chunk.size()).unwrap_or_default()
}

/// Appends the frames of a block to `out` if they are what its header says.
pub(super) fn unpack(chunk: &Chunk, payload: &[u8], out: &mut BytesMut) -> Result<(), Cause> {
    let start = out.len();
    let raw_len = chunk.raw_len as usize;
    out.resize(start + raw_len, 0);
    let frames = &mut out[start..];
    let unpacked = lz4_flex::block::decompress_into(payload, frames);
    if unpacked.is_ok_and(|len| len == raw_len) && holds(chunk, frames) {
        return Ok(());
    }
    out.truncate(start);
    Err(Cause::Contents)
}

/// As many records as the header says, between the times that it says.
fn holds(chunk: &Chunk, frames: &[u8]) -> bool {
    let (mut records, mut first, mut last) = (0, u64::MAX, 0);
    for record in Frames::new(frames) {
        let Ok(record) = record else {
            return false;
        };
        let ktime_ns = record.header().ktime_ns;
        records += 1;
        first = first.min(ktime_ns);
        last = last.max(ktime_ns);
    }
    (records, first, last) == (chunk.records, chunk.first_ktime_ns, chunk.last_ktime_ns)
}

/// The numbers of a header can be added up without a thought of overflow.
pub(super) const fn is_countable(chunk: &Chunk) -> bool {
    chunk.first_record <= MAX_COUNT && chunk.dropped <= MAX_COUNT
}

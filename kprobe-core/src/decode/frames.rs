use super::Record;
use crate::abi::{Header, MAX_RECORD};

/// Bytes in front of each record in a batch.
pub const FRAME_HEADER: usize = 8;

/// Bit of the first word: the kernel has not submitted the record yet. A batch never holds such a one.
const BUSY: u32 = 1 << 31;
/// Bit of the first word: the program reserved the space and then gave it up.
const DISCARD: u32 = 1 << 30;

/// The frames of a batch, one after another.
///
/// The framing is the one the kernel's ring buffer has in memory, so that a batch is one copy out of the ring: a 32-bit
/// length with two flag bits on top, 32 bits without meaning here, the record, and zero to seven bytes up to a multiple
/// of 8. A discarded frame is skipped.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

/// Why a frame holds no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The batch ends in the middle of it, or it was never submitted. Where the next frame would be is unknown.
    #[error("frame says {length} bytes where {left} are left; expected a whole record")]
    Torn {
        /// Length that the frame states.
        length: usize,
        /// Bytes of the batch behind the frame's header.
        left: usize,
    },
    /// It is shorter than a header or longer than any record. The frames behind it are as good as ever.
    #[error("frame of {length} bytes; expected a record of {} to {MAX_RECORD}", size_of::<Header>())]
    Length {
        /// Length of the frame.
        length: usize,
    },
}

impl<'a> Frames<'a> {
    /// Reads the frames in `bytes`.
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Record<'a>, FrameError>;

    /// After [`FrameError::Torn`] the iterator is at its end.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((head, rest)) = self.rest.split_first_chunk::<FRAME_HEADER>() else {
                let left = std::mem::take(&mut self.rest).len();
                return (left != 0).then_some(Err(FrameError::Torn { length: FRAME_HEADER, left }));
            };
            let [word, _]: [u32; 2] = zerocopy::transmute!(*head);
            let length = (u32::from_le(word) & !(BUSY | DISCARD)) as usize;
            let padded = (length + 7) & !7;
            if word & BUSY != 0 || padded > rest.len() {
                let left = rest.len();
                self.rest = &[];
                return Some(Err(FrameError::Torn { length, left }));
            }
            let (frame, next) = rest.split_at(padded);
            self.rest = next;
            if word & DISCARD != 0 {
                continue;
            }
            return Some(Record::new(&frame[..length]).map_err(|_| FrameError::Length { length }));
        }
    }
}

/// Appends `record` to `out` with its frame.
#[inline]
pub fn put_frame(out: &mut impl bytes::BufMut, record: &[u8]) {
    debug_assert!(record.len() < DISCARD as usize);
    #[expect(clippy::cast_possible_truncation, reason = "records have at most MAX_RECORD bytes, 320")]
    out.put_u32_le(record.len() as u32);
    out.put_u32_le(0);
    out.put_slice(record);
    out.put_bytes(0, record.len().next_multiple_of(8) - record.len());
}

use zerocopy::FromBytes;

use crate::abi::{Header, Kind, MAX_RECORD};

/// The bytes of one record, known to be long enough for a header.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
}

/// Why bytes are not the record they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are fewer bytes than a header has, or more than any record.
    #[error("a record of {found} bytes; expected {} to {MAX_RECORD}", size_of::<Header>())]
    Length {
        /// Bytes that were there.
        found: usize,
    },
    /// The record does not have the size that its kind has.
    #[error("record of kind {kind} has {found} bytes, expected {expected}")]
    Size {
        /// Kind in the header.
        kind: Kind,
        /// Size of that kind, header included.
        expected: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// The record is of another kind than the one asked for.
    #[error("record of kind {found}, expected {expected}")]
    Kind {
        /// Kind that was asked for.
        expected: Kind,
        /// Kind in the header.
        found: Kind,
    },
    /// A field holds a value that it cannot have.
    #[error("record of kind {kind}: {found} at byte {offset}, expected {expected}")]
    Value {
        /// Kind in the header.
        kind: Kind,
        /// Where the field starts, counted from the start of the record.
        offset: usize,
        /// What the field may hold.
        expected: &'static str,
        /// What it holds.
        found: u64,
    },
}

impl<'a> Record<'a> {
    /// Takes `bytes` as one record, header and body without framing.
    ///
    /// # Errors
    /// [`DecodeError::Length`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() < size_of::<Header>() || bytes.len() > MAX_RECORD {
            return Err(DecodeError::Length { found: bytes.len() });
        }
        Ok(Self { bytes })
    }

    /// The header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        // `new` checked the length; the default is never taken.
        Header::read_from_prefix(self.bytes).map_or_else(|_| Header::default(), |(header, _)| header)
    }

    /// What the record is.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind(self.header().kind)
    }

    /// The body as `T`, one of the structs of [`abi`](crate::abi) or a user's own.
    ///
    /// # Errors
    /// [`DecodeError::Size`] if the body is not exactly as long as `T`.
    #[inline(always)]
    pub fn body<T: FromBytes>(&self) -> Result<T, DecodeError> {
        match T::read_from_bytes(&self.bytes[size_of::<Header>()..]) {
            Ok(body) => Ok(body),
            Err(_) => Err(self.bad_size(size_of::<Header>() + size_of::<T>())),
        }
    }

    /// Like [`body`](Self::body), for a record that must be of the given kind.
    ///
    /// # Errors
    /// [`DecodeError::Kind`] or [`DecodeError::Size`].
    #[inline(always)]
    pub fn body_of<T: FromBytes>(&self, kind: Kind) -> Result<T, DecodeError> {
        match T::read_from_bytes(&self.bytes[size_of::<Header>()..]) {
            Ok(body) if self.kind() == kind => Ok(body),
            _ => Err(self.mismatch(kind, size_of::<Header>() + size_of::<T>())),
        }
    }

    /// Header and body as they came.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The error for a field that holds what it cannot; `offset` counts from the start of the body.
    #[must_use]
    #[cold]
    #[inline(never)]
    pub fn bad_value(self, offset: usize, expected: &'static str, found: u64) -> DecodeError {
        DecodeError::Value { kind: self.kind(), offset: size_of::<Header>() + offset, expected, found }
    }

    #[cold]
    #[inline(never)]
    fn mismatch(self, expected: Kind, size: usize) -> DecodeError {
        match self.kind() == expected {
            true => self.bad_size(size),
            false => DecodeError::Kind { expected, found: self.kind() },
        }
    }

    #[cold]
    #[inline(never)]
    fn bad_size(self, expected: usize) -> DecodeError {
        DecodeError::Size { kind: self.kind(), expected, found: self.bytes.len() }
    }
}

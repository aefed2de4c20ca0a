use std::mem::offset_of;

use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value},
};

const STREAM: Field = Field::new(
    "stream",
    Type::U64,
    "cookie of the socket that sends; whoever receives the same bytes has the same",
);
const COOKIE: Field = Field::new("cookie", Type::U64, "cookie of the socket of the call");
const PEER_COOKIE: Field = Field::new("peer_cookie", Type::U64, "cookie of the socket at the other end");
const INODE: Field = Field::new("inode", Type::U64, "inode number of the socket of the call").optional();
const START: Field = Field::new("start", Type::U64, "position of the first byte in the stream");
const END: Field = Field::new("end", Type::U64, "position behind the last byte");
const BYTES: Field = Field::new("bytes", Type::U64, "number of bytes: end - start");
const RELATIVE: Field = Field::new(
    "relative",
    Type::Bool,
    "the connection was not seen being made: positions count since it was first seen",
);
const OVERLAPPED: Field = Field::new(
    "overlapped",
    Type::Bool,
    "another thread moved bytes on this side meanwhile: the order is not known",
)
.optional();

/// Bytes were sent on a stream socket of the machine itself. The origin names the thread whose call it was, at its return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixSend {
    /// The thread that sent.
    pub origin: Origin,
    /// Cookie of the sending socket, which also names the stream.
    pub cookie: u64,
    /// Cookie of the socket at the other end.
    pub peer_cookie: u64,
    /// Inode number of the sending socket: that in `/proc/PID/fd`.
    pub inode: Option<u64>,
    /// Position of the first byte in the stream: so many were sent before.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// The connection was not seen being made: positions count from the first bytes that were seen.
    pub relative: bool,
    /// Another thread sent on the same socket while the call went on: whose bytes came first is not known. `None` where the
    /// attach target does not tell.
    pub overlapped: Option<bool>,
}

impl UnixSend {
    /// The stream of bytes: a [`UnixRecv`] of the same bytes has the same.
    #[must_use]
    pub const fn stream(&self) -> u64 {
        self.cookie
    }

    /// Number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl TypedEvent for UnixSend {
    const KIND: Kind = Kind::UNIX_SEND;
    const NAME: &'static str = "unix.send";
    const FIELDS: &'static [Field] =
        &[STREAM, COOKIE, PEER_COOKIE, INODE, START, END, BYTES, RELATIVE, OVERLAPPED];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::UnixSend = record.body_of(Self::KIND)?;
        check_range(&record, body.start, body.end, offset_of!(abi::UnixSend, end))?;
        Ok(Self {
            origin: Origin::of(&record),
            cookie: body.cookie,
            peer_cookie: body.peer_cookie,
            inode: (body.inode != 0).then_some(body.inode),
            start: body.start,
            end: body.end,
            relative: body.flags & abi::UNIX_RELATIVE != 0,
            overlapped: overlapped(body.flags),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("stream", Value::U64(self.stream()));
        put("cookie", Value::U64(self.cookie));
        put("peer_cookie", Value::U64(self.peer_cookie));
        if let Some(inode) = self.inode {
            put("inode", Value::U64(inode));
        }
        put("start", Value::U64(self.start));
        put("end", Value::U64(self.end));
        put("bytes", Value::U64(self.bytes()));
        put("relative", Value::Bool(self.relative));
        if let Some(overlapped) = self.overlapped {
            put("overlapped", Value::Bool(overlapped));
        }
    }
}

/// Bytes were received on a stream socket of the machine itself. The origin names the thread whose call it was, at its
/// return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixRecv {
    /// The thread that received.
    pub origin: Origin,
    /// Cookie of the receiving socket.
    pub cookie: u64,
    /// Cookie of the socket that sent, which also names the stream.
    pub peer_cookie: u64,
    /// Inode number of the receiving socket: that in `/proc/PID/fd`.
    pub inode: Option<u64>,
    /// Position of the first byte in the stream: so many were received before.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// The connection was not seen being made: positions count from the first bytes that were seen.
    pub relative: bool,
    /// Another thread received on the same socket while the call went on: whose bytes came first is not known. `None` where
    /// the attach target does not tell.
    pub overlapped: Option<bool>,
    /// The bytes were copied (`MSG_PEEK`) and can be received again.
    pub peek: bool,
}

impl UnixRecv {
    /// The stream of bytes: a [`UnixSend`] of the same bytes has the same.
    #[must_use]
    pub const fn stream(&self) -> u64 {
        self.peer_cookie
    }

    /// Number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl TypedEvent for UnixRecv {
    const KIND: Kind = Kind::UNIX_RECV;
    const NAME: &'static str = "unix.recv";
    const FIELDS: &'static [Field] = &[
        STREAM,
        COOKIE,
        PEER_COOKIE,
        INODE,
        START,
        END,
        BYTES,
        RELATIVE,
        OVERLAPPED,
        Field::new("peek", Type::Bool, "the bytes were copied (MSG_PEEK) and can be received again"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::UnixRecv = record.body_of(Self::KIND)?;
        check_range(&record, body.start, body.end, offset_of!(abi::UnixRecv, end))?;
        Ok(Self {
            origin: Origin::of(&record),
            cookie: body.cookie,
            peer_cookie: body.peer_cookie,
            inode: (body.inode != 0).then_some(body.inode),
            start: body.start,
            end: body.end,
            relative: body.flags & abi::UNIX_RELATIVE != 0,
            overlapped: overlapped(body.flags),
            peek: body.flags & abi::UNIX_PEEK != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("stream", Value::U64(self.stream()));
        put("cookie", Value::U64(self.cookie));
        put("peer_cookie", Value::U64(self.peer_cookie));
        if let Some(inode) = self.inode {
            put("inode", Value::U64(inode));
        }
        put("start", Value::U64(self.start));
        put("end", Value::U64(self.end));
        put("bytes", Value::U64(self.bytes()));
        put("relative", Value::Bool(self.relative));
        if let Some(overlapped) = self.overlapped {
            put("overlapped", Value::Bool(overlapped));
        }
        put("peek", Value::Bool(self.peek));
    }
}

fn overlapped(flags: u64) -> Option<bool> {
    (flags & abi::UNIX_HAS_OVERLAPPED != 0).then_some(flags & abi::UNIX_OVERLAPPED != 0)
}

fn check_range(record: &Record<'_>, start: u64, end: u64, offset: usize) -> Result<(), DecodeError> {
    if end < start {
        return Err(record.bad_value(offset, "a position not before the start", end));
    }
    Ok(())
}

use std::mem::offset_of;

use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Type, TypedEvent, Value},
};

/// By which call bytes went into a pipe or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeCall {
    /// `read`, `readv` or `preadv2`; with functions as targets also `io_uring`.
    Read,
    /// `write`, `writev` or `pwritev2`; likewise.
    Write,
    /// `splice`.
    Splice,
    /// `tee`: copied from one pipe to another.
    Tee,
    /// `vmsplice`.
    Vmsplice,
    /// `sendfile`.
    Sendfile,
}

impl PipeCall {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Splice => "splice",
            Self::Tee => "tee",
            Self::Vmsplice => "vmsplice",
            Self::Sendfile => "sendfile",
        }
    }

    fn from_kernel(call: u16) -> Option<Self> {
        Some(match abi::PipeCall(u8::try_from(call).ok()?) {
            abi::PipeCall::READ => Self::Read,
            abi::PipeCall::WRITE => Self::Write,
            abi::PipeCall::SPLICE => Self::Splice,
            abi::PipeCall::TEE => Self::Tee,
            abi::PipeCall::VMSPLICE => Self::Vmsplice,
            abi::PipeCall::SENDFILE => Self::Sendfile,
            _ => return None,
        })
    }
}

const INODE: Field = Field::new("inode", Type::U64, "inode number of the pipe");
const DEV: Field = Field::new("dev", Type::Text, "device of that inode, major:minor");
const START: Field = Field::new("start", Type::U64, "position of the first byte in the stream");
const END: Field = Field::new("end", Type::U64, "position behind the last byte");
const BYTES: Field = Field::new("bytes", Type::U64, "number of bytes: end - start");
const RELATIVE: Field = Field::new(
    "relative",
    Type::Bool,
    "the pipe was in use when it was first seen: positions count from then on",
);
const OVERLAPPED: Field = Field::new(
    "overlapped",
    Type::Bool,
    "another thread moved bytes on this side meanwhile: whose came first is not known",
);

/// Bytes were put into a pipe. The origin names the thread whose call it was, at the return of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeWrite {
    /// The thread that put them in.
    pub origin: Origin,
    /// Inode number of the pipe: of one without a name the number in `/proc/PID/fd`.
    pub inode: u64,
    /// Device of that inode.
    pub device: Device,
    /// By which call; `None` where the attach target does not tell.
    pub call: Option<PipeCall>,
    /// Position of the first byte in the stream: so many were put in before.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// The pipe was in use when it was first seen: positions count from then on, not from its creation.
    pub relative: bool,
    /// Another thread put bytes in while the call went on: whose came first is not known.
    pub overlapped: bool,
}

impl PipeWrite {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl TypedEvent for PipeWrite {
    const KIND: Kind = Kind::PIPE_WRITE;
    const NAME: &'static str = "pipe.write";
    const FIELDS: &'static [Field] = &[
        INODE,
        DEV,
        Field::new("call", Type::Text, "write, splice, tee, vmsplice or sendfile").optional(),
        START,
        END,
        BYTES,
        RELATIVE,
        OVERLAPPED,
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::PipeWrite = record.body_of(Self::KIND)?;
        let (start, end) = range(&record, body.start, body.end, offset_of!(abi::PipeWrite, end))?;
        Ok(Self {
            origin: Origin::of(&record),
            inode: body.inode,
            device: Device::from_kernel(body.device),
            call: call(&record, body.call, offset_of!(abi::PipeWrite, call))?,
            start,
            end,
            relative: body.flags & abi::PIPE_RELATIVE != 0,
            overlapped: body.flags & abi::PIPE_OVERLAPPED != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("inode", Value::U64(self.inode));
        put("dev", Value::Text(&self.device.to_string()));
        if let Some(call) = self.call {
            put("call", Value::Text(call.name()));
        }
        put("start", Value::U64(self.start));
        put("end", Value::U64(self.end));
        put("bytes", Value::U64(self.bytes()));
        put("relative", Value::Bool(self.relative));
        put("overlapped", Value::Bool(self.overlapped));
    }
}

/// Bytes were taken out of a pipe. The origin names the thread whose call it was, at the return of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeRead {
    /// The thread that took them out.
    pub origin: Origin,
    /// Inode number of the pipe: of one without a name the number in `/proc/PID/fd`.
    pub inode: u64,
    /// Device of that inode.
    pub device: Device,
    /// By which call; `None` where the attach target does not tell.
    pub call: Option<PipeCall>,
    /// Position of the first byte in the stream: so many were taken out before.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// The pipe was in use when it was first seen: positions count from then on, not from its creation.
    pub relative: bool,
    /// Another thread took bytes out while the call went on: whose came first is not known.
    pub overlapped: bool,
    /// The bytes were copied (by `tee`) and are still in the pipe: they will be taken out once more.
    pub peek: bool,
}

impl PipeRead {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl TypedEvent for PipeRead {
    const KIND: Kind = Kind::PIPE_READ;
    const NAME: &'static str = "pipe.read";
    const FIELDS: &'static [Field] = &[
        INODE,
        DEV,
        Field::new("call", Type::Text, "read, splice, tee or vmsplice").optional(),
        START,
        END,
        BYTES,
        RELATIVE,
        OVERLAPPED,
        Field::new("peek", Type::Bool, "the bytes were copied (by tee) and are still in the pipe"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::PipeRead = record.body_of(Self::KIND)?;
        let (start, end) = range(&record, body.start, body.end, offset_of!(abi::PipeRead, end))?;
        Ok(Self {
            origin: Origin::of(&record),
            inode: body.inode,
            device: Device::from_kernel(body.device),
            call: call(&record, body.call, offset_of!(abi::PipeRead, call))?,
            start,
            end,
            relative: body.flags & abi::PIPE_RELATIVE != 0,
            overlapped: body.flags & abi::PIPE_OVERLAPPED != 0,
            peek: body.flags & abi::PIPE_PEEK != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("inode", Value::U64(self.inode));
        put("dev", Value::Text(&self.device.to_string()));
        if let Some(call) = self.call {
            put("call", Value::Text(call.name()));
        }
        put("start", Value::U64(self.start));
        put("end", Value::U64(self.end));
        put("bytes", Value::U64(self.bytes()));
        put("relative", Value::Bool(self.relative));
        put("overlapped", Value::Bool(self.overlapped));
        put("peek", Value::Bool(self.peek));
    }
}

fn range(record: &Record<'_>, start: u64, end: u64, offset: usize) -> Result<(u64, u64), DecodeError> {
    if end < start {
        return Err(record.bad_value(offset, "a position not before the start", end));
    }
    Ok((start, end))
}

fn call(record: &Record<'_>, call: u16, offset: usize) -> Result<Option<PipeCall>, DecodeError> {
    if call == u16::from(abi::PipeCall::NONE.0) {
        return Ok(None);
    }
    let known = PipeCall::from_kernel(call);
    known.map(Some).ok_or_else(|| record.bad_value(offset, "a call, 0 to 6", call.into()))
}

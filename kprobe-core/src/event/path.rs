use std::{borrow::Cow, fmt, mem::offset_of};

use crate::{
    abi::{self, Kind, PATH_TEXT},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Type, TypedEvent, Value},
};

/// A path, or the end of one that is too long: bytes of any value but zero. It is empty if already the file's own name is
/// too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PathText {
    /// All behind the path are 0, so that of two that are equal every byte is.
    text: [u8; PATH_TEXT],
    len: u16,
}

impl PathText {
    /// The bytes. Names are separated by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len.into()]
    }

    /// As text; what is not UTF-8 is replaced by U+FFFD.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl fmt::Debug for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

const PATH: Field = Field::new(
    "path",
    Type::Text,
    "what the allowed directory is called, and the names below it, or the end of that",
);
const TRUNCATED: Field =
    Field::new("truncated", Type::Bool, "the path is too long: what it begins with is left out");
const UNLINKED: Field = Field::new(
    "unlinked",
    Type::Bool,
    "the file was removed, or never had a name: the path is where it would be",
);
const ENTRY: Field =
    Field::new("entry", Type::U64, "number of the allow-list's entry that allows it: see meta.path");
const INODE: Field = Field::new("inode", Type::U64, "inode number of the file");
const DEV: Field = Field::new("dev", Type::Text, "device of that inode, major:minor");

/// A process began another program. The origin names its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathExec {
    /// The process.
    pub origin: Origin,
    /// Path of the program's file: of a script that of its interpreter.
    pub path: PathText,
    /// The path is too long: what it begins with is left out.
    pub truncated: bool,
    /// The file has been removed, or never had a name: the path is where it was or would be.
    pub unlinked: bool,
    /// Number of the entry of the allow-list that the file is below, or is.
    pub entry: u16,
    /// Inode number of the file.
    pub inode: u64,
    /// Device of that inode.
    pub device: Device,
}

impl TypedEvent for PathExec {
    const KIND: Kind = Kind::PATH_EXEC;
    const NAME: &'static str = "path.exec";
    const FIELDS: &'static [Field] = &[PATH, TRUNCATED, UNLINKED, ENTRY, INODE, DEV];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::PathExec = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            path: text(&record, body.text, body.len, offset_of!(abi::PathExec, len))?,
            truncated: has(abi::PATH_TRUNCATED),
            unlinked: has(abi::PATH_UNLINKED),
            entry: body.entry,
            inode: body.inode,
            device: Device::from_kernel(body.device),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("path", Value::Text(&self.path.to_text()));
        put("truncated", Value::Bool(self.truncated));
        put("unlinked", Value::Bool(self.unlinked));
        put("entry", Value::U64(self.entry.into()));
        put("inode", Value::U64(self.inode));
        put("dev", Value::Text(&self.device.to_string()));
    }
}

/// A thread opened a file. The origin names the thread, at the return of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathOpen {
    /// The thread.
    pub origin: Origin,
    /// Path of the file, wherever its name as the thread gave it came from.
    pub path: PathText,
    /// The descriptor that it got.
    pub fd: i32,
    /// The path is too long: what it begins with is left out.
    pub truncated: bool,
    /// The file has been removed, or never had a name: the path is where it was or would be.
    pub unlinked: bool,
    /// Number of the entry of the allow-list that the file is below, or is.
    pub entry: u16,
    /// Inode number of the file.
    pub inode: u64,
    /// Device of that inode.
    pub device: Device,
}

impl TypedEvent for PathOpen {
    const KIND: Kind = Kind::PATH_OPEN;
    const NAME: &'static str = "path.open";
    const FIELDS: &'static [Field] = &[
        PATH,
        Field::new("fd", Type::I64, "the descriptor that the call returned"),
        TRUNCATED,
        UNLINKED,
        ENTRY,
        INODE,
        DEV,
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::PathOpen = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            path: text(&record, body.text, body.len, offset_of!(abi::PathOpen, len))?,
            fd: body.fd,
            truncated: has(abi::PATH_TRUNCATED),
            unlinked: has(abi::PATH_UNLINKED),
            entry: body.entry,
            inode: body.inode,
            device: Device::from_kernel(body.device),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("path", Value::Text(&self.path.to_text()));
        put("fd", Value::I64(self.fd.into()));
        put("truncated", Value::Bool(self.truncated));
        put("unlinked", Value::Bool(self.unlinked));
        put("entry", Value::U64(self.entry.into()));
        put("inode", Value::U64(self.inode));
        put("dev", Value::Text(&self.device.to_string()));
    }
}

/// An entry of the list of what paths are recorded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathAllowed {
    /// When the recording began.
    pub origin: Origin,
    /// Its number.
    pub entry: u16,
    /// The directory or file, as the user called it.
    pub path: PathText,
}

impl TypedEvent for PathAllowed {
    const KIND: Kind = Kind::META_PATH;
    const NAME: &'static str = "meta.path";
    const FIELDS: &'static [Field] = &[
        Field::new("entry", Type::U64, "number of this entry of the list"),
        Field::new("path", Type::Text, "directory or file whose paths are recorded, as the user called it"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::PathAllowed = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            entry: body.entry,
            path: text(&record, body.text, body.len, offset_of!(abi::PathAllowed, len))?,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("entry", Value::U64(self.entry.into()));
        put("path", Value::Text(&self.path.to_text()));
    }
}

/// The text of a body, `len` bytes, of which `offset` is where it has their number.
///
/// Bytes behind it would be names that nobody allowed: they are refused, not passed over.
fn text(
    record: &Record<'_>,
    text: [u8; PATH_TEXT],
    len: u16,
    offset: usize,
) -> Result<PathText, DecodeError> {
    let Some(rest) = text.get(usize::from(len)..) else {
        return Err(record.bad_value(offset, "a length up to 256", len.into()));
    };
    if rest.iter().any(|byte| *byte != 0) {
        return Err(record.bad_value(offset, "a length behind which all bytes are 0", len.into()));
    }
    Ok(PathText { text, len })
}

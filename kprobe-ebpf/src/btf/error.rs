use std::io;
use std::path::PathBuf;

/// Bytes are not BTF that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel has no type information.
    #[error(
        "{} does not exist: this kernel carries no type information; kprobe needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, as those of every current distribution are", path.display()
    )]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("cannot read type information from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes end too early.
    #[error("BTF ends inside {what}: {expected} bytes were expected at offset {offset}, {found} are there")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins, in bytes from the start of the input.
        offset: usize,
        /// Bytes it needs.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// A field of the header is not what this reader knows.
    #[error("not BTF that can be read: {what} at offset {offset} should be {expected}, found {found:#x}")]
    Header {
        /// Which field.
        what: &'static str,
        /// Where it is.
        offset: usize,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: u64,
    },
    /// The section of strings is not zero-terminated UTF-8.
    #[error(
        "BTF strings must be UTF-8 that begins and ends with a zero byte; the byte at offset {offset} breaks that"
    )]
    Strings {
        /// Where the first wrong byte is.
        offset: usize,
    },
    /// A name points outside the strings or into the middle of a character.
    #[error("BTF name at offset {offset} points to {found:#x}, the strings are {expected:#x} bytes long")]
    Name {
        /// Where the pointer is.
        offset: usize,
        /// Length of the strings.
        expected: u64,
        /// Where it points.
        found: u32,
    },
    /// A reference to a type that does not exist.
    #[error("BTF reference at offset {offset} is to type {found}, the last type is {expected}")]
    TypeRef {
        /// Where the reference is.
        offset: usize,
        /// The highest type number.
        expected: u32,
        /// The number found.
        found: u32,
    },
    /// A kind of type whose size is not known, so that what follows cannot be found.
    #[error(
        "BTF type {id} at offset {offset} has kind {found}, expected 1 to {expected}: the kernel is newer than this program"
    )]
    Kind {
        /// Number of the type.
        id: u32,
        /// Where it is.
        offset: usize,
        /// The highest kind known.
        expected: u8,
        /// The kind found.
        found: u8,
    },
}

/// Why a member of a struct has no offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MissingMember {
    /// There is no such struct or union.
    #[error("no struct {structure}")]
    NoStruct {
        /// The name that was asked for.
        structure: String,
    },
    /// The struct has no such field.
    #[error("struct {structure} has no field {field}{}", within(.path, .field))]
    NoField {
        /// The struct in which the field was looked for (`(anonymous)` if it has no name).
        structure: String,
        /// The part of the path that is missing.
        field: String,
        /// The whole path that was asked for.
        path: String,
    },
    /// The path goes on behind a field that is not a struct.
    #[error("field {field} (in {path}) is {found}, not a struct, so it has no field {next}")]
    NotAStruct {
        /// The field before the one that cannot be.
        field: String,
        /// The part of the path behind it.
        next: String,
        /// The whole path that was asked for.
        path: String,
        /// The field's type.
        found: String,
    },
    /// An index into something that is no array, or behind its end.
    #[error("field {field} (in {path}) is {found}: it has no element {index}")]
    NoElement {
        /// The field.
        field: String,
        /// The index asked for.
        index: u32,
        /// The whole path that was asked for.
        path: String,
        /// The field's type.
        found: String,
    },
    /// The path itself is not `field.field[index].field`.
    #[error("`{path}` is no path of fields, expected something like `a.b` or `a[1].b`")]
    Path {
        /// The path.
        path: String,
    },
    /// The type information contradicts itself: a type without a size, an endless chain of types, an offset within no byte.
    #[error("the type information for {path} of struct {structure} makes no sense: {what}")]
    Nonsense {
        /// The struct.
        structure: String,
        /// The path asked for.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
}

fn within(path: &str, field: &str) -> String {
    if path == field { String::new() } else { format!(" (in {path})") }
}

/// Why a function type, a variable or a constant cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MissingType {
    /// There is no such type.
    #[error("no {what} {name}")]
    NoType {
        /// `typedef`, `struct`, `enum`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// It is there, but is something else.
    #[error("{name} is {found}, expected {expected}")]
    OtherType {
        /// The name that was asked for.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

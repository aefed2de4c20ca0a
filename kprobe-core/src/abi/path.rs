use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes of a path that a record has room for: one more than the longest name of a file, so that the last part of a
/// path always fits.
pub const PATH_TEXT: usize = 256;

/// Most bytes of what an allowed directory is called.
pub const PATH_NAME: usize = 255;

/// Body of [`Kind::PATH_EXEC`](super::Kind::PATH_EXEC). The header names the thread, which is the first of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PathExec {
    /// Inode number of the program's file (of the interpreter, for a script).
    pub inode: u64,
    /// Device of that inode in the kernel's encoding: major << 20 | minor.
    pub device: u32,
    /// Which entry of the allow-list it is below, or is: see [`PathAllowed`].
    pub entry: u16,
    /// Bytes of `text` in use; all behind them are 0.
    pub len: u16,
    /// `PATH_*` bits.
    pub flags: u32,
    /// None defined.
    pub reserved: u32,
    /// The path: what the entry is called, and the names below it. Of one that is too long the end, from a name on.
    pub text: [u8; PATH_TEXT],
}

/// Body of [`Kind::PATH_OPEN`](super::Kind::PATH_OPEN). The header names the thread whose call it was, at the return of the
/// call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PathOpen {
    /// Inode number of the file.
    pub inode: u64,
    /// Device of that inode in the kernel's encoding: major << 20 | minor.
    pub device: u32,
    /// Which entry of the allow-list it is below, or is: see [`PathAllowed`].
    pub entry: u16,
    /// Bytes of `text` in use; all behind them are 0.
    pub len: u16,
    /// `PATH_*` bits.
    pub flags: u32,
    /// The descriptor that the call returned.
    pub fd: i32,
    /// The path, as in [`PathExec`].
    pub text: [u8; PATH_TEXT],
}

/// The path is too long for the record: what it begins with is left out.
pub const PATH_TRUNCATED: u32 = 1;
/// The file has been removed, or never had a name; the path is where it was.
pub const PATH_UNLINKED: u32 = 2;

/// Body of [`Kind::META_PATH`](super::Kind::META_PATH): an entry of the list of what paths are recorded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PathAllowed {
    /// Its number, from 0 on.
    pub entry: u16,
    /// Bytes of `text` in use; all behind them are 0.
    pub len: u16,
    /// None defined.
    pub flags: u32,
    /// What it is called, as the user called it.
    pub text: [u8; PATH_TEXT],
}

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::UNIX_SEND`](super::Kind::UNIX_SEND). The header names the thread that sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixSend {
    /// Cookie of the sending socket.
    pub cookie: u64,
    /// Cookie of the socket at the other end.
    pub peer_cookie: u64,
    /// Position of the first byte in the stream.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// Inode number of the sending socket; 0 if it has none.
    pub inode: u64,
    /// `UNIX_*` bits.
    pub flags: u64,
}

/// Body of [`Kind::UNIX_RECV`](super::Kind::UNIX_RECV). The header names the thread that received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixRecv {
    /// Cookie of the receiving socket.
    pub cookie: u64,
    /// Cookie of the socket at the other end.
    pub peer_cookie: u64,
    /// Position of the first byte in the stream.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// Inode number of the receiving socket; 0 if it has none.
    pub inode: u64,
    /// `UNIX_*` bits.
    pub flags: u64,
}

/// The connection was not seen being made: positions count from the first bytes that were seen.
pub const UNIX_RELATIVE: u64 = 1;
/// The bytes were copied and can be received again.
pub const UNIX_PEEK: u64 = 2;
/// [`UNIX_OVERLAPPED`] means something.
pub const UNIX_HAS_OVERLAPPED: u64 = 4;
/// Another thread moved bytes on the same side of the stream meanwhile: whose came first is not known.
pub const UNIX_OVERLAPPED: u64 = 8;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::PIPE_WRITE`](super::Kind::PIPE_WRITE). The header names the thread that put the bytes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PipeWrite {
    /// Inode number of the pipe.
    pub inode: u64,
    /// Position of the first byte in the stream.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// Device of the inode, as the kernel's `dev_t`.
    pub device: u32,
    /// How: one of [`PipeCall`].
    pub call: u16,
    /// `PIPE_*` bits.
    pub flags: u16,
}

/// Body of [`Kind::PIPE_READ`](super::Kind::PIPE_READ). The header names the thread that took the bytes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PipeRead {
    /// Inode number of the pipe.
    pub inode: u64,
    /// Position of the first byte in the stream.
    pub start: u64,
    /// Position behind the last byte.
    pub end: u64,
    /// Device of the inode, as the kernel's `dev_t`.
    pub device: u32,
    /// How: one of [`PipeCall`].
    pub call: u16,
    /// `PIPE_*` bits.
    pub flags: u16,
}

/// The pipe had been used when it was first seen: positions count from then on.
pub const PIPE_RELATIVE: u16 = 1;
/// Another thread moved bytes on the same side of the pipe meanwhile: whose came first is not known.
pub const PIPE_OVERLAPPED: u16 = 2;
/// The bytes were copied and are still in the pipe.
pub const PIPE_PEEK: u16 = 4;

/// What a system call does to pipes: a byte for each number in the table `PIPE_CALLS`, which the loader fills in by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct PipeCall(pub u8);

impl PipeCall {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `read` and its kin, from the first descriptor.
    pub const READ: Self = Self(1);
    /// `write` and its kin, into the first descriptor.
    pub const WRITE: Self = Self(2);
    /// `splice`, from the first descriptor into that of the third argument.
    pub const SPLICE: Self = Self(3);
    /// `tee`, from the first descriptor into the second.
    pub const TEE: Self = Self(4);
    /// `vmsplice`: into the first descriptor if it can be written to, else from it.
    pub const VMSPLICE: Self = Self(5);
    /// `sendfile`, into the first descriptor.
    pub const SENDFILE: Self = Self(6);
}

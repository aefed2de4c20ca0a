//! `struct file`, and how a descriptor leads to one.

use crate::{
    memory::{Memory, Object, Probed, text},
    offsets::{
        ABSENT, OFF_DENTRY_D_NAME_NAME, OFF_FDTABLE_FD, OFF_FDTABLE_MAX_FDS, OFF_FILE_F_INODE,
        OFF_FILE_F_MODE, OFF_FILE_F_PATH_DENTRY, OFF_FILE_F_PATH_MNT, OFF_FILE_PRIVATE_DATA,
        OFF_FILES_STRUCT_FDT, OFF_INODE_I_INO, OFF_INODE_I_MODE, OFF_INODE_I_PIPE, OFF_INODE_I_SB,
        OFF_SUPER_BLOCK_S_DEV, OFF_SUPER_BLOCK_S_MAGIC, OFF_TASK_STRUCT_FILES,
    },
    task::Task,
};

/// An open file.
#[derive(Clone, Copy)]
pub struct File(Object<Probed>);

// include/linux/fs.h
const FMODE_WRITE: u32 = 2;

impl File {
    /// No file at all: what is read of it is 0.
    pub const NONE: Self = Self(Object::NONE);

    /// The file at an address that the kernel gave.
    #[inline(always)]
    pub fn new(address: u64) -> Self {
        Self(Object::new(address as *const u8))
    }

    /// What a descriptor stands for in the process of a thread; [`Self::NONE`] if it is not open.
    #[inline(always)]
    pub fn of<M: Memory>(task: Task<M>, fd: u32) -> Self {
        let table =
            Object::<M>::new(task.address()).follow(&OFF_TASK_STRUCT_FILES).follow(&OFF_FILES_STRUCT_FDT);
        if fd >= table.load::<u32>(&OFF_FDTABLE_MAX_FDS) {
            return Self::NONE;
        }
        let files: u64 = table.load(&OFF_FDTABLE_FD);
        // SAFETY: see `Memory::load`; the table has room for the descriptor.
        Self::new(unsafe { Probed::load((files + u64::from(fd) * 8) as *const u8) })
    }

    /// Whether it is open for writing.
    #[inline(always)]
    pub fn is_writable(self) -> bool {
        self.0.load::<u32>(&OFF_FILE_F_MODE) & FMODE_WRITE != 0
    }

    /// What its kind of file keeps: of a socket `struct socket`.
    #[inline(always)]
    pub fn private(self) -> Object<Probed> {
        self.0.follow(&OFF_FILE_PRIVATE_DATA)
    }

    /// Where it was found: the addresses of its `struct dentry`, which is 0 if there is no file, and of its `struct vfsmount`.
    #[inline(always)]
    pub fn path(self) -> (u64, u64) {
        (self.0.load(&OFF_FILE_F_PATH_DENTRY), self.0.load(&OFF_FILE_F_PATH_MNT))
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.address().is_null()
    }

    /// The name that the kernel itself gave to a file without a place: what it has written there, not what any program has.
    /// To be compared, not to be recorded.
    #[inline(always)]
    pub fn anonymous_name(self) -> [u64; 2] {
        let dentry = self.0.follow(&OFF_FILE_F_PATH_DENTRY);
        zerocopy::transmute!(text(dentry.follow(&OFF_DENTRY_D_NAME_NAME).address()))
    }

    /// What it is a file of.
    #[inline(always)]
    pub fn inode(self) -> Inode {
        Inode(self.0.follow(&OFF_FILE_F_INODE))
    }
}

/// What a file is of.
#[derive(Clone, Copy)]
pub struct Inode(Object<Probed>);

// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
/// A pipe.
pub const S_IFIFO: u16 = 0o010_000;
/// The node of a character device.
pub const S_IFCHR: u16 = 0o020_000;
/// The node of a block device.
pub const S_IFBLK: u16 = 0o060_000;
/// A socket.
pub const S_IFSOCK: u16 = 0o140_000;

impl Inode {
    /// No file's.
    pub const NONE: Self = Self(Object::NONE);

    /// What kind of file it is: the `S_IFMT` bits of its mode.
    #[inline(always)]
    pub fn format(self) -> u16 {
        self.0.load::<u16>(&OFF_INODE_I_MODE) & S_IFMT
    }

    /// What kind of file system it is in.
    #[inline(always)]
    pub fn magic(self) -> u64 {
        self.0.follow(&OFF_INODE_I_SB).load(&OFF_SUPER_BLOCK_S_MAGIC)
    }

    /// Whether it is a pipe, with or without a name.
    #[inline(always)]
    pub fn is_fifo(self) -> bool {
        self.0.load::<u16>(&OFF_INODE_I_MODE) & S_IFMT == S_IFIFO
    }

    /// Whether it is a socket.
    #[inline(always)]
    pub fn is_socket(self) -> bool {
        self.0.load::<u16>(&OFF_INODE_I_MODE) & S_IFMT == S_IFSOCK
    }

    /// `struct pipe_inode_info` of a pipe.
    #[inline(always)]
    pub fn pipe(self) -> Object<Probed> {
        self.0.follow(&OFF_INODE_I_PIPE)
    }

    /// Its number.
    #[inline(always)]
    pub fn number(self) -> u64 {
        self.0.load(&OFF_INODE_I_INO)
    }

    /// Its device.
    #[inline(always)]
    pub fn device(self) -> u32 {
        self.0.follow(&OFF_INODE_I_SB).load(&OFF_SUPER_BLOCK_S_DEV)
    }
}

/// Which file it is: inode number and device. `None` if the kernel does not tell.
#[inline(always)]
pub fn identity<M: Memory>(file: Object<M>) -> Option<(u64, u32)> {
    let parts = [&OFF_FILE_F_INODE, &OFF_INODE_I_INO, &OFF_INODE_I_SB, &OFF_SUPER_BLOCK_S_DEV];
    if parts.iter().any(|offset| offset.get() == ABSENT) {
        return None;
    }
    let inode = file.follow(&OFF_FILE_F_INODE);
    let device = inode.follow(&OFF_INODE_I_SB).load(&OFF_SUPER_BLOCK_S_DEV);
    Some((inode.load(&OFF_INODE_I_INO), device))
}

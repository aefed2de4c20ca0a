//! `struct file`.

use crate::{
    memory::{Memory, Object},
    offsets::{ABSENT, OFF_FILE_F_INODE, OFF_INODE_I_INO, OFF_INODE_I_SB, OFF_SUPER_BLOCK_S_DEV},
};

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

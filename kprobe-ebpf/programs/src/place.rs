//! Where an address is in a file.

use crate::{
    frozen::PAGE_SHIFT,
    memory::{Object, Probed},
    offsets::{
        OFF_FILE_F_INODE, OFF_INODE_I_INO, OFF_INODE_I_SB, OFF_SUPER_BLOCK_S_DEV, OFF_VM_AREA_STRUCT_VM_FILE,
        OFF_VM_AREA_STRUCT_VM_FLAGS, OFF_VM_AREA_STRUCT_VM_PGOFF, OFF_VM_AREA_STRUCT_VM_START,
    },
};

/// Where an address is in a file, if it is in one that is mapped for all to see.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    address: u64,
    /// In the file.
    pub offset: u64,
    /// The file's.
    pub inode: u64,
    /// The file's.
    pub device: u32,
    /// Not 0: it is in such a file, and the others tell where.
    pub is_shared: u32,
}

impl Place {
    /// In no file, as far as is known.
    #[inline(always)]
    pub fn of(address: u64) -> Self {
        Self { address, offset: 0, inode: 0, device: 0, is_shared: 0 }
    }

    /// Looks at the mapping that the address is in. Memory of a private mapping of a file is not the file's.
    ///
    /// # Safety
    ///
    /// `place` is valid for reads and writes.
    #[inline(always)]
    pub unsafe fn look_at(place: *mut Self, mapping: Object<Probed>) {
        const VM_SHARED: u64 = 8;
        let file = mapping.follow(&OFF_VM_AREA_STRUCT_VM_FILE);
        if file.address().is_null() || mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_FLAGS) & VM_SHARED == 0 {
            return;
        }
        let inode = file.follow(&OFF_FILE_F_INODE);
        let begin = mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_PGOFF) << PAGE_SHIFT.get();
        // SAFETY: the caller's promise.
        unsafe {
            (*place).offset = begin + (*place).address - mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_START);
            (*place).inode = inode.load(&OFF_INODE_I_INO);
            (*place).device = inode.follow(&OFF_INODE_I_SB).load(&OFF_SUPER_BLOCK_S_DEV);
            (*place).is_shared = 1;
        }
    }
}

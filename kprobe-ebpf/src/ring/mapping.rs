use std::{
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

use rustix::{
    io,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// Shared memory mapped from a file, unmapped on drop unless it was lent.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    is_own: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread, and the type gives out nothing but its address: each use
// of that address has to argue for itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(fd: BorrowedFd<'_>, offset: u64, len: usize, prot: ProtFlags) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, fd, offset) }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::Errno::NOMEM)?, len, is_own: true })
    }

    /// # Safety
    ///
    /// `start..start + len` is a mapping that nothing else unmaps.
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, is_own: true }
    }

    /// # Safety
    ///
    /// `start..start + len` is mapped and stays so.
    #[cfg(test)]
    pub(crate) unsafe fn lent(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, is_own: false }
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
        // SAFETY: the range was mapped by or given to this value, and what borrows from it is gone.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

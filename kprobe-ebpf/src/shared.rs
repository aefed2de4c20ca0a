//! Array maps that user space has mapped: the memory that programs and user space share while recording.

use std::{
    marker::PhantomData,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::maps::MapData;
use rustix::{mm::ProtFlags, param::page_size};

use crate::{AttachError, ring::Mapping};

/// An array map with elements `T`, all of whose access is by atomic integers.
#[derive(Debug)]
pub(crate) struct SharedArray<T> {
    memory: Mapping,
    len: usize,
    element: PhantomData<T>,
}

impl<T> SharedArray<T> {
    /// Maps an array map that was made with `BPF_F_MMAPABLE`.
    pub(crate) fn map(map: &MapData) -> Result<Self, AttachError> {
        let info = map.info().map_err(AttachError::map)?;
        if info.value_size() as usize != size_of::<T>() || !size_of::<T>().is_multiple_of(8) {
            return Err(AttachError::MapLayout {
                map: info.name_as_str().unwrap_or_default().to_owned(),
                expected: size_of::<T>(),
                found: info.value_size() as usize,
            });
        }
        let len = info.max_entries() as usize;
        let bytes = (len * size_of::<T>()).next_multiple_of(page_size());
        let memory = Mapping::new(map.fd().as_fd(), 0, bytes, ProtFlags::READ | ProtFlags::WRITE)
            .map_err(|error| AttachError::system("map an array of the kernel programs", error))?;
        Ok(Self { memory, len, element: PhantomData })
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The 64-bit integer at `offset` in element `index`.
    pub(crate) fn u64_at(&self, index: usize, offset: usize) -> &AtomicU64 {
        let at = self.address(index, offset, size_of::<u64>());
        // SAFETY: `address` gave an aligned address inside the mapping, which lives as long as the borrow of self; here
        // and in the kernel the integer is only accessed atomically.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    /// The 32-bit integer at `offset` in element `index`.
    pub(crate) fn u32_at(&self, index: usize, offset: usize) -> &AtomicU32 {
        let at = self.address(index, offset, size_of::<u32>());
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    fn address(&self, index: usize, offset: usize, size: usize) -> *mut u8 {
        assert!(index < self.len, "element {index} of {}", self.len);
        assert!(offset + size <= size_of::<T>() && offset.is_multiple_of(size), "offset {offset}");
        // SAFETY: the element ends inside the mapping, which has `len` of them, and the field inside the element.
        unsafe { self.memory.start().add(index * size_of::<T>() + offset) }
    }
}

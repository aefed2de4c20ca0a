use std::{
    mem::offset_of,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapType;
use kprobe_core::abi::{MAX_RECORD, ReaderState};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::{RingError, buffer::info, mapping::Mapping};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// The map `READERS`, shared with the kernel programs: one [`ReaderState`] for each ring.
#[derive(Debug)]
pub struct ReaderStates {
    parts: Vec<Part>,
}

/// The map of one object.
#[derive(Debug)]
struct Part {
    memory: Mapping,
    count: usize,
}

impl ReaderStates {
    /// Maps `READERS`: an array of [`ReaderState`] with `BPF_F_MMAPABLE` (Linux 5.5).
    pub fn map(map: BorrowedFd<'_>) -> Result<Self, RingError> {
        let info = info(map)?;
        let found = info.map_type()?;
        let right = found == MapType::Array
            && info.value_size() as usize == size_of::<ReaderState>()
            && info.map_flags() & MMAPABLE != 0;
        if !right {
            return Err(RingError::NotReaders { found: format!("{found:?}"), value_size: info.value_size() });
        }
        let count = info.max_entries() as usize;
        let len = count * size_of::<ReaderState>();
        let memory = Mapping::new(map, 0, len, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self::over(memory, count))
    }

    /// For `count` rings whose programs submit with flags 0 and know nothing of [`ReaderState`]: the kernel then wakes
    /// the reader for each record that finds it caught up.
    pub fn unshared(count: usize) -> Result<Self, RingError> {
        let len = count.max(1) * size_of::<ReaderState>();
        let flags = MapFlags::PRIVATE;
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        let start = std::ptr::NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        // SAFETY: mapped on the line above and known to nobody else.
        let memory = unsafe { Mapping::from_raw(start, len) };
        Ok(Self::over(memory, count))
    }

    /// `memory` holds `count` of them.
    pub(super) fn over(memory: Mapping, count: usize) -> Self {
        assert!(count * size_of::<ReaderState>() <= memory.len());
        Self { parts: vec![Part { memory, count }] }
    }

    /// Appends the states of another object's rings, which are numbered on from here.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Number of rings it has room for.
    pub(super) fn count(&self) -> usize {
        self.parts.iter().map(|part| part.count).sum()
    }

    /// Tells the programs of a ring how full it may get before they wake a napping reader. Once a quarter is unread,
    /// and looking often enough that another eighth cannot pass unseen: each of the `cpus` that fill it looks by its own
    /// record numbers.
    pub(super) fn set_thresholds(&self, ring: usize, ring_bytes: usize, cpus: usize) {
        let between_checks = (ring_bytes / 8 / (MAX_RECORD + 8) / cpus.max(1)).clamp(1, 256);
        let check_mask = u32::try_from(1usize << between_checks.ilog2()).unwrap_or(256) - 1;
        // Relaxed: advice that programs may see late; until they do, 0 makes them look at each record.
        self.wake_bytes(ring).store(ring_bytes as u64 / 4, Ordering::Relaxed);
        self.check_mask(ring).store(check_mask, Ordering::Relaxed);
    }

    pub(super) fn idle(&self, ring: usize) -> &AtomicU32 {
        let at = self.field(ring, offset_of!(ReaderState, idle));
        // SAFETY: `field` gives an address inside the mapping, aligned as in ReaderState; all access, here and in the
        // kernel, is atomic; the mapping lives as long as the borrow of self.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// Records of all rings for which there was no room.
    pub(super) fn lost(&self) -> u64 {
        let lost = |ring| {
            let at = self.field(ring, offset_of!(ReaderState, lost));
            // SAFETY: as in `idle`.
            let lost = unsafe { AtomicU64::from_ptr(at.cast()) };
            // Acquire: behind it `Counters::lost` are read, which the programs counted before; they do both with full
            // barriers.
            lost.load(Ordering::Acquire)
        };
        (0..self.count()).map(lost).fold(0, u64::wrapping_add)
    }

    fn check_mask(&self, ring: usize) -> &AtomicU32 {
        let at = self.field(ring, offset_of!(ReaderState, check_mask));
        // SAFETY: as in `idle`.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    fn wake_bytes(&self, ring: usize) -> &AtomicU64 {
        let at = self.field(ring, offset_of!(ReaderState, wake_bytes));
        // SAFETY: as in `idle`.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    fn field(&self, ring: usize, offset: usize) -> *mut u8 {
        let mut ring = ring;
        for part in &self.parts {
            if ring < part.count {
                // SAFETY: element `ring` ends inside the mapping, which has `count` of them.
                return unsafe { part.memory.start().add(ring * size_of::<ReaderState>() + offset) };
            }
            ring -= part.count;
        }
        panic!("no state for ring {ring} behind {} others", self.count());
    }
}

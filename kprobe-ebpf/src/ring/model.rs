//! A ring buffer in ordinary memory, written as kernel/bpf/ringbuf.c writes one and mapped as it maps one; an eventfd
//! stands for its wait queue. What the tests cannot have otherwise: records that stay reserved as long as they like.

use std::{
    mem::ManuallyDrop,
    os::fd::{AsFd as _, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{MemfdFlags, ftruncate, memfd_create},
    io,
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous},
    param::page_size,
};

use super::{
    ReaderStates, Ring,
    buffer::{BUSY, DISCARD, HEADER},
    mapping::Mapping,
};

/// When a commit wakes the reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wake {
    /// Flags 0: if the reader is at this record.
    IfCaughtUp,
    /// `BPF_RB_NO_WAKEUP`.
    No,
    /// `BPF_RB_FORCE_WAKEUP`.
    Force,
}

/// The writing side: what the kernel keeps of a ring.
#[derive(Clone, Debug)]
pub(super) struct Producer(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    /// Consumer page, producer page, data, data.
    mapping: Mapping,
    mask: usize,
    doorbell: OwnedFd,
    /// `rb->spinlock`, with `rb->pending_pos`, which only its holder uses.
    pending: Mutex<usize>,
    /// `Counters::submitted` of the program.
    submitted: AtomicU64,
}

/// A record that is reserved.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<Memory>,
    position: usize,
    len: usize,
}

/// Maps `bytes` of data twice in a row behind `lead` bytes of the file that start at `offset`; the data is at the
/// file's third page.
fn map_twice(file: &OwnedFd, offset: usize, lead: usize, bytes: usize, prot: ProtFlags) -> Mapping {
    let len = lead + 2 * bytes;
    // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE) }
        .expect("address space");
    let start = NonNull::new(start.cast::<u8>()).expect("not null");
    // SAFETY: the line above mapped these addresses, for this.
    let mapping = unsafe { Mapping::from_raw(start, len) };
    let pieces = [(0, offset, lead), (lead, 2 * page_size(), bytes), (lead + bytes, 2 * page_size(), bytes)];
    for (at, offset, len) in pieces {
        let at = mapping.start().wrapping_add(at);
        // SAFETY: it replaces a part of `mapping`, to which nothing points yet.
        unsafe { mmap(at.cast(), len, prot, MapFlags::SHARED | MapFlags::FIXED, file, offset as u64) }
            .expect("memfd maps");
    }
    mapping
}

/// A file for a ring, and what the kernel sees of it.
fn file_and_view(bytes: usize) -> (OwnedFd, Mapping) {
    let file = memfd_create("ring-model", MemfdFlags::CLOEXEC).expect("memfd");
    ftruncate(&file, (2 * page_size() + bytes) as u64).expect("memfd grows");
    let mapping = map_twice(&file, 0, 2 * page_size(), bytes, ProtFlags::READ | ProtFlags::WRITE);
    (file, mapping)
}

/// What the kernel sees of a ring, and the two mappings of its reader: other addresses, as it is in truth.
fn in_views(bytes: usize) -> (Mapping, Mapping, Mapping) {
    let (file, mapping) = file_and_view(bytes);
    let consumer = Mapping::new(file.as_fd(), 0, page_size(), ProtFlags::READ | ProtFlags::WRITE);
    let producer = map_twice(&file, page_size(), page_size(), bytes, ProtFlags::READ);
    (mapping, consumer.expect("memfd maps"), producer)
}

/// Whether who looks on goes by addresses: Miri, or ThreadSanitizer, whose run sets the second.
const IN_ONE_VIEW: bool = cfg!(any(miri, kprobe_sanitize_thread));

/// Likewise for those: the same addresses for both. They see there what one does against the other, which they cannot in different views.
/// It is mapped for good, as any of the three may be the last.
fn in_one_view(bytes: usize) -> (Mapping, Mapping, Mapping) {
    let len = 2 * (page_size() + bytes);
    let start = if cfg!(miri) { once(len) } else { ManuallyDrop::new(file_and_view(bytes).1).start() };
    let part = |at: usize, len| {
        let start = NonNull::new(start.wrapping_add(at)).expect("not null");
        // SAFETY: nothing unmaps it.
        unsafe { Mapping::lent(start, len) }
    };
    (part(0, len), part(0, page_size()), part(page_size(), len - page_size()))
}

/// Miri maps no files. The data is there once: for records that do not pass the end.
fn once(len: usize) -> *mut u8 {
    // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
    let start = unsafe {
        mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    };
    start.expect("memory").cast()
}

/// A ring of so many bytes whose positions begin at `position`.
pub(super) fn ring_at(bytes: usize, position: usize) -> (Producer, Ring) {
    let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd");
    let (mapping, consumer, producer) = if IN_ONE_VIEW { in_one_view(bytes) } else { in_views(bytes) };
    let fd = doorbell.try_clone().expect("descriptor");
    let (pending, submitted) = (Mutex::new(position), AtomicU64::new(0));
    let memory = Memory { mapping, mask: bytes - 1, doorbell, pending, submitted };
    memory.consumer().store(position, Ordering::Relaxed);
    memory.producer().store(position, Ordering::Relaxed);
    let ring = Ring::from_parts(fd, consumer, producer).expect("a ring");
    (Producer(Arc::new(memory)), ring)
}

pub(super) fn ring(bytes: usize) -> (Producer, Ring) {
    ring_at(bytes, 0)
}

/// The reader's view of `READERS`, and the programs'.
pub(super) fn states(count: usize) -> (ReaderStates, ReaderStates) {
    let file = memfd_create("readers-model", MemfdFlags::CLOEXEC).expect("memfd");
    ftruncate(&file, page_size() as u64).expect("memfd grows");
    let map = || Mapping::new(file.as_fd(), 0, page_size(), ProtFlags::READ | ProtFlags::WRITE);
    let view = || ReaderStates::over(map().expect("memfd maps"), count);
    (view(), view())
}

impl Producer {
    /// `__bpf_ringbuf_reserve`.
    pub(super) fn reserve(&self, len: usize) -> Option<Reservation> {
        let memory = &self.0;
        let total = (len + HEADER).next_multiple_of(8);
        let consumed = memory.consumer().load(Ordering::Acquire);
        let mut pending = memory.lock();
        let position = memory.producer().load(Ordering::Relaxed);
        while *pending < position {
            let header = memory.header(*pending).load(Ordering::Relaxed);
            if header & BUSY != 0 {
                break;
            }
            *pending += ((header & !DISCARD) as usize + HEADER).next_multiple_of(8);
        }
        let end = position + total;
        if end - consumed > memory.mask || end - *pending > memory.mask {
            return None;
        }
        memory.header(position).store(u32::try_from(len).expect("short") | BUSY, Ordering::Relaxed);
        memory.producer().store(end, Ordering::Release);
        Some(Reservation { memory: Arc::clone(memory), position, len })
    }

    /// What a kernel program does for a record: reserve, count, ask, submit. `false` if there was no room.
    pub(super) fn emit(&self, idle: &AtomicU32, record: &[u8]) -> bool {
        let Some(mut reservation) = self.reserve(record.len()) else { return false };
        self.0.submitted.fetch_add(1, Ordering::SeqCst);
        let wake = idle.load(Ordering::SeqCst) != 0 && idle.swap(0, Ordering::SeqCst) != 0;
        reservation.bytes().copy_from_slice(record);
        reservation.submit(if wake { Wake::Force } else { Wake::No });
        true
    }

    /// A second reader says that it has read everything.
    pub(super) fn read_by_another(&self) {
        let memory = &self.0;
        memory.consumer().store(memory.producer().load(Ordering::Relaxed), Ordering::Release);
    }

    /// Overwrites the header of the record at `position`.
    pub(super) fn corrupt(&self, position: usize, header: u32) {
        self.0.header(position).store(header, Ordering::Release);
    }
}

impl Reservation {
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let start = self.memory.data(self.position).wrapping_add(HEADER);
        // SAFETY: the bytes of a reserved record belong to who reserved it; the reader stays away while it is busy.
        unsafe { slice::from_raw_parts_mut(start, self.len) }
    }

    pub(super) fn submit(self, wake: Wake) {
        self.commit(0, wake);
    }

    pub(super) fn discard(self, wake: Wake) {
        self.commit(DISCARD, wake);
    }

    /// `bpf_ringbuf_commit`.
    fn commit(self, flags: u32, wake: Wake) {
        let memory = &self.memory;
        let header = u32::try_from(self.len).expect("short") | flags;
        memory.header(self.position).swap(header, Ordering::SeqCst);
        let consumed = memory.consumer().load(Ordering::SeqCst);
        let wake = match wake {
            Wake::IfCaughtUp => consumed == self.position,
            Wake::No => false,
            Wake::Force => true,
        };
        if wake {
            io::write(&memory.doorbell, &1u64.to_ne_bytes()).expect("doorbell");
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.pending.lock().expect("no test panics in here")
    }

    fn consumer(&self) -> &AtomicUsize {
        // SAFETY: start of the consumer page, which is only accessed atomically.
        unsafe { AtomicUsize::from_ptr(self.mapping.start().cast()) }
    }

    fn producer(&self) -> &AtomicUsize {
        // SAFETY: start of the producer page, which is only accessed atomically.
        unsafe { AtomicUsize::from_ptr(self.mapping.start().wrapping_add(page_size()).cast()) }
    }

    fn data(&self, position: usize) -> *mut u8 {
        self.mapping.start().wrapping_add(2 * page_size() + (position & self.mask))
    }

    fn header(&self, position: usize) -> &AtomicU32 {
        // SAFETY: positions are multiples of 8 and masked to lie in the data; headers are only accessed atomically
        // while the reader may look at them.
        unsafe { AtomicU32::from_ptr(self.data(position).cast()) }
    }
}

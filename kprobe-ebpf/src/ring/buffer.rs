use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence},
};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use bytes::BytesMut;
use kprobe_core::abi::Header;
use rustix::{
    io::Errno,
    mm::ProtFlags,
    param::page_size,
    time::{ClockId, clock_gettime},
};

use super::mapping::Mapping;

/// `BPF_RINGBUF_BUSY_BIT`: reserved, not yet submitted.
pub(super) const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: the program changed its mind.
pub(super) const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`: length and flags in 4 bytes, then 4 bytes that mean something only to the kernel.
pub(super) const HEADER: usize = 8;

/// How far ahead of the record being looked at its successors are fetched. Records follow each other, but where the
/// next one starts is known only when this one's header has arrived from the other CPU; the lines can travel meanwhile.
const PREFETCH: usize = 1024;

/// Of records this long and longer most of what lies between two headers may never be looked at, so the headers themselves
/// are fetched, as if all records that follow were as long: this far ahead at least.
const LONG: usize = 160;
const LONG_PREFETCH_BITS: u32 = 12;

/// How many bytes are looked at before they are copied: few enough to be in the nearest cache still.
const PIECE: usize = 2048;

/// The reading side of one BPF ring buffer.
///
/// One ring has one reader: it alone moves the consumer position.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    /// The page with the consumer position.
    consumer: Mapping,
    /// The page with the producer position, then the data twice in a row, so that no record is ever in two pieces.
    producer: Mapping,
    /// Length of the data, a power of two, minus one.
    mask: usize,
    /// Where reading goes on: the consumer position, which nobody else writes.
    position: usize,
    /// A producer position and a time that is earlier than the moment of loading it.
    target: Target,
    drained_until_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    position: usize,
    ns: u64,
}

/// What one drain took out of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Submitted records.
    pub records: u64,
    /// Discarded records, which are not among `records`.
    pub discarded: u64,
    /// Bytes of the ring that all of them took, headers and padding included.
    pub bytes: usize,
    /// Why it stopped.
    pub stop: Stop,
}

/// Why a drain stopped. Of several rings' reasons the greatest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Everything was taken that had been reserved when the drain began.
    CaughtUp,
    /// The next record is reserved but not yet submitted.
    Busy,
    /// The next record would not fit into the limit.
    Limit,
    /// A record claims to be longer than what was reserved: this is no ring buffer, or somebody else reads it too.
    Corrupt,
}

/// A ring could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The map is not a ring buffer.
    #[error("map is a {found}, not a ring buffer")]
    NotARing {
        /// What it is.
        found: String,
    },
    /// The map cannot hold [`ReaderState`](kprobe_core::abi::ReaderState)s.
    #[error("map is a {found} with values of {value_size} bytes, not a mappable array of ReaderState")]
    NotReaders {
        /// What it is.
        found: String,
        /// Bytes of a value.
        value_size: u32,
    },
    /// A ring's size is a power of two, and a multiple of the page size.
    #[error("ring of {0} bytes: not a power of two of at least one page")]
    Size(usize),
    /// There are fewer reader states than rings.
    #[error("{rings} rings but {states} reader states")]
    States {
        /// Rings given.
        rings: usize,
        /// Elements of the map.
        states: usize,
    },
    /// The kernel would not say what the map is.
    #[error("not a map of this kernel: {0}")]
    Info(String),
    /// A system call failed.
    #[error("ring buffer: {0}")]
    Os(#[from] io::Error),
}

impl From<Errno> for RingError {
    fn from(error: Errno) -> Self {
        Self::Os(error.into())
    }
}

impl From<MapError> for RingError {
    fn from(error: MapError) -> Self {
        Self::Info(error.to_string())
    }
}

/// What the kernel says of a map.
pub(super) fn info(map: BorrowedFd<'_>) -> Result<MapInfo, RingError> {
    Ok(MapData::from_fd(map.try_clone_to_owned()?)?.info()?)
}

impl Ring {
    /// Takes over the reading of a ring buffer map (Linux 5.8).
    ///
    /// # Errors
    /// It is no ring buffer, or it cannot be mapped.
    ///
    /// # Safety
    /// While this exists nobody else reads the ring, in this process or another: a second reader gives room back to the
    /// kernel, which then writes over records that [`consume`](Self::consume) has lent out.
    pub unsafe fn map(fd: OwnedFd) -> Result<Self, RingError> {
        let info = info(fd.as_fd())?;
        let found = info.map_type()?;
        if found != MapType::RingBuf {
            return Err(RingError::NotARing { found: format!("{found:?}") });
        }
        let bytes = info.max_entries() as usize;
        // ringbuf_map_mmap_kern: the first page is the only one that may be writable, and it must be mapped alone.
        let consumer = Mapping::new(fd.as_fd(), 0, page_size(), ProtFlags::READ | ProtFlags::WRITE)?;
        let offset = page_size() as u64;
        let producer = Mapping::new(fd.as_fd(), offset, page_size() + 2 * bytes, ProtFlags::READ)?;
        Self::from_parts(fd, consumer, producer)
    }

    /// `fd` becomes readable when the kernel wakes; the mappings are laid out as `ringbuf_map_mmap_kern` does.
    pub(super) fn from_parts(fd: OwnedFd, consumer: Mapping, producer: Mapping) -> Result<Self, RingError> {
        let bytes = producer.len().saturating_sub(page_size()) / 2;
        if !bytes.is_power_of_two() || bytes < page_size() || consumer.len() < page_size() {
            return Err(RingError::Size(bytes));
        }
        let mut ring = Self {
            fd,
            consumer,
            producer,
            mask: bytes - 1,
            position: 0,
            target: Target { position: 0, ns: 0 },
            drained_until_ns: 0,
        };
        // Not 0 if the ring had a reader before. Acquire: what that reader did comes before what this one does.
        ring.position = ring.consumer_position().load(Ordering::Acquire);
        ring.target.position = ring.position;
        Ok(ring)
    }

    /// Passes each submitted record to `f`, in place, until about `limit_bytes` of the ring were taken (but at least
    /// one record). The kernel gets the room back when this returns.
    #[inline]
    pub fn consume(&mut self, limit_bytes: usize, mut f: impl FnMut(&[u8])) -> Drained {
        let Some(mut walk) = self.walk(limit_bytes) else { return Drained::CORRUPT };
        let mut taking = Taking::new(self);
        loop {
            match walk.step() {
                Ok((record, header)) => {
                    taking.position = walk.at;
                    if header & DISCARD == 0 {
                        // SAFETY: `step` found a committed record here, that reaches no further than what is reserved,
                        // which is at most the length of the data, which is mapped twice in a row. No program writes
                        // to it until `taking` publishes the position behind it, after `f`.
                        f(unsafe { slice::from_raw_parts(record, header as usize) });
                    }
                }
                Err(stop) => return walk.drained(stop),
            }
        }
    }

    /// Appends the ring's bytes to `out` as they are, in one copy, until `limit_bytes` were taken (but at least one
    /// record).
    ///
    /// Each record is a `u32` with its length (bit 30: discarded, to be skipped), a `u32` without meaning, and so many
    /// bytes, padded to a multiple of 8.
    pub fn copy_into(&mut self, out: &mut BytesMut, limit_bytes: usize) -> Drained {
        let Some(mut walk) = self.walk(limit_bytes) else { return Drained::CORRUPT };
        let mut taking = Taking::new(self);
        loop {
            let step = walk.step();
            let piece = walk.at.wrapping_sub(taking.position);
            if piece >= PIECE || step.is_err() {
                // SAFETY: `step` found nothing but committed records in these bytes; they are at most the length of the
                // data, which is mapped twice in a row; and no program writes to them until `taking` publishes the
                // position behind them.
                out.extend_from_slice(unsafe { slice::from_raw_parts(walk.view.at(taking.position), piece) });
                taking.position = walk.at;
            }
            if let Err(stop) = step {
                return walk.drained(stop);
            }
        }
    }

    /// Every record that was not yet drained was reserved after this time: nanoseconds of `CLOCK_MONOTONIC`.
    ///
    /// It stands still while a record is reserved and not submitted, since nobody knows when that one was reserved.
    #[must_use]
    pub fn drained_until_ns(&self) -> u64 {
        self.drained_until_ns
    }

    /// Bytes of the ring that are reserved or submitted and not yet drained.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        // Relaxed: only the number is of interest.
        self.producer_position().load(Ordering::Relaxed).wrapping_sub(self.position)
    }

    /// Length of the ring.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.mask + 1
    }

    /// Consumer position, as drained so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn producer_position(&self) -> &AtomicUsize {
        // SAFETY: the mapping starts with the producer page, which starts with `unsigned long producer_pos`, which the
        // kernel accesses atomically. It is mapped read-only: it is only ever loaded from, and Relaxed, since other loads
        // may be instructions that write (see "Atomic accesses to read-only memory" in std::sync::atomic).
        unsafe { AtomicUsize::from_ptr(self.producer.start().cast()) }
    }

    fn consumer_position(&self) -> &AtomicUsize {
        // SAFETY: the mapping is the consumer page, which starts with `unsigned long consumer_pos`, which the kernel
        // accesses atomically.
        unsafe { AtomicUsize::from_ptr(self.consumer.start().cast()) }
    }

    /// Chooses how far to read: as far as was chosen before, or if that was reached, to what is reserved now; but about
    /// `limit_bytes`. `None` if that is more than the ring holds: a second reader gave room back that this one has not
    /// read.
    fn walk(&mut self, limit_bytes: usize) -> Option<Walk> {
        if self.position == self.target.position {
            self.look_at(monotonic_ns());
        }
        let left = self.target.position.wrapping_sub(self.position);
        let view = View { data: self.producer.start().wrapping_add(page_size()), mask: self.mask };
        (left <= self.len_bytes()).then_some(Walk {
            view,
            start: self.position,
            at: self.position,
            end: self.target.position,
            limit: self.position.wrapping_add(left.min(limit_bytes)),
            taken: 0,
            discarded: 0,
        })
    }

    /// Loads the producer position; `now_ns` is a time before that. What is not seen here was reserved later.
    pub(super) fn look_at(&mut self, now_ns: u64) {
        let position = self.producer_position().load(Ordering::Relaxed);
        // An acquire, which pairs with smp_store_release(&rb->producer_pos) in
        // __bpf_ringbuf_reserve: what lies before this position has its header, and in it the busy bit, in place.
        acquire(|order| self.producer_position().load(order));
        self.target = Target { position, ns: now_ns };
        self.reach();
    }

    fn reach(&mut self) {
        if self.position == self.target.position {
            self.drained_until_ns = self.target.ns;
        }
    }
}

impl AsFd for Ring {
    /// Readable, for an edge-triggered wait, when the kernel woke.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drained {
    /// Not even the first record can be trusted.
    const CORRUPT: Self = Self { records: 0, discarded: 0, bytes: 0, stop: Stop::Corrupt };
}

/// The data, for the length of a drain.
#[derive(Clone, Copy)]
struct View {
    data: *const u8,
    mask: usize,
}

impl View {
    /// Where the byte at `position` is.
    #[inline(always)]
    fn at(self, position: usize) -> *const u8 {
        self.data.wrapping_add(position & self.mask)
    }
}

/// The way of a drain from record to record.
struct Walk {
    view: View,
    /// Where it began.
    start: usize,
    /// Where the next record is.
    at: usize,
    /// Where what is reserved ends.
    end: usize,
    /// Where it is to end, but not before the first record's.
    limit: usize,
    /// Records that it has passed, discarded ones too.
    taken: u64,
    discarded: u64,
}

impl Walk {
    /// Passes the next record, and gives the address of its bytes and its header: its length, and [`DISCARD`].
    #[inline(always)]
    fn step(&mut self) -> Result<(*const u8, u32), Stop> {
        if self.at == self.end {
            return Err(Stop::CaughtUp);
        }
        let at = self.view.at(self.at);
        prefetch(at.wrapping_add(PREFETCH));
        // SAFETY: positions are multiples of 8 (`total` below, and round_up in __bpf_ringbuf_reserve), so the address
        // is aligned; it is inside the first of the two data mappings, which outlive the drain that took this view; the
        // kernel writes it with xchg or, before the producer position passes it, plainly. It is mapped read-only: see
        // `producer_position`.
        let word = unsafe { AtomicU32::from_ptr(at.cast_mut().cast()) };
        let header = word.load(Ordering::Relaxed);
        if header & BUSY != 0 {
            return Err(Stop::Busy);
        }
        // An acquire, which pairs with xchg(&hdr->len) in bpf_ringbuf_commit: with the busy bit gone,
        // the record's bytes are there.
        acquire(|order| word.load(order));
        // Rounded up to a multiple of 8; it cannot overflow, a length has 30 bits.
        let total = ((header & !DISCARD) as usize + HEADER + 7) & !7;
        if total >= LONG {
            let ahead = at.wrapping_add(total << LONG_PREFETCH_BITS.saturating_sub(total.ilog2() + 1));
            prefetch(ahead);
            prefetch(ahead.wrapping_add(HEADER + size_of::<Header>() - 1));
        }
        if total > self.limit.wrapping_sub(self.at) {
            self.pass_limit(total)?;
        }
        self.at = self.at.wrapping_add(total);
        self.taken += 1;
        self.discarded += u64::from(header & DISCARD != 0);
        Ok((at.wrapping_add(HEADER), header))
    }

    /// The next record, of `total` bytes, goes beyond the limit. Only the first one may.
    #[cold]
    fn pass_limit(&mut self, total: usize) -> Result<(), Stop> {
        if total > self.end.wrapping_sub(self.at) {
            return Err(Stop::Corrupt);
        }
        if self.at != self.start {
            return Err(Stop::Limit);
        }
        self.limit = self.at.wrapping_add(total);
        Ok(())
    }

    /// What it has passed.
    fn drained(&self, stop: Stop) -> Drained {
        let (records, bytes) = (self.taken - self.discarded, self.at.wrapping_sub(self.start));
        Drained { records, discarded: self.discarded, bytes, stop }
    }
}

/// A drain under way. Its end publishes the position once, also if a callback panics.
struct Taking<'a> {
    ring: &'a mut Ring,
    position: usize,
}

impl<'a> Taking<'a> {
    #[inline(always)]
    fn new(ring: &'a mut Ring) -> Self {
        Self { position: ring.position, ring }
    }
}

impl Drop for Taking<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.position != self.ring.position {
            self.ring.position = self.position;
            // Pairs with smp_load_acquire(&rb->consumer_pos) in __bpf_ringbuf_reserve, after which a program may write
            // over what was read.
            self.ring.consumer_position().store(self.position, Ordering::Release);
        }
        self.ring.reach();
    }
}

pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The kernel's monotonic clock starts at 0 and its parts are never negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Makes an acquire of the relaxed load before it, which alone is sound where memory is mapped read-only. ThreadSanitizer knows no
/// fences; in the tests of the model, which it looks at, both sides have the memory to write, so for it the load is done `again`.
#[inline(always)]
fn acquire<T>(again: impl FnOnce(Ordering) -> T) {
    if cfg!(all(test, kprobe_sanitize_thread)) {
        again(Ordering::Acquire);
    } else {
        fence(Ordering::Acquire);
    }
}

#[inline(always)]
fn prefetch(at: *const u8) {
    // Miri knows no such instruction.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch of any address has no effect but on the cache.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = at;
}

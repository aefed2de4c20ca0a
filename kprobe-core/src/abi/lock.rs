use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a futex is known by: two calls concern the same futex if their keys are equal. Part of other bodies.
///
/// With [`FUTEX_SHARED`] the object is an inode number and `device` its file system; the address counts only in the process
/// that passed it. Else the object is the number of the address space, which is never used again, and 0 where the kernel
/// has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FutexKey {
    /// Where the futex is in the memory of the process that made the call. Nobody reads what is there.
    pub address: u64,
    /// Address space or inode.
    pub object: u64,
    /// Where it is in the file, in bytes; 0 if it is in none.
    pub offset: u64,
    /// Device of the file system as the kernel encodes it; 0 if it is in no file.
    pub device: u32,
    /// `FUTEX_*` bits.
    pub flags: u32,
}

/// The call has one address. A call with a list of them has none here, since the list is in the memory of the process.
pub const FUTEX_HAS_ADDRESS: u32 = 1;
/// The call said that only threads of one address space use the futex.
pub const FUTEX_PRIVATE: u32 = 2;
/// The futex is in a file or in shared memory: `object`, `offset` and `device` say where.
pub const FUTEX_SHARED: u32 = 4;
/// `object` is the number of the address space.
pub const FUTEX_HAS_SPACE: u32 = 8;
/// Where the futex is could not be found out: only the address is known.
pub const FUTEX_UNRESOLVED: u32 = 16;

/// Body of [`Kind::LOCK_FUTEX`](super::Kind::LOCK_FUTEX): a wait that is over. The header names the thread that waited, and
/// its time is that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockFutex {
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// What it waited for.
    pub key: FutexKey,
    /// When another thread woke it. Present with [`FUTEX_HAS_WAKER`], as are all that begin with `waker`.
    pub woken_ns: u64,
    /// The first address in the waker's call; present with [`FUTEX_HAS_WAKER_ADDRESS`].
    pub waker_address: u64,
    /// Process that woke it.
    pub waker_tgid: u32,
    /// Thread that woke it.
    pub waker_tid: u32,
    /// What the call returned: a negative errno for a failure.
    pub ret: i32,
    /// Futexes that it waited for.
    pub futexes: u32,
    /// One of [`futex_op`].
    pub op: u32,
    /// `FUTEX_*` bits of the wait.
    pub flags: u32,
}

/// Another thread woke it.
pub const FUTEX_HAS_WAKER: u32 = 1;
/// It did so by a call that has a first address; else it was ending, and the kernel did it.
pub const FUTEX_HAS_WAKER_ADDRESS: u32 = 2;
/// The thread gave up its CPU during the call.
pub const FUTEX_BLOCKED: u32 = 4;
/// The call had a time limit.
pub const FUTEX_TIMED: u32 = 8;
/// The wait goes on after a signal or a stop: the kernel made the thread call again (`restart_syscall`).
pub const FUTEX_RESTARTED: u32 = 16;

/// Body of [`Kind::LOCK_FUTEX_WAKE`](super::Kind::LOCK_FUTEX_WAKE): a call that wakes waiters. The header names the thread
/// that called, and its time is that of the return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockFutexWake {
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// Whose waiters it wakes.
    pub key: FutexKey,
    /// The second address: of `REQUEUE` and its kin, and of `WAKE_OP`. Present with [`FUTEX_HAS_SECOND`].
    pub second_address: u64,
    /// How many it asked to wake.
    pub wanted: u32,
    /// How many more it asked to requeue, or to wake at the second address. Present with [`FUTEX_HAS_SECOND`].
    pub wanted_second: u32,
    /// What the call returned: a negative errno for a failure.
    pub ret: i32,
    /// One of [`futex_op`].
    pub op: u32,
    /// [`FUTEX_HAS_SECOND`]. There is a second address only if there is a first.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// The call has a second address.
pub const FUTEX_HAS_SECOND: u32 = 1;

/// What was asked for. Up to 127 as in `linux/futex.h`, without the bits that are or'ed to it.
pub mod futex_op {
    /// Wait.
    pub const WAIT: u32 = 0;
    /// Wake.
    pub const WAKE: u32 = 1;
    /// Wake some, requeue others.
    pub const REQUEUE: u32 = 3;
    /// The same, if the value is still what it was.
    pub const CMP_REQUEUE: u32 = 4;
    /// Change another futex, wake at one or at both.
    pub const WAKE_OP: u32 = 5;
    /// Take a lock that lends its priority.
    pub const LOCK_PI: u32 = 6;
    /// Give it back.
    pub const UNLOCK_PI: u32 = 7;
    /// Wait for some of 32 bits.
    pub const WAIT_BITSET: u32 = 9;
    /// Wake those who wait for some of 32 bits.
    pub const WAKE_BITSET: u32 = 10;
    /// Wait, to be requeued to a lock that lends its priority.
    pub const WAIT_REQUEUE_PI: u32 = 11;
    /// Requeue to such a lock.
    pub const CMP_REQUEUE_PI: u32 = 12;
    /// As `LOCK_PI`, with a choice of clocks.
    pub const LOCK_PI2: u32 = 13;
    /// The system call `futex_waitv`: wait for any of several.
    pub const FUTEX2_WAITV: u32 = 128;
    /// The system call `futex_wake`.
    pub const FUTEX2_WAKE: u32 = 129;
    /// The system call `futex_wait`.
    pub const FUTEX2_WAIT: u32 = 130;
    /// The system call `futex_requeue`.
    pub const FUTEX2_REQUEUE: u32 = 131;
}

/// Body of [`Kind::LOCK_CONTENTION`](super::Kind::LOCK_CONTENTION): a lock of the kernel that was not free. The header names
/// the thread that was current, and its time is that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockContention {
    /// When it began to wait: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// A number for the lock, made from its address with a secret that is another for each recording.
    pub lock: u64,
    /// 0 if it got the lock, else -errno.
    pub ret: i32,
    /// How it waited: `CONTENTION_*`, the kernel's `LCB_F_*`.
    pub flags: u32,
    /// Who waited: one of `CONTEXT_*`.
    pub context: u32,
    /// 0.
    pub reserved: u32,
}

/// It spun.
pub const CONTENTION_SPIN: u32 = 1;
/// It wanted to share the lock with other readers.
pub const CONTENTION_READ: u32 = 2;
/// It wanted to write.
pub const CONTENTION_WRITE: u32 = 4;
/// A lock that lends its priority (`rt_mutex`).
pub const CONTENTION_RT: u32 = 8;
/// A lock with a part for each CPU.
pub const CONTENTION_PERCPU: u32 = 16;
/// A mutex.
pub const CONTENTION_MUTEX: u32 = 32;

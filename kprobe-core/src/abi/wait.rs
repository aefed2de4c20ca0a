use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::WAIT_BLOCKED`](super::Kind::WAIT_BLOCKED): a thread gave up its CPU because it could not go on, and has one
/// again. The header names the thread that waited, and its time is that of its running again.
///
/// What begins with `wake` is what it was woken for, what begins with `waker` by whom. What an object is says its class: see
/// [`wait_class`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitBlocked {
    /// When it gave up its CPU: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// When it was woken, which is not before `begin_ns`. Present with [`WAIT_HAS_WAKER`], as is all that begins with `wake`.
    pub woken_ns: u64,
    /// Present with [`WAIT_HAS_OBJECT`].
    pub object: u64,
    /// The kernel's number of a socket; present with [`WAIT_HAS_COOKIE`].
    pub cookie: u64,
    /// Present with [`WAIT_HAS_OBJECT`] among the bits of the wake-up.
    pub wake_object: u64,
    /// Present with [`WAIT_HAS_COOKIE`] there.
    pub wake_cookie: u64,
    /// With an inode its file system, with a sector its device, as the kernel's `dev_t`; present with [`WAIT_HAS_DEVICE`].
    pub device: u32,
    /// Present with [`WAIT_HAS_DEVICE`] among the bits of the wake-up.
    pub wake_device: u32,
    /// The descriptor in the call; present with [`WAIT_HAS_FD`].
    pub fd: i32,
    /// The descriptor in the waker's call; present with [`WAIT_HAS_FD`] among the bits of the wake-up.
    pub wake_fd: i32,
    /// Process that was current at the wake-up.
    pub waker_tgid: u32,
    /// Thread that was current at the wake-up. It is the one that did it only if `wake_context` says `CONTEXT_TASK`.
    pub waker_tid: u32,
    /// The state that the thread was in: the kernel's `TASK_*` bits.
    pub state: u32,
    /// `WAIT_*` bits; those of the wake-up shifted by [`WAIT_OF_WAKE`].
    pub flags: u32,
    /// System call that the thread was in; present with [`WAIT_HAS_NR`].
    pub nr: u16,
    /// System call that the waker was in; present with [`WAIT_HAS_NR`] among the bits of the wake-up.
    pub wake_nr: u16,
    /// One of [`wait_class`].
    pub class: u8,
    /// One of [`wait_class`]; [`NONE`](wait_class::NONE) if it is not known what the thread was woken for.
    pub wake_class: u8,
    /// One of the `CONTEXT_*` of wake-ups.
    pub wake_context: u8,
    /// 0.
    pub reserved: u8,
}

/// There is a system call.
pub const WAIT_HAS_NR: u32 = 1;
/// There is a descriptor.
pub const WAIT_HAS_FD: u32 = 2;
/// There is an object.
pub const WAIT_HAS_OBJECT: u32 = 4;
/// The object is a number on a device.
pub const WAIT_HAS_DEVICE: u32 = 8;
/// The object is a socket with a cookie.
pub const WAIT_HAS_COOKIE: u32 = 16;
/// Of a wake-up by a timer: it is the one that limits the wait.
pub const WAIT_OWN_LIMIT: u32 = 32;
/// By how much the bits above are shifted for the wake-up.
pub const WAIT_OF_WAKE: u32 = 8;
/// It is known who woke the thread, and when.
pub const WAIT_HAS_WAKER: u32 = 1 << 16;

/// What a thread waits for, and is woken for.
///
/// The object of a pipe, of a file and of a device's node is its inode number, with the device of the file system; of a
/// socket it is the inode number that `fstat` tells. Of other descriptors it is a number that stands for the object behind
/// them in one recording, and is the same for all descriptors of one object.
pub mod wait_class {
    /// Not known.
    pub const NONE: u8 = 0;
    /// A pipe, with or without a name.
    pub const PIPE: u8 = 1;
    /// A socket.
    pub const SOCKET: u8 = 2;
    /// A counter of `eventfd`.
    pub const EVENTFD: u8 = 3;
    /// A timer with a descriptor.
    pub const TIMERFD: u8 = 4;
    /// Signals with a descriptor.
    pub const SIGNALFD: u8 = 5;
    /// A set of descriptors.
    pub const EPOLL: u8 = 6;
    /// Changes of files.
    pub const INOTIFY: u8 = 7;
    /// A process with a descriptor.
    pub const PIDFD: u8 = 8;
    /// A ring for calls.
    pub const IO_URING: u8 = 9;
    /// A descriptor of another kind without a place in a file system.
    pub const ANONYMOUS: u8 = 10;
    /// A file or a directory.
    pub const FILE: u8 = 11;
    /// A block device's node.
    pub const BLOCK_DEVICE: u8 = 12;
    /// A character device's node: a terminal, for example.
    pub const CHAR_DEVICE: u8 = 13;
    /// A futex; the object is its address, in the process of the call.
    pub const FUTEX: u8 = 14;
    /// The end of a child; the object is the id that the call was given, if it is one child's.
    pub const CHILD: u8 = 15;
    /// Time to pass.
    pub const SLEEP: u8 = 16;
    /// A signal.
    pub const SIGNAL: u8 = 17;
    /// Several descriptors; the object is how many, if the call says.
    pub const POLL: u8 = 18;
    /// A process that was made, to let go of the memory.
    pub const FORK: u8 = 19;
    /// Messages or semaphores; the object is their id, or an inode number with a device.
    pub const QUEUE: u8 = 20;
    /// Whatever the call waits for.
    pub const CALL: u8 = 21;
    /// No call: memory, or what else is to be done before a thread gets back to its program.
    pub const FAULT: u8 = 22;
    /// What a thread of the kernel waits for, or delivers.
    pub const KERNEL: u8 = 23;
    /// To be let go on, after a stop.
    pub const STOP: u8 = 24;
    /// Of wake-ups: a timer. If it is a descriptor's the object is the same number.
    pub const TIMER: u8 = 25;
    /// Of wake-ups: a request to a block device; the object is its sector.
    pub const REQUEST: u8 = 26;
    /// Of wake-ups: the waker is ending.
    pub const EXIT: u8 = 27;
}

/// What a system call waits for, or wakes for: a byte for each number in the table `WAIT_CALLS`, which the loader fills in by
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct WaitCall(pub u8);

impl WaitCall {
    /// Nothing that can be told by its arguments.
    pub const OTHER: Self = Self(0);
    /// What the first argument, a descriptor, stands for.
    pub const FD: Self = Self(1);
    /// From the first descriptor into the third argument.
    pub const SPLICE: Self = Self(2);
    /// From the first descriptor into the second.
    pub const TEE: Self = Self(3);
    /// From the second descriptor into the first.
    pub const SENDFILE: Self = Self(4);
    /// `futex`.
    pub const FUTEX: Self = Self(5);
    /// A newer call about the futex that is the first argument.
    pub const FUTEX_ONE: Self = Self(6);
    /// A newer call about futexes in a list.
    pub const FUTEX_LIST: Self = Self(7);
    /// `wait4`.
    pub const WAIT4: Self = Self(8);
    /// `waitid`.
    pub const WAITID: Self = Self(9);
    /// Time.
    pub const SLEEP: Self = Self(10);
    /// A signal.
    pub const SIGNAL: Self = Self(11);
    /// Descriptors, of which the second argument is the number.
    pub const POLL: Self = Self(12);
    /// Descriptors.
    pub const SELECT: Self = Self(13);
    /// A process that it makes.
    pub const FORK: Self = Self(14);
    /// What has the number that is the first argument.
    pub const QUEUE: Self = Self(15);
    /// It sends a signal.
    pub const KILL: Self = Self(16);
    /// It ends.
    pub const EXIT: Self = Self(17);
}

/// Body of [`Kind::WAIT_EPOLL`](super::Kind::WAIT_EPOLL): a descriptor came into a set, or left it. The header names the
/// thread that called, and its time is that of the return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitEpoll {
    /// The set: the object of waits for it.
    pub epoll: u64,
    /// What the descriptor stands for: the object of waits for it; present with [`WAIT_HAS_OBJECT`].
    pub object: u64,
    /// The kernel's number of a socket; present with [`WAIT_HAS_COOKIE`].
    pub cookie: u64,
    /// The set's descriptor.
    pub epfd: i32,
    /// The descriptor.
    pub fd: i32,
    /// With an inode its file system; present with [`WAIT_HAS_DEVICE`].
    pub device: u32,
    /// `EPOLL_CTL_*`: 1 for add, 2 for delete, 3 for modify.
    pub op: u16,
    /// One of [`wait_class`].
    pub class: u8,
    /// `WAIT_HAS_*`.
    pub flags: u8,
}

/// Body of [`Kind::WAIT_THROTTLE`](super::Kind::WAIT_THROTTLE): a cgroup had used up its time on a CPU (`cpu.max`), and may go
/// on. The header names the thread that was current then, and its time is that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitThrottle {
    /// When it had to stop: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// The cgroup, in the v2 hierarchy; present with [`THROTTLE_HAS_CGROUP`].
    pub cgroup_id: u64,
    /// The CPU.
    pub cpu: u32,
    /// [`THROTTLE_HAS_CGROUP`].
    pub flags: u32,
}

/// The cgroup is one of the v2 hierarchy.
pub const THROTTLE_HAS_CGROUP: u32 = 1;

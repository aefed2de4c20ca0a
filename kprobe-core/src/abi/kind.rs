use core::fmt;

/// What a record is: the family in the high byte, the event in the low byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Kind(pub u16);

macro_rules! families {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// A group of kinds that is switched, filtered and sampled as one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Family {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Family {
            /// Every family this version knows, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in options, reports and configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The family with this number: the upper byte of a kind.
            #[inline(always)]
            const fn numbered(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

families! {
    /// Records about the stream itself.
    Meta = 0, "meta";
    /// Scheduler.
    Sched = 1, "sched";
    /// Process life.
    Process = 2, "process";
    /// System calls.
    Syscall = 3, "syscall";
    /// TCP.
    Tcp = 4, "tcp";
    /// Block devices.
    Block = 5, "block";
    /// Memory management.
    Memory = 6, "memory";
    /// Locks.
    Lock = 7, "lock";
    /// Interrupts.
    Irq = 8, "irq";
    /// Security checks.
    Security = 9, "security";
    /// UDP.
    Udp = 10, "udp";
    /// Stream sockets of the machine itself.
    Unix = 11, "unix";
    /// Pipes.
    Pipe = 12, "pipe";
    /// What blocked threads wait for.
    Wait = 13, "wait";
    /// Paths of files, of directories that the user allowed.
    Path = 14, "path";
    /// A user's own probes.
    User = 15, "user";
}

/// Length of tables that have an entry for each [`Family`].
pub const FAMILIES: usize = 16;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, slot $slot:tt;)+) => {
        impl Kind {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)+

            /// Every kind this version knows, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in JSON, reports and configuration, for example `sched.switch`.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some($text),)+ _ => None }
            }

            /// Index of this kind's counters in [`CpuState::counters`](super::CpuState); `None` for a kind that no
            /// kernel program emits and for one this version does not know.
            #[must_use]
            #[inline(always)]
            pub const fn slot(self) -> Option<usize> {
                match self.0 {
                    $($number => slot!($slot),)+
                    user @ 0x0f00..=0x0f0f => Some(USER_SLOT + (user & 0xf) as usize),
                    _ => None,
                }
            }
        }
    };
}

/// Number of counter slots; the last 16 belong to a user's own kinds.
pub const SLOTS: usize = 64;
const USER_SLOT: usize = SLOTS - 16;

macro_rules! slot {
    (none) => {
        None
    };
    ($slot:literal) => {
        Some($slot)
    };
}

kinds! {
    /// Records were lost: the kernel had no room. See [`Lost`](super::Lost).
    META_LOST = 0x0001, "meta.lost", slot none;
    /// A mark that a user put into the stream.
    META_MARKER = 0x0002, "meta.marker", slot none;
    /// The sampling rate of a family, at the start and at each change. See [`Sampling`](super::Sampling).
    META_SAMPLING = 0x0003, "meta.sampling", slot none;
    /// A thread that was alive when recording began. See [`ThreadSeed`](super::ThreadSeed).
    META_THREAD = 0x0004, "meta.thread", slot none;
    /// What a cgroup is called. See [`CgroupName`](super::CgroupName).
    META_CGROUP = 0x0005, "meta.cgroup", slot none;
    /// How long events took, counted in the kernel. See [`Histogram`](super::Histogram).
    META_HISTOGRAM = 0x0006, "meta.histogram", slot none;
    /// The clocks stand to each other in another way. See [`ClockChange`](super::ClockChange).
    META_CLOCK = 0x0007, "meta.clock", slot none;
    /// Paths are recorded below this. See [`PathAllowed`](super::PathAllowed).
    META_PATH = 0x0008, "meta.path", slot none;

    /// A CPU went from one thread to another.
    SCHED_SWITCH = 0x0101, "sched.switch", slot 0;
    /// A thread is being woken.
    SCHED_WAKING = 0x0102, "sched.waking", slot 1;
    /// A thread moved to another CPU.
    SCHED_MIGRATE = 0x0103, "sched.migrate", slot 2;

    /// A process or thread was created.
    PROCESS_FORK = 0x0201, "process.fork", slot 3;
    /// A process began another program.
    PROCESS_EXEC = 0x0202, "process.exec", slot 4;
    /// A thread, or with its last thread a process, ended.
    PROCESS_EXIT = 0x0203, "process.exit", slot 5;
    /// A thread got another name (`comm`).
    PROCESS_RENAME = 0x0204, "process.rename", slot 6;

    /// A completed system call.
    SYSCALL = 0x0301, "syscall", slot 7;

    /// Bytes were handed to a TCP socket.
    TCP_SEND = 0x0401, "tcp.send", slot 8;
    /// Bytes were taken from a TCP socket.
    TCP_RECV = 0x0402, "tcp.recv", slot 9;
    /// A segment was sent again.
    TCP_RETRANSMIT = 0x0403, "tcp.retransmit", slot 10;
    /// A TCP connection changed state.
    TCP_STATE = 0x0404, "tcp.state", slot 11;
    /// A TCP connection that was asked for came about, or failed, with the time it took.
    TCP_CONNECT = 0x0405, "tcp.connect", slot 12;
    /// A thread took an incoming TCP connection.
    TCP_ACCEPT = 0x0406, "tcp.accept", slot 23;

    /// A block request, issued to completed.
    BLOCK_REQUEST = 0x0501, "block.request", slot 13;
    /// What was submitted became part of a request that was there. See [`BlockMerge`](super::BlockMerge).
    BLOCK_MERGE = 0x0502, "block.merge", slot 34;

    /// A page fault that had to wait for a device.
    MEMORY_FAULT_MAJOR = 0x0601, "memory.fault_major", slot 14;
    /// A page fault that did not.
    MEMORY_FAULT_MINOR = 0x0602, "memory.fault_minor", slot 15;
    /// A thread reclaimed memory for its own allocation.
    MEMORY_RECLAIM = 0x0603, "memory.reclaim", slot 16;
    /// The kernel killed a process for want of memory.
    MEMORY_OOM_KILL = 0x0604, "memory.oom_kill", slot 17;
    /// A thread moved pages together.
    MEMORY_COMPACTION = 0x0605, "memory.compaction", slot 30;

    /// A thread waited for a kernel lock.
    LOCK_CONTENTION = 0x0701, "lock.contention", slot 18;
    /// A thread waited for a futex.
    LOCK_FUTEX = 0x0702, "lock.futex", slot 19;
    /// A thread woke others that waited for a futex.
    LOCK_FUTEX_WAKE = 0x0703, "lock.futex_wake", slot 32;

    /// A hardware interrupt was served.
    IRQ_HARD = 0x0801, "irq.hard", slot 20;
    /// A softirq was served.
    IRQ_SOFT = 0x0802, "irq.soft", slot 21;

    /// A capability was checked.
    SECURITY_CAPABILITY = 0x0901, "security.capability", slot 22;

    /// A thread sent a datagram.
    UDP_SEND = 0x0a01, "udp.send", slot 24;
    /// A thread received one.
    UDP_RECV = 0x0a02, "udp.recv", slot 25;

    /// Bytes were sent on a stream socket of the machine itself.
    UNIX_SEND = 0x0b01, "unix.send", slot 26;
    /// Bytes were received on one.
    UNIX_RECV = 0x0b02, "unix.recv", slot 27;

    /// Bytes were put into a pipe.
    PIPE_WRITE = 0x0c01, "pipe.write", slot 28;
    /// Bytes were taken out of a pipe.
    PIPE_READ = 0x0c02, "pipe.read", slot 29;

    /// A thread waited without a CPU.
    WAIT_BLOCKED = 0x0d01, "wait.blocked", slot 35;
    /// A descriptor came into an epoll set, or left it.
    WAIT_EPOLL = 0x0d02, "wait.epoll", slot 36;
    /// A cgroup had used up its time on a CPU, and may go on.
    WAIT_THROTTLE = 0x0d03, "wait.throttle", slot 37;

    /// A process began another program, by the path of its file.
    PATH_EXEC = 0x0e01, "path.exec", slot 38;
    /// A thread opened a file, by its path.
    PATH_OPEN = 0x0e02, "path.open", slot 39;
}

impl Kind {
    /// The first kind of a user's own events; 16 of them have counters in the kernel.
    pub const USER: Self = Self(0x0f00);

    /// The family in the high byte. Inlined, so that programs, which know the kind, need not check the number.
    #[must_use]
    #[inline(always)]
    pub const fn family(self) -> Option<Family> {
        Family::numbered(self.0 >> 8)
    }
}

/// The name; the number in hexadecimal if this version does not know it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

use crate::{
    abi::{self, Kind, futex_op},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Tgid, Tid, Type, TypedEvent, Value, WakeContext, errno_name},
};

/// What a futex is known by. Two calls concern the same futex if this is equal, addresses aside where it is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FutexKey {
    /// Where it is in the memory of the process that made the call.
    pub address: u64,
    /// The call said that only threads of one address space use it. The kernel keeps such futexes apart from others.
    pub private: bool,
    /// What the address is in.
    pub place: FutexPlace,
}

/// What the address of a futex is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FutexPlace {
    /// Memory of one address space.
    Space {
        /// Its number, which is never used again; `None` where the kernel has none (it has on x86). Then the process of the
        /// call stands for it.
        space: Option<u64>,
    },
    /// A file, or shared memory, which is a file without a name.
    File {
        /// Inode number.
        inode: u64,
        /// File system.
        device: Device,
        /// Where it is in the file, in bytes.
        offset: u64,
    },
    /// It could not be found out.
    Unknown,
}

/// A wait for a futex that is over. The origin names the thread that waited, and its time is that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockFutex {
    /// The thread that waited.
    pub origin: Origin,
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// How it waited.
    pub op: FutexOp,
    /// What it waited for; `None` for a call with a list of futexes.
    pub key: Option<FutexKey>,
    /// How many futexes it waited for.
    pub futexes: u32,
    /// What the call returned: a negative errno for a failure.
    pub ret: i32,
    /// The thread gave up its CPU during the call.
    pub blocked: bool,
    /// The call had a time limit.
    pub timed: bool,
    /// It went on with a wait that a signal or a stop had interrupted.
    pub restarted: bool,
    /// Who woke it; `None` if nobody did (see `ret`), or not while it slept.
    pub waker: Option<FutexWaker>,
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FutexWaker {
    /// Its process.
    pub tgid: Tgid,
    /// The thread.
    pub tid: Tid,
    /// When: nanoseconds of `CLOCK_MONOTONIC`. It lies within the call of the waker.
    pub ktime_ns: u64,
    /// The first address in its call; `None` if the thread was ending and the kernel did it.
    pub address: Option<u64>,
}

/// A call that wakes those who wait for a futex. The origin names the caller, and its time is that of the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockFutexWake {
    /// The thread that called.
    pub origin: Origin,
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// How it wakes.
    pub op: FutexOp,
    /// Whose waiters; `None` for a call with a list of futexes.
    pub key: Option<FutexKey>,
    /// The second address, of calls that have one.
    pub second_address: Option<u64>,
    /// How many it asked to wake.
    pub wanted: u32,
    /// How many more it asked to requeue, or to wake at the second address.
    pub wanted_second: Option<u32>,
    /// What the call returned: a negative errno for a failure.
    pub ret: i32,
}

/// How a call waits or wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexOp(pub u32);

impl FutexOp {
    /// Name: in capitals one of the operations of `futex`, else a system call.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            futex_op::WAIT => "WAIT",
            futex_op::WAKE => "WAKE",
            futex_op::REQUEUE => "REQUEUE",
            futex_op::CMP_REQUEUE => "CMP_REQUEUE",
            futex_op::WAKE_OP => "WAKE_OP",
            futex_op::LOCK_PI => "LOCK_PI",
            futex_op::UNLOCK_PI => "UNLOCK_PI",
            futex_op::WAIT_BITSET => "WAIT_BITSET",
            futex_op::WAKE_BITSET => "WAKE_BITSET",
            futex_op::WAIT_REQUEUE_PI => "WAIT_REQUEUE_PI",
            futex_op::CMP_REQUEUE_PI => "CMP_REQUEUE_PI",
            futex_op::LOCK_PI2 => "LOCK_PI2",
            futex_op::FUTEX2_WAITV => "futex_waitv",
            futex_op::FUTEX2_WAKE => "futex_wake",
            futex_op::FUTEX2_WAIT => "futex_wait",
            futex_op::FUTEX2_REQUEUE => "futex_requeue",
            _ => return None,
        })
    }
}

/// A lock of the kernel that was not free. The origin names the thread that was current, and its time is that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockContention {
    /// The thread that waited, or that an interrupt hit, which waited.
    pub origin: Origin,
    /// When it began to wait: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// A number for the lock: the same for the same lock in one recording, another in the next.
    pub lock: u64,
    /// How it waited.
    pub how: Contended,
    /// 0 if it got the lock, else -errno.
    pub ret: i32,
    /// What waited; `None` where the kernel gives no way to tell.
    pub context: Option<WakeContext>,
}

/// How a lock of the kernel is waited for: the kernel's `LCB_F_*` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contended(pub u32);

impl Contended {
    /// What kind of lock it is, as far as the kernel tells.
    #[must_use]
    pub const fn class(self) -> &'static str {
        let Self(bits) = self;
        let is_rw = bits & (abi::CONTENTION_READ | abi::CONTENTION_WRITE) != 0;
        if bits & abi::CONTENTION_MUTEX != 0 {
            "mutex"
        } else if bits & abi::CONTENTION_RT != 0 {
            "rt_mutex"
        } else if bits & abi::CONTENTION_PERCPU != 0 {
            "percpu_rwsem"
        } else {
            match (bits & abi::CONTENTION_SPIN != 0, is_rw) {
                (true, true) => "rwlock",
                (true, false) => "spinlock",
                (false, true) => "rwsem",
                (false, false) => "semaphore",
            }
        }
    }

    /// `read` or `write` of a lock that tells them apart.
    #[must_use]
    pub const fn access(self) -> Option<&'static str> {
        if self.0 & abi::CONTENTION_READ != 0 {
            Some("read")
        } else if self.0 & abi::CONTENTION_WRITE != 0 {
            Some("write")
        } else {
            None
        }
    }

    /// It spun, all the time or at first.
    #[must_use]
    pub const fn spun(self) -> bool {
        self.0 & abi::CONTENTION_SPIN != 0
    }
}

impl FutexKey {
    fn of(key: &abi::FutexKey) -> Option<Self> {
        let has = |bit| key.flags & bit != 0;
        let place = if has(abi::FUTEX_UNRESOLVED) {
            FutexPlace::Unknown
        } else if has(abi::FUTEX_SHARED) {
            let device = Device::from_kernel(key.device);
            FutexPlace::File { inode: key.object, device, offset: key.offset }
        } else {
            FutexPlace::Space { space: has(abi::FUTEX_HAS_SPACE).then_some(key.object) }
        };
        has(abi::FUTEX_HAS_ADDRESS).then_some(Self {
            address: key.address,
            private: has(abi::FUTEX_PRIVATE),
            place,
        })
    }

    fn fields(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("address", Value::U64(self.address));
        put("private", Value::Bool(self.private));
        match self.place {
            FutexPlace::Space { space: Some(space) } => put("space", Value::U64(space)),
            FutexPlace::File { inode, device, offset } => {
                put("inode", Value::U64(inode));
                put("device", Value::Text(&device.to_string()));
                put("offset", Value::U64(offset));
            }
            FutexPlace::Space { space: None } | FutexPlace::Unknown => {}
        }
    }
}

const OP: Field =
    Field::new("op", Type::Text, "in capitals an operation of futex, else one of the newer system calls")
        .optional();
const ADDRESS: Field =
    Field::new("address", Type::U64, "where the futex is in the memory of the process").optional();
const PRIVATE: Field =
    Field::new("private", Type::Bool, "only threads of one address space use it, says the call").optional();
const SPACE: Field =
    Field::new("space", Type::U64, "number of the address space, for a futex in no file").optional();
const INODE: Field =
    Field::new("inode", Type::U64, "of the file or shared memory that the futex is in").optional();
const DEVICE: Field = Field::new("device", Type::Text, "major:minor of its file system").optional();
const OFFSET: Field = Field::new("offset", Type::U64, "where the futex is in the file, in bytes").optional();
const ENTER: Field =
    Field::new("enter_ktime_ns", Type::U64, "when the call was entered, in ns of CLOCK_MONOTONIC");
const DURATION: Field = Field::new("duration_ns", Type::U64, "from entry to return");
const RET: Field = Field::new("ret", Type::I64, "what the call returned");
const ERRNO: Field = Field::new("errno", Type::Text, "name of the error, if it failed").optional();

impl LockFutex {
    /// How long the call took.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.enter_ns)
    }

    /// It was woken, or got the lock: neither a time limit nor a signal ended it, nor was there nothing to wait for.
    #[must_use]
    pub const fn is_woken(&self) -> bool {
        self.ret >= 0
    }
}

impl TypedEvent for LockFutex {
    const KIND: Kind = Kind::LOCK_FUTEX;
    const NAME: &'static str = "lock.futex";
    const FIELDS: &'static [Field] = &[
        OP,
        ADDRESS,
        PRIVATE,
        SPACE,
        INODE,
        DEVICE,
        OFFSET,
        Field::new("futexes", Type::U64, "how many futexes it waited for"),
        ENTER,
        DURATION,
        RET,
        ERRNO,
        Field::new("blocked", Type::Bool, "the thread gave up its CPU during the call"),
        Field::new("timed", Type::Bool, "the call had a time limit"),
        Field::new("restarted", Type::Bool, "it went on with a wait that a signal or a stop had interrupted"),
        Field::new("waker_tgid", Type::U64, "process that woke it").optional(),
        Field::new("waker_tid", Type::U64, "thread that woke it").optional(),
        Field::new("woken_ktime_ns", Type::U64, "when, in ns of CLOCK_MONOTONIC").optional(),
        Field::new("waker_address", Type::U64, "first address in the waker's call; absent if it was ending")
            .optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::LockFutex = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            enter_ns: body.enter_ns,
            op: FutexOp(body.op),
            key: FutexKey::of(&body.key),
            futexes: body.futexes,
            ret: body.ret,
            blocked: has(abi::FUTEX_BLOCKED),
            timed: has(abi::FUTEX_TIMED),
            restarted: has(abi::FUTEX_RESTARTED),
            waker: has(abi::FUTEX_HAS_WAKER).then_some(FutexWaker {
                tgid: Tgid(body.waker_tgid),
                tid: Tid(body.waker_tid),
                ktime_ns: body.woken_ns,
                address: has(abi::FUTEX_HAS_WAKER_ADDRESS).then_some(body.waker_address),
            }),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(op) = self.op.name() {
            put("op", Value::Text(op));
        }
        if let Some(key) = &self.key {
            key.fields(put);
        }
        put("futexes", Value::U64(self.futexes.into()));
        put("enter_ktime_ns", Value::U64(self.enter_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        put_result(self.ret, put);
        put("blocked", Value::Bool(self.blocked));
        put("timed", Value::Bool(self.timed));
        put("restarted", Value::Bool(self.restarted));
        if let Some(waker) = &self.waker {
            put("waker_tgid", Value::U64(waker.tgid.0.into()));
            put("waker_tid", Value::U64(waker.tid.0.into()));
            put("woken_ktime_ns", Value::U64(waker.ktime_ns));
            if let Some(address) = waker.address {
                put("waker_address", Value::U64(address));
            }
        }
    }
}

impl LockFutexWake {
    /// How long the call took.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.enter_ns)
    }

    /// How many it woke; `None` where its result does not tell, or if it failed.
    #[must_use]
    pub fn woken(&self) -> Option<u32> {
        let ret = u32::try_from(self.ret).ok()?;
        match self.op.0 {
            futex_op::WAKE | futex_op::WAKE_BITSET | futex_op::WAKE_OP | futex_op::FUTEX2_WAKE => Some(ret),
            // The result counts the requeued as well, and the kernel wakes first.
            futex_op::REQUEUE | futex_op::CMP_REQUEUE | futex_op::FUTEX2_REQUEUE => {
                Some(ret.min(self.wanted))
            }
            _ => None,
        }
    }

    /// How many it requeued; `None` as for [`woken`](Self::woken), and for calls that requeue nobody.
    #[must_use]
    pub fn requeued(&self) -> Option<u32> {
        let requeues =
            matches!(self.op.0, futex_op::REQUEUE | futex_op::CMP_REQUEUE | futex_op::FUTEX2_REQUEUE);
        let ret = u32::try_from(self.ret).ok().filter(|_| requeues)?;
        Some(ret - self.woken()?)
    }
}

impl TypedEvent for LockFutexWake {
    const KIND: Kind = Kind::LOCK_FUTEX_WAKE;
    const NAME: &'static str = "lock.futex_wake";
    const FIELDS: &'static [Field] = &[
        OP,
        ADDRESS,
        PRIVATE,
        SPACE,
        INODE,
        DEVICE,
        OFFSET,
        Field::new("second_address", Type::U64, "the second address in the call").optional(),
        ENTER,
        DURATION,
        Field::new("wanted", Type::U64, "how many it asked to wake"),
        Field::new("wanted_second", Type::U64, "how many more to requeue, or to wake at the second address")
            .optional(),
        Field::new("woken", Type::U64, "how many it woke").optional(),
        Field::new("requeued", Type::U64, "how many it requeued").optional(),
        RET,
        ERRNO,
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::LockFutexWake = record.body_of(Self::KIND)?;
        let key = FutexKey::of(&body.key);
        let has_second = body.flags & abi::FUTEX_HAS_SECOND != 0;
        Ok(Self {
            origin: Origin::of(&record),
            enter_ns: body.enter_ns,
            op: FutexOp(body.op),
            key,
            second_address: (has_second && key.is_some()).then_some(body.second_address),
            wanted: body.wanted,
            wanted_second: has_second.then_some(body.wanted_second),
            ret: body.ret,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(op) = self.op.name() {
            put("op", Value::Text(op));
        }
        if let Some(key) = &self.key {
            key.fields(put);
        }
        let mut put_some = |name, value: Option<u64>| {
            if let Some(value) = value {
                put(name, Value::U64(value));
            }
        };
        put_some("second_address", self.second_address);
        put_some("enter_ktime_ns", Some(self.enter_ns));
        put_some("duration_ns", Some(self.duration_ns()));
        put_some("wanted", Some(self.wanted.into()));
        put_some("wanted_second", self.wanted_second.map(u64::from));
        put_some("woken", self.woken().map(u64::from));
        put_some("requeued", self.requeued().map(u64::from));
        put_result(self.ret, put);
    }
}

impl LockContention {
    /// How long it waited.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for LockContention {
    const KIND: Kind = Kind::LOCK_CONTENTION;
    const NAME: &'static str = "lock.contention";
    const FIELDS: &'static [Field] = &[
        Field::new("lock", Type::U64, "a number for the lock, the same throughout a recording"),
        Field::new(
            "class",
            Type::Text,
            "spinlock, rwlock, mutex, rwsem, percpu_rwsem, rt_mutex or semaphore",
        ),
        Field::new("access", Type::Text, "read or write, of locks that tell them apart").optional(),
        Field::new("spun", Type::Bool, "it spun, all the time or at first"),
        Field::new("begin_ktime_ns", Type::U64, "when it began to wait, in ns of CLOCK_MONOTONIC"),
        Field::new("duration_ns", Type::U64, "how long it waited"),
        Field::new("ret", Type::I64, "0 if it got the lock, else -errno"),
        Field::new("errno", Type::Text, "name of the error, if it did not get it").optional(),
        Field::new(
            "context",
            Type::Text,
            "what waited: task (the thread of this line), softirq, hardirq or nmi",
        )
        .optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::LockContention = record.body_of(Self::KIND)?;
        let context = WakeContext::of(body.context).map_err(|other| {
            let offset = std::mem::offset_of!(abi::LockContention, context);
            record.bad_value(offset, "a context, 0 to 4", other.into())
        })?;
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            lock: body.lock,
            how: Contended(body.flags),
            ret: body.ret,
            context,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("lock", Value::U64(self.lock));
        put("class", Value::Text(self.how.class()));
        if let Some(access) = self.how.access() {
            put("access", Value::Text(access));
        }
        put("spun", Value::Bool(self.how.spun()));
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        put_result(self.ret, put);
        if let Some(context) = self.context {
            put("context", Value::Text(context.name()));
        }
    }
}

fn put_result(ret: i32, put: &mut dyn FnMut(&'static str, Value<'_>)) {
    put("ret", Value::I64(ret.into()));
    let errno = (ret < 0).then(|| ret.unsigned_abs());
    if let Some(name) = errno.and_then(errno_name) {
        put("errno", Value::Text(name));
    }
}

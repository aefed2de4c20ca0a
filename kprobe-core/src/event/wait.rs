use crate::{
    abi::{self, Kind, wait_class},
    decode::{DecodeError, Record},
    event::{
        Arch, Device, Field, Origin, SyscallAbi, SyscallNr, Tgid, ThreadState, Tid, Type, TypedEvent, Value,
        WakeContext,
    },
};

/// A thread gave up its CPU because it could not go on, and has one again: from `begin_ns` until it was woken it was blocked,
/// from then until the time of the origin it was ready. The origin names the thread that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitBlocked {
    /// The thread that waited; its time is that of its running again.
    pub origin: Origin,
    /// When it gave up its CPU: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// The state that it was in.
    pub state: ThreadState,
    /// What it waited for.
    pub key: WaitKey,
    /// Who woke it; `None` if that was not seen.
    pub waker: Option<Waker>,
}

/// A wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waker {
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub ktime_ns: u64,
    /// Process that was current.
    pub tgid: Tgid,
    /// Thread that was current. It did it only if the context is [`WakeContext::Task`].
    pub tid: Tid,
    /// What did it; `None` where the kernel gives no way to tell.
    pub context: Option<WakeContext>,
    /// What the thread was woken for; `None` if that is not known.
    pub key: Option<WaitKey>,
    /// It was the timer that limits the wait.
    pub timed_out: bool,
}

/// What a thread waits for, or is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WaitKey {
    /// What kind of thing it is.
    pub class: WaitClass,
    /// The system call of the thread, or of its waker; `None` if it was in none, or in one of a 32-bit program.
    pub call: Option<SyscallNr>,
    /// The descriptor in that call.
    pub fd: Option<i32>,
    /// Which one it is. What the number says depends on the class: see [`wait_class`].
    pub object: Option<u64>,
    /// Of an inode its file system, of a request its device.
    pub device: Option<Device>,
    /// The kernel's number of a socket, if it had been asked for: see [`TcpSocket`](crate::event::TcpSocket).
    pub cookie: Option<u64>,
}

impl WaitKey {
    /// Whether both are certainly the same thing. Which of the two is asked makes no difference.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        // The one waits for what the other delivers.
        let is_timer = [(self, other), (other, self)]
            .iter()
            .any(|(one, other)| (one.class, other.class) == (WaitClass::TIMERFD, WaitClass::TIMER));
        self.object.is_some()
            && (self.object, self.device) == (other.object, other.device)
            && (self.class == other.class || is_timer)
    }
}

/// What kind of thing a thread waits for, or is woken for. What each means, and what its number says: see [`wait_class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitClass(pub u8);

macro_rules! wait_classes {
    ($($class:ident = $name:literal,)*) => {
        impl WaitClass {
            $(
                #[doc = concat!("`", $name, "`: see [`wait_class::", stringify!($class), "`].")]
                pub const $class: Self = Self(wait_class::$class);
            )*

            /// Name in JSON; `None` for one that this version does not know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$class => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

wait_classes! {
    PIPE = "pipe",
    SOCKET = "socket",
    EVENTFD = "eventfd",
    TIMERFD = "timerfd",
    SIGNALFD = "signalfd",
    EPOLL = "epoll",
    INOTIFY = "inotify",
    PIDFD = "pidfd",
    IO_URING = "io_uring",
    ANONYMOUS = "anonymous",
    FILE = "file",
    BLOCK_DEVICE = "block_device",
    CHAR_DEVICE = "char_device",
    FUTEX = "futex",
    CHILD = "child",
    SLEEP = "sleep",
    SIGNAL = "signal",
    POLL = "poll",
    FORK = "fork",
    QUEUE = "queue",
    CALL = "call",
    FAULT = "fault",
    KERNEL = "kernel",
    STOP = "stop",
    TIMER = "timer",
    REQUEST = "request",
    EXIT = "exit",
}

const fn call(has: bool, nr: u16) -> Option<SyscallNr> {
    if has { Some(SyscallNr { abi: SyscallAbi::Native, nr }) } else { None }
}

const ON_DOC: &str = "what kind of thing it waited for";
const OBJECT_DOC: &str = "which one: an inode number, an address, an id, or a number that stands for it";
const DEVICE_DOC: &str = "major:minor of the inode's file system";

impl WaitBlocked {
    /// From giving up the CPU to having one again.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }

    /// How long it was blocked; `None` if it is not known when it was woken.
    #[must_use]
    pub fn blocked_ns(&self) -> Option<u64> {
        self.waker.map(|waker| waker.ktime_ns.saturating_sub(self.begin_ns))
    }
}

impl TypedEvent for WaitBlocked {
    const KIND: Kind = Kind::WAIT_BLOCKED;
    const NAME: &'static str = "wait.blocked";
    const FIELDS: &'static [Field] = &[
        Field::new("on", Type::Text, ON_DOC).optional(),
        Field::new("nr", Type::U64, "number of the system call that it was in").optional(),
        Field::new("name", Type::Text, "name of that call").optional(),
        Field::new("fd", Type::I64, "the descriptor in that call").optional(),
        Field::new("object", Type::U64, OBJECT_DOC).optional(),
        Field::new("device", Type::Text, DEVICE_DOC).optional(),
        Field::new("cookie", Type::U64, "the kernel's number for the socket").optional(),
        Field::new("state", Type::Text, "in which state: S or D blocked, T stopped, ..."),
        Field::new("begin_ktime_ns", Type::U64, "when it gave up its CPU, in ns of CLOCK_MONOTONIC"),
        Field::new("duration_ns", Type::U64, "from then until it had one again"),
        Field::new("woken_ktime_ns", Type::U64, "when it was woken, in ns of CLOCK_MONOTONIC").optional(),
        Field::new("waker_tgid", Type::U64, "process that was current at the wake-up").optional(),
        Field::new("waker_tid", Type::U64, "thread that was current; it did it only if the context is task")
            .optional(),
        Field::new("context", Type::Text, "what woke it: task, softirq, hardirq or nmi").optional(),
        Field::new("by", Type::Text, "what kind of thing it was woken for").optional(),
        Field::new("timed_out", Type::Bool, "the timer that woke it was the limit of the wait").optional(),
        Field::new("wake_nr", Type::U64, "number of the system call that the waker was in").optional(),
        Field::new("wake_name", Type::Text, "name of that call").optional(),
        Field::new("wake_fd", Type::I64, "the descriptor in the waker's call").optional(),
        Field::new("wake_object", Type::U64, "which thing it was woken for; a request's sector").optional(),
        Field::new("wake_device", Type::Text, "major:minor of its file system, or of the request's device")
            .optional(),
        Field::new("wake_cookie", Type::U64, "the kernel's number for the socket that it was woken for")
            .optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::WaitBlocked = record.body_of(Self::KIND)?;
        let context = WakeContext::of(body.wake_context.into()).map_err(|other| {
            let offset = std::mem::offset_of!(abi::WaitBlocked, wake_context);
            record.bad_value(offset, "a wake-up context, 0 to 4", other.into())
        })?;
        let has = |bit| body.flags & bit != 0;
        let wake_has = |bit| has(bit << abi::WAIT_OF_WAKE);
        let key = WaitKey {
            class: WaitClass(body.class),
            call: call(has(abi::WAIT_HAS_NR), body.nr),
            fd: has(abi::WAIT_HAS_FD).then_some(body.fd),
            object: has(abi::WAIT_HAS_OBJECT).then_some(body.object),
            device: has(abi::WAIT_HAS_DEVICE).then(|| Device::from_kernel(body.device)),
            cookie: has(abi::WAIT_HAS_COOKIE).then_some(body.cookie),
        };
        let wake_key = WaitKey {
            class: WaitClass(body.wake_class),
            call: call(wake_has(abi::WAIT_HAS_NR), body.wake_nr),
            fd: wake_has(abi::WAIT_HAS_FD).then_some(body.wake_fd),
            object: wake_has(abi::WAIT_HAS_OBJECT).then_some(body.wake_object),
            device: wake_has(abi::WAIT_HAS_DEVICE).then(|| Device::from_kernel(body.wake_device)),
            cookie: wake_has(abi::WAIT_HAS_COOKIE).then_some(body.wake_cookie),
        };
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            state: ThreadState(body.state),
            key,
            waker: has(abi::WAIT_HAS_WAKER).then_some(Waker {
                ktime_ns: body.woken_ns,
                tgid: Tgid(body.waker_tgid),
                tid: Tid(body.waker_tid),
                context,
                key: (body.wake_class != wait_class::NONE).then_some(wake_key),
                timed_out: wake_has(abi::WAIT_OWN_LIMIT),
            }),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.key.fields(&Names::OF_WAIT, arch, put);
        put("state", Value::Text(self.state.letter()));
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        let Some(waker) = &self.waker else { return };
        put("woken_ktime_ns", Value::U64(waker.ktime_ns));
        put("waker_tgid", Value::U64(waker.tgid.0.into()));
        put("waker_tid", Value::U64(waker.tid.0.into()));
        if let Some(context) = waker.context {
            put("context", Value::Text(context.name()));
        }
        let Some(key) = &waker.key else { return };
        if let Some(name) = key.class.name() {
            put("by", Value::Text(name));
        }
        if key.class == WaitClass::TIMER {
            put("timed_out", Value::Bool(waker.timed_out));
        }
        key.rest(&Names::OF_WAKE, arch, put);
    }
}

/// What the fields of a key are called.
struct Names {
    nr: &'static str,
    name: &'static str,
    fd: &'static str,
    object: &'static str,
    device: &'static str,
    cookie: &'static str,
}

impl Names {
    const OF_WAIT: Self =
        Self { nr: "nr", name: "name", fd: "fd", object: "object", device: "device", cookie: "cookie" };
    const OF_WAKE: Self = Self {
        nr: "wake_nr",
        name: "wake_name",
        fd: "wake_fd",
        object: "wake_object",
        device: "wake_device",
        cookie: "wake_cookie",
    };
}

impl WaitKey {
    fn fields(&self, names: &Names, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(name) = self.class.name() {
            put("on", Value::Text(name));
        }
        self.rest(names, arch, put);
    }

    /// All but the class.
    fn rest(&self, names: &Names, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(call) = self.call {
            put(names.nr, Value::U64(call.nr.into()));
            if let Some(name) = call.name(arch) {
                put(names.name, Value::Text(name));
            }
        }
        if let Some(fd) = self.fd {
            put(names.fd, Value::I64(fd.into()));
        }
        if let Some(object) = self.object {
            put(names.object, Value::U64(object));
        }
        if let Some(device) = self.device {
            put(names.device, Value::Text(&device.to_string()));
        }
        if let Some(cookie) = self.cookie {
            put(names.cookie, Value::U64(cookie));
        }
    }
}

/// A descriptor came into an epoll set, or left it. The origin names the thread that called, and its time is that of the
/// return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitEpoll {
    /// The thread that called.
    pub origin: Origin,
    /// The set: the object of waits for it.
    pub epoll: u64,
    /// The set's descriptor.
    pub epfd: i32,
    /// What was done.
    pub op: EpollOp,
    /// What the descriptor stands for, without a call.
    pub member: WaitKey,
}

/// What is done with an epoll set: `EPOLL_CTL_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpollOp(pub u16);

impl EpollOp {
    /// A descriptor comes into the set.
    pub const ADD: Self = Self(1);
    /// It leaves it.
    pub const DEL: Self = Self(2);
    /// Other things are waited for.
    pub const MOD: Self = Self(3);

    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ADD => "add",
            Self::DEL => "del",
            Self::MOD => "mod",
            _ => return None,
        })
    }
}

impl TypedEvent for WaitEpoll {
    const KIND: Kind = Kind::WAIT_EPOLL;
    const NAME: &'static str = "wait.epoll";
    const FIELDS: &'static [Field] = &[
        Field::new("op", Type::Text, "add, mod or del").optional(),
        Field::new("epoll", Type::U64, "the set: the object of waits for it"),
        Field::new("epfd", Type::I64, "descriptor of the set"),
        Field::new("on", Type::Text, "what kind of thing the descriptor stands for").optional(),
        Field::new("fd", Type::I64, "the descriptor").optional(),
        Field::new("object", Type::U64, "which one: the object of waits for it, and of wake-ups").optional(),
        Field::new("device", Type::Text, DEVICE_DOC).optional(),
        Field::new("cookie", Type::U64, "the kernel's number for the socket").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::WaitEpoll = record.body_of(Self::KIND)?;
        let has = |bit| u32::from(body.flags) & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            epoll: body.epoll,
            epfd: body.epfd,
            op: EpollOp(body.op),
            member: WaitKey {
                class: WaitClass(body.class),
                call: None,
                fd: has(abi::WAIT_HAS_FD).then_some(body.fd),
                object: has(abi::WAIT_HAS_OBJECT).then_some(body.object),
                device: has(abi::WAIT_HAS_DEVICE).then(|| Device::from_kernel(body.device)),
                cookie: has(abi::WAIT_HAS_COOKIE).then_some(body.cookie),
            },
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(op) = self.op.name() {
            put("op", Value::Text(op));
        }
        put("epoll", Value::U64(self.epoll));
        put("epfd", Value::I64(self.epfd.into()));
        self.member.fields(&Names::OF_WAIT, arch, put);
    }
}

/// A cgroup had used up its time on a CPU (`cpu.max`), and may go on. The origin names the thread that was current then, and
/// its time is that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitThrottle {
    /// The thread that was current at the end, which need not have to do with it.
    pub origin: Origin,
    /// When the cgroup had to stop: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// The cgroup; `None` if it is one of the hierarchies of version 1.
    pub cgroup_id: Option<u64>,
    /// The CPU.
    pub cpu: u32,
}

impl WaitThrottle {
    /// How long.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for WaitThrottle {
    const KIND: Kind = Kind::WAIT_THROTTLE;
    const NAME: &'static str = "wait.throttle";
    const FIELDS: &'static [Field] = &[
        Field::new(
            "throttled_cgroup_id",
            Type::U64,
            "the cgroup that had to stop; absent for one of version 1",
        )
        .optional(),
        Field::new("throttled_cpu", Type::U64, "on which CPU"),
        Field::new("begin_ktime_ns", Type::U64, "when it had to stop, in ns of CLOCK_MONOTONIC"),
        Field::new("duration_ns", Type::U64, "how long"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::WaitThrottle = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            cgroup_id: (body.flags & abi::THROTTLE_HAS_CGROUP != 0).then_some(body.cgroup_id),
            cpu: body.cpu,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(id) = self.cgroup_id {
            put("throttled_cgroup_id", Value::U64(id));
        }
        put("throttled_cpu", Value::U64(self.cpu.into()));
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
    }
}

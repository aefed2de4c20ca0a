use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Tgid, Tid, Type, TypedEvent, Value},
};

/// A CPU went from one thread to another. The origin names the thread that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedSwitch {
    /// The thread that leaves the CPU.
    pub origin: Origin,
    /// Process that gets the CPU; 0 is the idle task.
    pub next_tgid: Tgid,
    /// Thread that gets the CPU.
    pub next_tid: Tid,
    /// How the previous thread left.
    pub prev_state: ThreadState,
    /// Kernel priority of the previous thread: -1 deadline, 0..=99 real-time, 100..=139 by niceness.
    pub prev_prio: i16,
    /// Kernel priority of the next thread.
    pub next_prio: i16,
    /// The previous thread was preempted.
    pub preempt: bool,
}

/// Why a thread is not running: the kernel's `TASK_*` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState(pub u32);

impl ThreadState {
    /// It could go on: it was preempted or yielded.
    #[must_use]
    pub const fn is_runnable(self) -> bool {
        self.0 == 0
    }

    /// One letter, as `ps` has it: R, S, D, T, t, X, Z, P, I, or `?`.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        // include/linux/sched.h. TASK_IDLE is TASK_UNINTERRUPTIBLE | TASK_NOLOAD.
        const NOLOAD_UNINTERRUPTIBLE: u32 = 0x402;
        match self.0 {
            0 => "R",
            state if state & NOLOAD_UNINTERRUPTIBLE == NOLOAD_UNINTERRUPTIBLE => "I",
            state if state & 0x1 != 0 => "S",
            state if state & 0x2 != 0 => "D",
            state if state & 0x4 != 0 => "T",
            state if state & 0x8 != 0 => "t",
            state if state & 0x10 != 0 || state & 0x80 != 0 => "X",
            state if state & 0x20 != 0 => "Z",
            state if state & 0x40 != 0 => "P",
            _ => "?",
        }
    }
}

impl TypedEvent for SchedSwitch {
    const KIND: Kind = Kind::SCHED_SWITCH;
    const NAME: &'static str = "sched.switch";
    const FIELDS: &'static [Field] = &[
        Field::new("next_tgid", Type::U64, "process that gets the CPU; 0 is the idle task"),
        Field::new("next_tid", Type::U64, "thread that gets the CPU"),
        Field::new(
            "prev_state",
            Type::Text,
            "how the previous thread left: R preempted or yielded, S or D blocked, ...",
        ),
        Field::new("prev_prio", Type::I64, "kernel priority (-1..=139) of the previous thread"),
        Field::new("next_prio", Type::I64, "kernel priority (-1..=139) of the next thread"),
        Field::new("preempt", Type::Bool, "the previous thread was preempted"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::SchedSwitch = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            next_tgid: Tgid(body.next_tgid),
            next_tid: Tid(body.next_tid),
            prev_state: ThreadState(body.prev_state),
            prev_prio: body.prev_prio,
            next_prio: body.next_prio,
            preempt: body.flags & abi::SWITCH_PREEMPT != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("next_tgid", Value::U64(self.next_tgid.0.into()));
        put("next_tid", Value::U64(self.next_tid.0.into()));
        put("prev_state", Value::Text(self.prev_state.letter()));
        put("prev_prio", Value::I64(self.prev_prio.into()));
        put("next_prio", Value::I64(self.next_prio.into()));
        put("preempt", Value::Bool(self.preempt));
    }
}

/// A thread is being woken. The origin names the thread that was current, which is the waker only if the context is
/// [`WakeContext::Task`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedWaking {
    /// The thread that was current.
    pub origin: Origin,
    /// Process of the woken thread.
    pub wakee_tgid: Tgid,
    /// The woken thread.
    pub wakee_tid: Tid,
    /// Its kernel priority: -1 deadline, 0..=99 real-time, 100..=139 by niceness.
    pub prio: i16,
    /// CPU on which it last ran.
    pub target_cpu: u16,
    /// What woke it; `None` where the kernel gives no way to tell.
    pub context: Option<WakeContext>,
}

/// In which context a wake-up happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeContext {
    /// The current thread did it.
    Task,
    /// A softirq: timer, network receive, block completion, ...
    Softirq,
    /// A hardware interrupt.
    Hardirq,
    /// A non-maskable interrupt.
    Nmi,
}

impl WakeContext {
    /// From a record: `None` where the kernel gave no way to tell, the number itself if it is none of `CONTEXT_*`.
    pub(super) const fn of(context: u32) -> Result<Option<Self>, u32> {
        Ok(Some(match context {
            abi::CONTEXT_ABSENT => return Ok(None),
            abi::CONTEXT_TASK => Self::Task,
            abi::CONTEXT_SOFTIRQ => Self::Softirq,
            abi::CONTEXT_HARDIRQ => Self::Hardirq,
            abi::CONTEXT_NMI => Self::Nmi,
            other => return Err(other),
        }))
    }

    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Softirq => "softirq",
            Self::Hardirq => "hardirq",
            Self::Nmi => "nmi",
        }
    }
}

impl TypedEvent for SchedWaking {
    const KIND: Kind = Kind::SCHED_WAKING;
    const NAME: &'static str = "sched.waking";
    const FIELDS: &'static [Field] = &[
        Field::new("wakee_tgid", Type::U64, "process of the woken thread"),
        Field::new("wakee_tid", Type::U64, "the woken thread"),
        Field::new("prio", Type::I64, "its kernel priority (-1..=139)"),
        Field::new("target_cpu", Type::U64, "CPU on which it last ran"),
        Field::new(
            "context",
            Type::Text,
            "what woke it: task (the thread of this line), softirq, hardirq or nmi",
        )
        .optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::SchedWaking = record.body_of(Self::KIND)?;
        let context = WakeContext::of(body.context).map_err(|other| {
            let offset = std::mem::offset_of!(abi::SchedWaking, context);
            record.bad_value(offset, "a wake-up context, 0 to 4", other.into())
        })?;
        Ok(Self {
            origin: Origin::of(&record),
            wakee_tgid: Tgid(body.wakee_tgid),
            wakee_tid: Tid(body.wakee_tid),
            prio: body.prio,
            target_cpu: body.target_cpu,
            context,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("wakee_tgid", Value::U64(self.wakee_tgid.0.into()));
        put("wakee_tid", Value::U64(self.wakee_tid.0.into()));
        put("prio", Value::I64(self.prio.into()));
        put("target_cpu", Value::U64(self.target_cpu.into()));
        if let Some(context) = self.context {
            put("context", Value::Text(context.name()));
        }
    }
}

/// A thread moved to another CPU. The origin names the thread that was current, which need not be the one that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedMigrate {
    /// The thread that was current.
    pub origin: Origin,
    /// Process of the thread that moves.
    pub moved_tgid: Tgid,
    /// The thread that moves.
    pub moved_tid: Tid,
    /// CPU it leaves.
    pub from_cpu: u16,
    /// CPU it goes to.
    pub to_cpu: u16,
    /// Its kernel priority: -1 deadline, 0..=99 real-time, 100..=139 by niceness.
    pub prio: i32,
}

impl TypedEvent for SchedMigrate {
    const KIND: Kind = Kind::SCHED_MIGRATE;
    const NAME: &'static str = "sched.migrate";
    const FIELDS: &'static [Field] = &[
        Field::new("moved_tgid", Type::U64, "process of the thread that moves"),
        Field::new("moved_tid", Type::U64, "the thread that moves"),
        Field::new("from_cpu", Type::U64, "CPU it leaves"),
        Field::new("to_cpu", Type::U64, "CPU it goes to"),
        Field::new("prio", Type::I64, "its kernel priority (-1..=139)"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::SchedMigrate = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            moved_tgid: Tgid(body.moved_tgid),
            moved_tid: Tid(body.moved_tid),
            from_cpu: body.from_cpu,
            to_cpu: body.to_cpu,
            prio: body.prio,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("moved_tgid", Value::U64(self.moved_tgid.0.into()));
        put("moved_tid", Value::U64(self.moved_tid.0.into()));
        put("from_cpu", Value::U64(self.from_cpu.into()));
        put("to_cpu", Value::U64(self.to_cpu.into()));
        put("prio", Value::I64(self.prio.into()));
    }
}

//! Typed events, and the trait by which a user's own events join them.

#![forbid(unsafe_code)]

mod address;
mod any;
mod block;
mod field;
mod histogram;
mod ids;
mod irq;
mod lock;
mod measured;
mod memory;
mod meta;
mod names;
mod origin;
mod path;
mod pipe;
mod process;
mod registry;
mod sched;
mod security;
mod syscall;
mod tcp;
mod udp;
mod unix;
mod wait;

pub use any::Event;
pub use block::{BlockFlags, BlockMerge, BlockOp, BlockRequest, Merged, Submitter};
pub use field::{Field, Type, Value};
pub(crate) use histogram::class_of;
pub use histogram::{Aggregated, By, Histogram};
pub use ids::{BootId, Comm, Device, ProcessKey, START_GRANULARITY_NS, Tgid, Tid};
pub use irq::{IrqHard, IrqSoft, IrqSource, softirq_name};
pub use lock::{
    Contended, FutexKey, FutexOp, FutexPlace, FutexWaker, LockContention, LockFutex, LockFutexWake,
};
pub use measured::Measured;
pub use memory::{
    Access, CompactionResult, MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor, MemoryOomKill,
    MemoryReclaim, MemoryScope, OomCause, OomSizes, PageFault,
};
pub use meta::{CgroupNamed, ClockChange, Lost, Marker, Sampling, ThreadSeed};
pub use names::{Arch, capability_name, errno_name, signal_name};
pub use origin::Origin;
pub use path::{PathAllowed, PathExec, PathOpen, PathText};
pub use pipe::{PipeCall, PipeRead, PipeWrite};
pub use process::{ProcessExec, ProcessExit, ProcessFork, ProcessRename};
pub use registry::{Entry, Registry};
pub use sched::{SchedMigrate, SchedSwitch, SchedWaking, ThreadState, WakeContext};
pub use security::{CheckPurpose, SecurityCapability};
pub use syscall::{Syscall, SyscallAbi, SyscallNr};
pub use tcp::{
    TcpAccept, TcpConnect, TcpOwner, TcpRecv, TcpRetransmit, TcpRole, TcpSend, TcpSocket, TcpState,
    TcpStateName,
};
pub use udp::{UdpRecv, UdpSend, UdpSocket};
pub use unix::{UnixRecv, UnixSend};
pub use wait::{EpollOp, WaitBlocked, WaitClass, WaitEpoll, WaitKey, WaitThrottle, Waker};

use crate::{
    abi::Kind,
    decode::{DecodeError, Record},
};

/// One type of event: what a probe yields.
///
/// The events of kprobe implement it, and so does a user's own: with that, decoding, the loss ledger, captures and every
/// sink work for it.
///
/// ```
/// use kprobe_core::{abi::Kind, decode::{DecodeError, Record}, event::{Arch, Field, Origin, Type, TypedEvent, Value}};
///
/// struct CacheMiss { origin: Origin, line: u64 }
///
/// impl TypedEvent for CacheMiss {
///     const KIND: Kind = Kind(Kind::USER.0 + 1);
///     const NAME: &'static str = "app.cache_miss";
///     const FIELDS: &'static [Field] = &[Field::new("line", Type::U64, "cache line that missed")];
///
///     fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
///         Ok(Self { origin: Origin::of(&record), line: record.body_of::<u64>(Self::KIND)? })
///     }
///
///     fn origin(&self) -> &Origin { &self.origin }
///
///     fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
///         put("line", Value::U64(self.line));
///     }
/// }
/// ```
pub trait TypedEvent: Sized {
    /// Number of the event. A user's own start at [`Kind::USER`].
    const KIND: Kind;
    /// Name in JSON, reports and configuration: `family.event`.
    const NAME: &'static str;
    /// The fields beyond those of [`Origin`], in the order in which [`fields`](Self::fields) gives them.
    const FIELDS: &'static [Field];

    /// Reads a record, checking everything that could be wrong with it.
    ///
    /// # Errors
    /// The record is of another kind, of another size, or has a field that cannot be.
    fn decode(record: Record<'_>) -> Result<Self, DecodeError>;

    /// When, where and by whom.
    fn origin(&self) -> &Origin;

    /// Gives each field that is present to `put`, in order. `arch` is the machine the event is from, which decides the
    /// names of numbers.
    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>));
}

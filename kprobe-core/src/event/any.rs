use crate::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{
        BlockMerge, BlockRequest, CgroupNamed, ClockChange, Histogram, IrqHard, IrqSoft, LockContention,
        LockFutex, LockFutexWake, Lost, Marker, MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor,
        MemoryOomKill, MemoryReclaim, Origin, PathAllowed, PathExec, PathOpen, PipeRead, PipeWrite,
        ProcessExec, ProcessExit, ProcessFork, ProcessRename, Sampling, SchedMigrate, SchedSwitch,
        SchedWaking, SecurityCapability, Syscall, TcpAccept, TcpConnect, TcpRecv, TcpRetransmit, TcpSend,
        TcpState, ThreadSeed, TypedEvent, UdpRecv, UdpSend, UnixRecv, UnixSend, WaitBlocked, WaitEpoll,
        WaitThrottle,
    },
};

macro_rules! any_event {
    ($($name:ident),+ $(,)?) => {
        /// Any event that kprobe itself defines.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "each variant holds the documented type of the same name")]
        pub enum Event {
            $($name($name),)+
        }

        impl Event {
            /// Reads a record of any kind; `None` for a kind that this version does not define: a user's own, or one
            /// of a later version. Such records are counted and skipped, they are not an error.
            ///
            /// # Errors
            /// The record is not what its kind says.
            #[inline]
            pub fn decode(record: Record<'_>) -> Result<Option<Self>, DecodeError> {
                match record.kind() {
                    $(<$name as TypedEvent>::KIND => $name::decode(record).map(|event| Some(Self::$name(event))),)+
                    _ => Ok(None),
                }
            }

            /// What it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => <$name as TypedEvent>::KIND,)+
                }
            }

            /// When, where and by whom.
            #[must_use]
            pub fn origin(&self) -> &Origin {
                match self {
                    $(Self::$name(event) => event.origin(),)+
                }
            }
        }

        impl crate::event::Registry {
            /// The events that kprobe itself defines.
            #[must_use]
            pub fn builtin() -> Self {
                let mut registry = Self::empty();
                $(registry.register::<$name>();)+
                registry
            }
        }

        $(
            impl From<$name> for Event {
                fn from(event: $name) -> Self {
                    Self::$name(event)
                }
            }
        )+
    };
}

any_event!(
    SchedSwitch,
    SchedWaking,
    SchedMigrate,
    ProcessFork,
    ProcessExec,
    ProcessExit,
    ProcessRename,
    Syscall,
    TcpSend,
    TcpRecv,
    TcpRetransmit,
    TcpState,
    TcpConnect,
    TcpAccept,
    MemoryFaultMajor,
    MemoryFaultMinor,
    BlockRequest,
    BlockMerge,
    LockContention,
    LockFutex,
    LockFutexWake,
    IrqHard,
    IrqSoft,
    MemoryReclaim,
    MemoryOomKill,
    MemoryCompaction,
    SecurityCapability,
    UdpSend,
    UdpRecv,
    UnixSend,
    UnixRecv,
    PipeWrite,
    PipeRead,
    WaitBlocked,
    WaitEpoll,
    WaitThrottle,
    PathExec,
    PathOpen,
    Lost,
    Marker,
    Sampling,
    ThreadSeed,
    CgroupNamed,
    Histogram,
    ClockChange,
    PathAllowed,
);

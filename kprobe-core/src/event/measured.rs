use crate::{
    abi::{Kind, SYSCALL_NR_INVALID},
    decode::{DecodeError, Record},
    event::{
        BlockRequest, IrqHard, IrqSoft, LockContention, LockFutex, LockFutexWake, MemoryCompaction,
        MemoryFaultMajor, MemoryFaultMinor, MemoryReclaim, Origin, Syscall, TcpConnect, Tgid, TypedEvent,
        WaitBlocked, WaitThrottle,
    },
};

/// How long an event took, for whom, and what it was about: what a minimum duration looks at and histograms sum up.
///
/// For each kind of which the kernel sums up records, this is what the kernel would have counted. A few kinds more have a
/// duration. Those of the scheduler have none of their own: how long a thread ran lies between two switches.
///
/// ```
/// use kprobe_core::{abi::{self, Header, Kind}, decode::Record, event::{Measured, Tgid}};
/// use zerocopy::IntoBytes;
///
/// let header = Header { ktime_ns: 1_500, tgid: 7, kind: Kind::SYSCALL.0, ..Header::default() };
/// let read = abi::Syscall { enter_ns: 1_000, nr: 0, flags: abi::SYSCALL_HAS_RET, ..abi::Syscall::default() };
/// let bytes = [header.as_bytes(), read.as_bytes()].concat();
/// let measured = Measured::of(Record::new(&bytes)?)?.expect("system calls have a duration");
/// assert_eq!((measured.duration_ns, measured.subject, measured.tgid), (Some(500), Some(0), Tgid(7)));
/// # Ok::<(), kprobe_core::decode::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// From the beginning to the end, in nanoseconds; `None` for a system call that never returns, which a histogram has
    /// among those of 0.
    pub duration_ns: Option<u64>,
    /// What it is about: the number of the system call or of the device, the address of a futex, the number of a lock, the
    /// class of a wait. `None` for a kind that [has none](Kind::has_subject).
    pub subject: Option<u64>,
    /// Process it was for, which for some kinds is not that of the header. 0: none.
    pub tgid: Tgid,
    /// Cgroup it was for, likewise.
    pub cgroup_id: u64,
}

macro_rules! measured {
    ($($event:ident: $measure:expr;)+) => {
        impl Measured {
            /// Kinds whose records have a duration, or may have.
            pub const KINDS: &'static [Kind] = &[$(<$event as TypedEvent>::KIND),+];

            /// Measures a record; `None` for a kind without a duration, and for an event whose beginning was not seen.
            ///
            /// # Errors
            /// The record is not what its kind says.
            #[inline]
            pub fn of(record: Record<'_>) -> Result<Option<Self>, DecodeError> {
                match record.kind() {
                    $(<$event as TypedEvent>::KIND => {
                        let measure: fn(&$event) -> Option<Self> = $measure;
                        Ok(measure(&$event::decode(record)?))
                    })+
                    _ => Ok(None),
                }
            }
        }
    };
}

// The counterpart of `bodies!` in the kernel programs (`emit.rs`), which measures before there is a record.
measured! {
    Syscall: |call| {
        let nr = call.nr.map_or(SYSCALL_NR_INVALID, |nr| nr.nr);
        Some(Measured { duration_ns: call.duration_ns(), ..took(&call.origin, 0).about(nr.into()) })
    };
    // Whoever submitted it: in whose context it was completed is chance.
    BlockRequest: |request| {
        let (tgid, cgroup_id) = request.submitter.map_or((Tgid(0), 0), |by| (by.tgid, by.cgroup_id));
        let device = request.device.to_kernel();
        Some(took(&request.origin, request.duration_ns()?).about(device.into()).whose(tgid, cgroup_id))
    };
    LockContention: |wait| Some(took(&wait.origin, wait.duration_ns()).about(wait.lock));
    // A call with a list of futexes has no one address.
    LockFutex: |wait| {
        let address = wait.key.map_or(0, |key| key.address);
        Some(took(&wait.origin, wait.duration_ns()).about(address))
    };
    LockFutexWake: |wake| Some(took(&wake.origin, wake.duration_ns()));
    MemoryFaultMajor: |fault| Some(took(&fault.origin, fault.duration_ns()?));
    MemoryFaultMinor: |fault| Some(took(&fault.origin, fault.duration_ns()?));
    MemoryReclaim: |reclaim| Some(took(&reclaim.origin, reclaim.duration_ns()));
    MemoryCompaction: |compaction| Some(took(&compaction.origin, compaction.duration_ns()));
    WaitBlocked: |wait| Some(took(&wait.origin, wait.duration_ns()).about(wait.key.class.0.into()));
    // The cgroup that had to stop: who is current at the end is chance.
    WaitThrottle: |throttle| {
        let cgroup_id = throttle.cgroup_id.unwrap_or(0);
        Some(took(&throttle.origin, throttle.duration_ns()).whose(Tgid(0), cgroup_id))
    };
    // An interrupt is for nobody: whom it interrupts is chance.
    IrqHard: |irq| Some(took(&irq.origin, irq.duration_ns()).whose(Tgid(0), 0));
    IrqSoft: |irq| Some(took(&irq.origin, irq.duration_ns()).whose(Tgid(0), 0));
    TcpConnect: |connect| Some(took(&connect.origin, connect.duration_ns()));
}

const fn took(origin: &Origin, duration_ns: u64) -> Measured {
    Measured { duration_ns: Some(duration_ns), subject: None, tgid: origin.tgid, cgroup_id: origin.cgroup_id }
}

impl Measured {
    const fn about(self, subject: u64) -> Self {
        Self { subject: Some(subject), ..self }
    }

    const fn whose(self, tgid: Tgid, cgroup_id: u64) -> Self {
        Self { tgid, cgroup_id, ..self }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{Immutable, IntoBytes};

    use super::*;
    use crate::abi::{self, Family, Header};

    const NOW: u64 = 1_000;

    fn of(kind: Kind, body: &(impl IntoBytes + Immutable + ?Sized)) -> Option<Measured> {
        let header =
            Header { ktime_ns: NOW, cgroup_id: 9, tgid: 3, tid: 4, kind: kind.0, ..Header::default() };
        let bytes = [header.as_bytes(), body.as_bytes()].concat();
        Measured::of(Record::new(&bytes).expect("a record")).expect("a body of its kind")
    }

    /// Size of the bodies that are here, found by trying: a body of another size is refused.
    fn of_zeros(kind: Kind) -> Option<Measured> {
        (0..=abi::MAX_RECORD - size_of::<Header>()).find_map(|size| {
            let header = Header { ktime_ns: NOW, kind: kind.0, ..Header::default() };
            let bytes = [header.as_bytes(), &vec![0; size]].concat();
            Measured::of(Record::new(&bytes).expect("a record")).ok().flatten()
        })
    }

    #[test]
    fn whatever_the_kernel_sums_up_has_a_measure_here() {
        for kind in Kind::ALL {
            let expected = kind.can_be_summed_up() && kind.family() != Some(Family::Sched);
            assert!(!expected || Measured::KINDS.contains(kind), "{kind}");
            // Those with a presence bit for their beginning are below.
            let optional = [Kind::BLOCK_REQUEST, Kind::MEMORY_FAULT_MAJOR, Kind::MEMORY_FAULT_MINOR];
            if Measured::KINDS.contains(kind) && !optional.contains(kind) {
                let measured = of_zeros(*kind).expect("it has a duration");
                assert_eq!(measured.subject.is_some(), kind.has_subject(), "{kind}");
            }
        }
    }

    #[test]
    fn a_call_that_never_returns_has_no_duration_but_counts() {
        let call = abi::Syscall { enter_ns: NOW, nr: 231, ..abi::Syscall::default() };
        let measured = of(Kind::SYSCALL, &call).expect("it counts");
        assert_eq!((measured.duration_ns, measured.subject), (None, Some(231)));
        let odd = abi::Syscall { nr: SYSCALL_NR_INVALID, flags: abi::SYSCALL_HAS_RET, ..call };
        let measured = of(Kind::SYSCALL, &odd).expect("it counts");
        assert_eq!((measured.duration_ns, measured.subject), (Some(0), Some(0xffff)));
    }

    #[test]
    fn a_request_is_the_submitters() {
        let request = abi::BlockRequest {
            queued_ns: 400,
            origin_tgid: 70,
            origin_cgroup_id: 71,
            dev: 8 << 20 | 1,
            flags: abi::BLOCK_HAS_QUEUED | abi::BLOCK_HAS_ORIGIN,
            ..Default::default()
        };
        let expected =
            Measured { duration_ns: Some(600), subject: Some(8 << 20 | 1), tgid: Tgid(70), cgroup_id: 71 };
        assert_eq!(of(Kind::BLOCK_REQUEST, &request), Some(expected));
        let unseen = abi::BlockRequest { flags: abi::BLOCK_HAS_ORIGIN, ..request };
        assert_eq!(of(Kind::BLOCK_REQUEST, &unseen), None);
    }

    #[test]
    fn a_stop_is_the_cgroups_and_an_interrupt_nobodys() {
        let throttle = abi::WaitThrottle {
            begin_ns: 999,
            cgroup_id: 5,
            flags: abi::THROTTLE_HAS_CGROUP,
            ..Default::default()
        };
        let whose = |measured: Measured| (measured.duration_ns, measured.tgid, measured.cgroup_id);
        assert_eq!(of(Kind::WAIT_THROTTLE, &throttle).map(whose), Some((Some(1), Tgid(0), 5)));
        let irq = abi::IrqHard { begin_ns: 1, ..Default::default() };
        assert_eq!(of(Kind::IRQ_HARD, &irq).map(whose), Some((Some(999), Tgid(0), 0)));
    }

    #[test]
    fn a_fault_whose_beginning_was_not_seen_has_no_measure() {
        let mut fault = abi::MemoryFaultMajor { begin_ns: 10, flags: 0, ..Default::default() };
        assert_eq!(of(Kind::MEMORY_FAULT_MAJOR, &fault), None);
        fault.flags = abi::FAULT_HAS_BEGIN;
        let measured = of(Kind::MEMORY_FAULT_MAJOR, &fault).expect("it was seen");
        assert_eq!((measured.duration_ns, measured.tgid, measured.cgroup_id), (Some(990), Tgid(3), 9));
        assert_eq!(of(Kind::SCHED_SWITCH, &[0_u8; 24]), None);
    }
}

//! What is made into lines: a batch of records of one kind, no two alike, with what a process table knows of them.

use std::sync::Arc;

use kprobe_core::{
    abi::{self, Header, Kind},
    decode::Record,
    event::{Arch, BootId, Comm, Tgid},
    pipeline::{Batch, BatchBuf, Clocks, Context, StreamInfo},
};
use zerocopy::{Immutable, IntoBytes};

/// Records of a batch: their lines stay in the second-level cache.
pub(super) const RECORDS: u32 = 1_000;

/// Some microseconds, so that the wall clock's second changes only now and then.
const STEP_NS: u64 = 3_217;

/// One has to be escaped.
const NAMES: [&[u8]; 5] = [b"nginx", b"postgres", b"kworker/u8:3", b"ls", b"say \"hi\""];

/// Calls and what they have; the last is a futex wait, which has neither.
const CALLS: [(u16, u16); 6] = [
    (0, abi::SYSCALL_HAS_FD | abi::SYSCALL_HAS_REQUESTED),
    (1, abi::SYSCALL_HAS_FD | abi::SYSCALL_HAS_REQUESTED),
    (3, abi::SYSCALL_HAS_FD),
    (232, abi::SYSCALL_HAS_FD),
    (257, abi::SYSCALL_HAS_FD),
    (202, 0),
];

pub(super) fn info() -> StreamInfo {
    StreamInfo {
        host: "bench".to_owned(),
        boot: BootId(1),
        kernel: "6.12".to_owned(),
        arch: Arch::X86_64,
        clocks: Clocks {
            monotonic_ns: 100_000_000_000_000,
            boottime_ns: 100_000_000_000_000,
            realtime_ns: 1_790_771_696_789_012_345,
            uncertainty_ns: 100,
        },
        cpus: 8,
        report: serde_json::Value::Null,
        sources: 1,
    }
}

/// Numbers as a workload has them: mostly small, now and then large. The same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        // The constants of Knuth's MMIX; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.next() as usize % N]
    }

    /// With up to nine digits, each length as often.
    fn of_any_length(&mut self) -> u64 {
        let digits = self.below(9) + 1;
        self.below(10_u32.pow(digits)).into()
    }
}

pub(super) fn syscalls() -> Batch {
    batch(Kind::SYSCALL, |header, numbers| {
        let (nr, flags) = numbers.one_of(CALLS);
        let requested = numbers.below(65_536);
        let ret = if numbers.below(16) == 0 { -11 } else { numbers.below(requested + 1).into() };
        abi::Syscall {
            enter_ns: header.ktime_ns - numbers.of_any_length(),
            ret,
            requested: requested.into(),
            fd: numbers.one_of([3, 12, 100]),
            nr,
            flags: abi::SYSCALL_HAS_RET | flags,
        }
    })
}

pub(super) fn switches() -> Batch {
    batch(Kind::SCHED_SWITCH, |_, numbers| {
        let next_tid = numbers.below(100_000);
        abi::SchedSwitch {
            next_tid,
            next_tgid: next_tid / 2,
            prev_state: numbers.one_of([0, 1, 2, 0x402]),
            prev_prio: 120,
            next_prio: numbers.one_of([98, 120, 139, -1]),
            flags: numbers.one_of([0, 0, 0, abi::SWITCH_PREEMPT]),
        }
    })
}

pub(super) fn sends() -> Batch {
    batch(Kind::TCP_SEND, |_, numbers| {
        let mut address = || {
            let [third, fourth, ..] = numbers.next().to_le_bytes();
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, third, fourth]
        };
        let (local_addr, remote_addr) = (address(), address());
        let start = numbers.of_any_length();
        let socket = abi::TcpSocket {
            cookie: (4_000 + numbers.below(10_000)).into(),
            local_addr,
            remote_addr,
            local_port: 443,
            remote_port: numbers.one_of([32_768, 40_123, 51_001, 60_999]),
            netns: 4_026_531_840,
            srtt_us: 20 + numbers.below(50_000),
            flags: abi::TCP_HAS_NETNS | abi::TCP_ACCEPTED,
        };
        abi::TcpSend { socket, start, end: start + u64::from(numbers.below(65_536)) }
    })
}

fn batch<B: IntoBytes + Immutable>(kind: Kind, mut body: impl FnMut(&Header, &mut Numbers) -> B) -> Batch {
    let container: Arc<str> = "4f1c0ffee0ddba11deadbeef".into();
    let mut numbers = Numbers(1);
    let mut buf = BatchBuf::default();
    for seq in 0..RECORDS {
        let tgid = 1_000 + numbers.below(40_000);
        let header = Header {
            ktime_ns: info().clocks.monotonic_ns + u64::from(seq) * STEP_NS,
            cgroup_id: (3_000 + numbers.below(5_000)).into(),
            tgid,
            tid: tgid + numbers.below(8),
            kind: kind.0,
            cpu: numbers.one_of([0, 1, 2, 3, 4, 5, 6, 7]),
            seq: 1_000_000 + seq,
        };
        let bytes = [header.as_bytes(), body(&header, &mut numbers).as_bytes()].concat();
        let record = Record::new(&bytes).expect("a record has a header");
        let context = Context {
            comm: Comm::from_text(numbers.one_of(NAMES)),
            parent: Some(Tgid(tgid / 2)),
            container: (numbers.below(2) == 0).then(|| Arc::clone(&container)),
            ..Context::default()
        };
        buf.push_enriched(record, &context);
    }
    buf.take()
}

//! What the tests of stages share: streams of many kinds with contexts, cut into batches anywhere, and what is known of each
//! record without decoding it.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::sync::Arc;

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    decode::Record,
    event::{Comm, Tgid},
    pipeline::{Batch, BatchBuf, Context, Stage, StageRow},
};
use proptest::prelude::*;
use zerocopy::{Immutable, IntoBytes};

use crate::pipeline_support::{assert_balanced, record};

/// A record of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct One {
    pub(crate) bytes: Vec<u8>,
    pub(crate) context: Context,
    pub(crate) kind: Kind,
    pub(crate) header: Header,
    /// What the maker of the record knows: its duration if it has one, and what it is about.
    pub(crate) duration_ns: Option<u64>,
    pub(crate) subject: Option<u64>,
    /// For whom it was.
    pub(crate) tgid: u32,
    pub(crate) cgroup_id: u64,
}

impl One {
    fn new(
        header: Header,
        kind: Kind,
        body: &(impl IntoBytes + Immutable + ?Sized),
        context: &Context,
    ) -> Self {
        let bytes = record(header, kind, body);
        let header = Header { kind: kind.0, ..header };
        let (tgid, cgroup_id) = (header.tgid, header.cgroup_id);
        let context = context.clone();
        Self { bytes, context, kind, header, duration_ns: None, subject: None, tgid, cgroup_id }
    }

    fn took(self, duration_ns: u64, subject: Option<u64>) -> Self {
        Self { duration_ns: Some(duration_ns), subject, ..self }
    }
}

/// A system call of that process which took so long.
pub(crate) fn call(ktime_ns: u64, tgid: u32, nr: u16, duration_ns: u64) -> One {
    let header = Header { ktime_ns, tgid, tid: tgid, cgroup_id: 70, ..Header::default() };
    call_of(header, nr, duration_ns, &Context::default())
}

fn call_of(header: Header, nr: u16, duration_ns: u64, context: &Context) -> One {
    let enter_ns = header.ktime_ns - duration_ns;
    let body = abi::Syscall { enter_ns, nr, flags: abi::SYSCALL_HAS_RET, ..abi::Syscall::default() };
    One::new(header, Kind::SYSCALL, &body, context).took(duration_ns, Some(nr.into()))
}

/// What the generator chooses of a record: kind, two numbers, thread, time before now, and time since the one before.
type Choice = (u8, u16, u32, u32, u64, u64);

fn make((what, number, size, thread, before, _): Choice, now_ns: u64, seq: u32) -> One {
    let tgid = 100 + thread / 2;
    let header = Header {
        ktime_ns: now_ns - before,
        cgroup_id: 70 + u64::from(thread / 3),
        tgid,
        tid: tgid + thread % 2,
        cpu: number % 3,
        seq,
        kind: 0,
    };
    let context = Context {
        comm: Comm::from_text(format!("thread {}", thread / 2).as_bytes()),
        parent: (thread != 5).then_some(Tgid(thread)),
        container: (thread % 3 == 1).then(|| Arc::from(format!("container {}", thread / 3))),
        ..Context::default()
    };
    // Durations of all classes that the time allows, short ones more often.
    let duration_ns = (header.ktime_ns >> (size % 40)).min(header.ktime_ns);
    match what {
        0..=7 => call_of(header, number % 5, duration_ns, &context),
        8 => {
            // It never returns.
            let body = abi::Syscall { enter_ns: header.ktime_ns, nr: 231, ..abi::Syscall::default() };
            One { subject: Some(231), ..One::new(header, Kind::SYSCALL, &body, &context) }
        }
        9 | 10 => {
            let body = abi::BlockRequest {
                queued_ns: header.ktime_ns - duration_ns,
                origin_tgid: 500 + u32::from(number % 2),
                origin_tid: 500,
                origin_cgroup_id: 72,
                dev: 8 << 20 | u32::from(number % 3),
                flags: abi::BLOCK_HAS_QUEUED | abi::BLOCK_HAS_ORIGIN,
                ..abi::BlockRequest::default()
            };
            let request = One::new(header, Kind::BLOCK_REQUEST, &body, &context)
                .took(duration_ns, Some(body.dev.into()));
            One { tgid: body.origin_tgid, cgroup_id: 72, ..request }
        }
        11 => {
            // Its submission was not seen.
            let body = abi::BlockRequest { dev: 1, ..abi::BlockRequest::default() };
            One::new(header, Kind::BLOCK_REQUEST, &body, &context)
        }
        12 => One::new(header, Kind::SCHED_SWITCH, &abi::SchedSwitch::default(), &context),
        13 => One::new(header, Kind::PROCESS_EXIT, &abi::ProcessExit::default(), &context),
        14 => One::new(header, Kind::MEMORY_OOM_KILL, &abi::MemoryOomKill::default(), &context),
        15 => {
            let body = abi::MemoryFaultMinor { one_in: 7, ..abi::MemoryFaultMinor::default() };
            One::new(header, Kind::MEMORY_FAULT_MINOR, &body, &context)
        }
        16 => {
            let header = Header { cpu: CPU_NONE, ..header };
            One::new(header, Kind::META_MARKER, &abi::Marker { id: number.into() }, &context)
        }
        17 => {
            let header = Header { cpu: CPU_NONE, ..header };
            let (family, one_in) = ([1, 3, 5, 15][usize::from(number % 4)], size % 4);
            let body = abi::Sampling { family, one_in, min_duration_ns: size.into() };
            One::new(header, Kind::META_SAMPLING, &body, &context)
        }
        // A user's own kinds, one of this version's that is not what it says, and one of a later version.
        18..=20 => One::new(header, Kind(Kind::USER.0 + u16::from(what % 2)), &u64::from(size), &context),
        21 => One::new(header, Kind::SYSCALL, &1_u64, &context),
        _ => One::new(header, Kind(0x7777), &[0_u8; 16], &context),
    }
}

/// A stream; some records are late.
pub(crate) fn stream() -> impl Strategy<Value = Vec<One>> {
    let before = prop_oneof![8 => Just(0_u64), 1 => 0_u64..2_500];
    let step = prop_oneof![6 => 0_u64..90, 1 => 0_u64..3_000];
    let choice = (0_u8..23, any::<u16>(), any::<u32>(), 0_u32..7, before, step);
    prop::collection::vec(choice, 0..120).prop_map(|choices| {
        // Late enough in the life of a machine for long durations.
        let mut now_ns = 1 << 50;
        (0..)
            .zip(choices)
            .map(|(seq, choice)| {
                now_ns += choice.5;
                make(choice, now_ns, seq)
            })
            .collect()
    })
}

/// How long the batches are, one after the other; the last one has the rest.
pub(crate) fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..20, 0..30)
}

pub(crate) fn batches(stream: &[One], lengths: &[usize]) -> Vec<Batch> {
    let mut rest = stream;
    let mut batches = Vec::new();
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (part, after) = rest.split_at(length.min(rest.len()));
        batches.push(batch(part));
        rest = after;
    }
    batches
}

pub(crate) fn batch(ones: &[One]) -> Batch {
    let mut buf = BatchBuf::default();
    for one in ones {
        buf.push_enriched(Record::new(&one.bytes).expect("a record"), &one.context);
    }
    buf.take()
}

/// Records with their contexts.
pub(crate) type Out = Vec<(Vec<u8>, Context)>;

pub(crate) fn out_of(batch: &Batch) -> Out {
    let one = batch.enriched().map(|one| one.expect("whole frames"));
    one.map(|one| (one.record.bytes().to_vec(), one.context.clone())).collect()
}

/// Puts a stream through a stage. The books of the stage balance after each batch, and hold nothing at the end.
pub(crate) fn through(stage: &mut impl Stage, batches: Vec<Batch>) -> (Out, StageRow) {
    let mut out = Out::new();
    let mut received = 0;
    for batch in batches {
        received += batch.records().count() as u64;
        out.extend(out_of(&stage.apply(batch)));
        let row = stage.row();
        assert_balanced(&row);
        assert_eq!((row.received, row.delivered), (received, out.len() as u64));
    }
    out.extend(out_of(&stage.finish()));
    let row = stage.row();
    assert_balanced(&row);
    assert_eq!((row.received, row.delivered, row.held), (received, out.len() as u64, 0));
    (out, row)
}

pub(crate) fn pair(one: &One) -> (Vec<u8>, Context) {
    (one.bytes.clone(), one.context.clone())
}

//! What the tests of captures share: a stream's description, hand-made records of every kind, and reading to the end.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::io::Read;

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    capture::{CaptureReader, CaptureWriter, Damage, IndexEntry, OpenError, Trailer},
    decode::Record,
    event::{Arch, BootId},
    pipeline::{Batch, BatchBuf, Clocks, Ledger, ProbeRow, Sink, Source, StageRow, StreamInfo},
};
use zerocopy::{Immutable, IntoBytes};

pub(crate) fn info() -> StreamInfo {
    StreamInfo {
        host: "db-1".to_owned(),
        boot: BootId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        kernel: "6.12.9".to_owned(),
        arch: Arch::X86_64,
        clocks: Clocks {
            monotonic_ns: 5_000_000_000,
            boottime_ns: 6_000_000_000,
            realtime_ns: 1_700_000_000_000_000_000,
            uncertainty_ns: 250,
        },
        cpus: 4,
        report: serde_json::json!({"probes": ["syscall"]}),
        sources: 1,
    }
}

/// A record of `kind` with that body.
pub(crate) fn record(
    kind: Kind,
    cpu: u16,
    seq: u32,
    body: &(impl IntoBytes + Immutable + ?Sized),
) -> Vec<u8> {
    let header = Header {
        ktime_ns: 1_000_000_000 + u64::from(seq) * 1_000,
        cgroup_id: 7_000 + u64::from(cpu),
        tgid: 4_000 + seq,
        tid: 4_100 + seq,
        kind: kind.0,
        cpu,
        seq,
    };
    [header.as_bytes(), body.as_bytes()].concat()
}

/// One or more records of every kind that has a layout, and of kinds that have none.
pub(crate) fn every_kind() -> Vec<Vec<u8>> {
    let mut text = [0; 64];
    text[..12].copy_from_slice(b"3f5a9c0d1e2b");
    let exec = abi::ProcessExec {
        start_ns: 77,
        exe_inode: 131_073,
        exe_dev: 8 << 20 | 1,
        parent_tgid: 1,
        old_tid: 4_104,
        flags: abi::EXEC_HAS_EXE,
        comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    let call = abi::Syscall {
        enter_ns: 1_000_004_500,
        ret: -2,
        requested: 4_096,
        fd: -100,
        nr: 257,
        flags: abi::SYSCALL_HAS_FD | abi::SYSCALL_HAS_REQUESTED | abi::SYSCALL_HAS_RET,
    };
    vec![
        record(
            Kind::META_SAMPLING,
            CPU_NONE,
            0,
            &abi::Sampling { family: 3, one_in: 100, min_duration_ns: 50_000 },
        ),
        record(
            Kind::META_THREAD,
            CPU_NONE,
            1,
            &abi::ThreadSeed {
                start_ns: 10_000_000,
                parent_tgid: 1,
                flags: 0,
                comm: *b"postgres\0\0\0\0\0\0\0\0",
            },
        ),
        record(
            Kind::META_CGROUP,
            CPU_NONE,
            2,
            &abi::CgroupName { len: 12, flags: abi::CGROUP_IS_CONTAINER, reserved: 0, text },
        ),
        record(Kind::META_MARKER, CPU_NONE, 3, &abi::Marker { id: 42 }),
        record(Kind::PROCESS_EXEC, 0, 4, &exec),
        record(
            Kind::PROCESS_FORK,
            0,
            5,
            &abi::ProcessFork {
                child_tgid: 9_001,
                child_tid: 9_001,
                child_start_ns: 88,
                parent_tgid: 4_005,
                flags: 0,
            },
        ),
        record(Kind::SYSCALL, 1, 6, &call),
        record(
            Kind::SYSCALL,
            1,
            7,
            &abi::Syscall { nr: 231, flags: 0, ret: 0, requested: 0, fd: 0, enter_ns: 1_000_007_000 },
        ),
        record(
            Kind::SCHED_SWITCH,
            2,
            8,
            &abi::SchedSwitch {
                next_tid: 9_001,
                next_tgid: 9_001,
                prev_state: 1,
                prev_prio: 120,
                next_prio: 98,
                flags: abi::SWITCH_PREEMPT,
            },
        ),
        record(
            Kind::SCHED_WAKING,
            2,
            9,
            &abi::SchedWaking {
                wakee_tid: 4_106,
                wakee_tgid: 4_006,
                prio: 120,
                target_cpu: 3,
                context: abi::CONTEXT_SOFTIRQ,
            },
        ),
        record(
            Kind::SCHED_MIGRATE,
            3,
            10,
            &abi::SchedMigrate { moved_tid: 4_106, moved_tgid: 4_006, from_cpu: 3, to_cpu: 0, prio: 120 },
        ),
        record(
            Kind::META_LOST,
            CPU_NONE,
            11,
            &abi::Lost {
                count: 5,
                first_ns: 1_000_000_500,
                last_ns: 1_000_000_900,
                kind: Kind::SYSCALL.0,
                cpu: 1,
                flags: 0,
            },
        ),
        record(
            Kind::PROCESS_RENAME,
            3,
            12,
            &abi::ProcessRename {
                renamed_tid: 9_001,
                renamed_tgid: 9_001,
                comm: *b"worker-\xff\0\0\0\0\0\0\0\0",
            },
        ),
        record(
            Kind::PROCESS_EXIT,
            3,
            13,
            &abi::ProcessExit { start_ns: 88, parent_tgid: 4_005, status: 139, flags: abi::EXIT_PROCESS },
        ),
        // Two of a user's own, one that nobody defined, and one of a wrong size.
        record(Kind(Kind::USER.0 + 3), 0, 14, b"odd size!"),
        record(Kind(Kind::USER.0 + 15), 1, 15, &[1_u64, 2, 3]),
        record(Kind(0x7777), 2, 16, b""),
        record(Kind::SYSCALL, 3, 17, &[0_u8; 8]),
    ]
}

pub(crate) fn batch_of<'a>(records: impl IntoIterator<Item = &'a Vec<u8>>) -> Batch {
    let mut buf = BatchBuf::default();
    for bytes in records {
        buf.push(Record::new(bytes).expect("a record"));
    }
    buf.take()
}

/// The source's books for these records.
pub(crate) fn probes_of(records: &[Vec<u8>]) -> Vec<ProbeRow> {
    let bytes = capture_of(&[records.to_vec()], None);
    read_all(bytes.as_slice()).expect("a capture").probes
}

/// Books that say so much of the source.
pub(crate) fn ledger_of(probes: &[ProbeRow]) -> Ledger {
    Ledger { probes: probes.to_vec(), ..Ledger::default() }
}

/// A capture with one block for each group of records; without `probes` it is not finished.
pub(crate) fn capture_of(blocks: &[Vec<Vec<u8>>], probes: Option<&[ProbeRow]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = CaptureWriter::new(&mut bytes, &info()).expect("memory takes it");
    for records in blocks {
        writer.write(&batch_of(records)).expect("memory takes it");
        writer.flush().expect("memory takes it");
    }
    if let Some(probes) = probes {
        writer.finish(&ledger_of(probes), None).expect("memory takes it");
    }
    let row = writer.row();
    let records = blocks.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((row.received, row.delivered, row.dropped.len()), (records, records, 0));
    drop(writer);
    bytes
}

/// All there is to know of a capture.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) info: StreamInfo,
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) probes: Vec<ProbeRow>,
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) trailer: Option<Trailer>,
    pub(crate) dropped: u64,
}

/// Reads to the end, and checks what must be so of any capture.
pub(crate) fn read_all(bytes: impl Read) -> Result<Contents, OpenError> {
    let mut reader = CaptureReader::new(bytes, "test.kcap")?;
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut batch = BatchBuf::default();
    let mut complete_until_ns = 0;
    loop {
        let polled = reader.poll(&mut batch, None).expect("readable");
        assert!(polled.complete_until_ns >= complete_until_ns);
        complete_until_ns = polled.complete_until_ns;
        let batch = batch.take();
        assert_eq!(polled.end, batch.is_empty(), "one block each time, nothing at the end");
        records.extend(batch.records().map(|record| record.expect("whole frames").bytes().to_vec()));
        assert_balanced(&reader, records.len() as u64);
        if polled.end {
            break;
        }
    }
    let polled = reader.poll(&mut batch, None).expect("readable");
    assert!(polled.end && batch.is_empty(), "the end stays the end");
    Ok(Contents {
        info: reader.info().clone(),
        records,
        damage: reader.damage().to_vec(),
        probes: reader.probes(),
        index: reader.index().to_vec(),
        trailer: reader.trailer().cloned(),
        dropped: reader.dropped(),
    })
}

/// The books say what was read.
fn assert_balanced(reader: &CaptureReader<impl Read>, read: u64) {
    let stage =
        StageRow { stage: "reader".to_owned(), received: read, delivered: read, ..StageRow::default() };
    let ledger = Ledger::new(reader.probes(), vec![stage], Vec::new());
    assert_eq!(ledger.balance, 0, "{ledger}");
}

//! What the tests of the pipeline and of the process table share: a stream's description and hand-made records.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use kprobe_core::{
    abi::{Header, Kind},
    decode::Record,
    event::{Arch, BootId},
    pipeline::{Batch, BatchBuf, Clocks, StageRow, StreamInfo},
};
use zerocopy::{Immutable, IntoBytes};

pub(crate) mod counted;
pub(crate) mod script;

pub(crate) fn info() -> StreamInfo {
    StreamInfo {
        host: "test".to_owned(),
        boot: BOOT,
        kernel: "6.12.9".to_owned(),
        arch: Arch::X86_64,
        clocks: Clocks::default(),
        cpus: 4,
        report: serde_json::Value::Null,
        sources: 1,
    }
}

pub(crate) const BOOT: BootId = BootId(0x1234);

/// A record with that body.
pub(crate) fn record(header: Header, kind: Kind, body: &(impl IntoBytes + Immutable + ?Sized)) -> Vec<u8> {
    let header = Header { kind: kind.0, ..header };
    [header.as_bytes(), body.as_bytes()].concat()
}

/// A record of a user's own kind, told apart by its body.
pub(crate) fn plain(ktime_ns: u64, cpu: u16, seq: u32, id: u64) -> Vec<u8> {
    record(Header { ktime_ns, cpu, seq, ..Header::default() }, Kind::USER, &id)
}

/// Bytes of a frame of [`plain`].
pub(crate) const PLAIN_FRAME: usize = 8 + 32 + 8;

pub(crate) fn batch_of<'a>(records: impl IntoIterator<Item = &'a Vec<u8>>) -> Batch {
    let mut buf = BatchBuf::default();
    for bytes in records {
        buf.push(Record::new(bytes).expect("a record"));
    }
    buf.take()
}

pub(crate) fn records_of(batch: &Batch) -> Vec<Vec<u8>> {
    batch.records().map(|record| record.expect("no torn frame").bytes().to_vec()).collect()
}

/// Place in the total order.
pub(crate) fn key(record: &[u8]) -> (u64, u16, u32) {
    let header = Record::new(record).expect("a record").header();
    (header.ktime_ns, header.cpu, header.seq)
}

pub(crate) fn assert_balanced(row: &StageRow) {
    assert_eq!(row.received + row.added, row.accounted(), "{row:?}");
}

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    decode::Record,
    pipeline::{BatchBuf, ProbeRow},
};
use zerocopy::{Immutable, IntoBytes};

/// The records that user space adds to the stream, numbered and counted like those of a CPU.
#[derive(Debug, Default)]
pub(crate) struct OwnRecords {
    seq: u32,
    counts: std::collections::BTreeMap<Kind, u64>,
}

/// A body with the part of the header that it decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<B> {
    pub(crate) kind: Kind,
    pub(crate) ktime_ns: u64,
    pub(crate) cgroup_id: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) body: B,
}

impl<B> Own<B> {
    /// A record that concerns no process.
    pub(crate) fn new(kind: Kind, ktime_ns: u64, body: B) -> Self {
        Self { kind, ktime_ns, cgroup_id: 0, tgid: 0, tid: 0, body }
    }
}

impl OwnRecords {
    pub(crate) fn push<B: IntoBytes + Immutable>(&mut self, own: &Own<B>, out: &mut BatchBuf) {
        const { assert!(size_of::<Header>() + size_of::<B>() <= abi::MAX_RECORD) };
        let header = Header {
            ktime_ns: own.ktime_ns,
            cgroup_id: own.cgroup_id,
            tgid: own.tgid,
            tid: own.tid,
            kind: own.kind.0,
            cpu: CPU_NONE,
            seq: self.seq,
        };
        let mut bytes = [0; abi::MAX_RECORD];
        let (head, rest) = bytes.split_at_mut(size_of::<Header>());
        head.copy_from_slice(header.as_bytes());
        rest[..size_of::<B>()].copy_from_slice(own.body.as_bytes());
        // Never shorter than a header.
        if let Ok(record) = Record::new(&bytes[..size_of::<Header>() + size_of::<B>()]) {
            out.push(record);
            self.seq = self.seq.wrapping_add(1);
            *self.counts.entry(own.kind).or_default() += 1;
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = ProbeRow> {
        self.counts.iter().map(|(kind, count)| ProbeRow {
            probe: kind.name().unwrap_or_default().to_owned(),
            cpu: None,
            submitted: *count,
            lost: 0,
            sampled_out: 0,
        })
    }
}

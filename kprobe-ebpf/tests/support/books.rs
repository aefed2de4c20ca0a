//! What came out of a recorder, counted independently of it, and the comparison with what it says.

use std::collections::BTreeMap;

use kprobe_core::{
    abi::{Family, Kind},
    decode::Record,
    event::{Event, Lost, TypedEvent},
    pipeline::{Batch, Gaps, ProbeRow},
};
use kprobe_ebpf::{PairCounts, Recorder, SyscallCounts};

/// Records that were received.
#[derive(Default)]
pub struct Books {
    /// By kind and CPU; `None` for those that user space made.
    pub received: BTreeMap<(Kind, Option<u16>), u64>,
    /// By kind and CPU, from the `meta.lost` records.
    pub lost: BTreeMap<(Kind, u16), u64>,
    gaps: Gaps,
}

/// What a recorder said at its end.
#[derive(Debug)]
pub struct Closed {
    pub rows: Vec<ProbeRow>,
    pub syscalls: SyscallCounts,
    pub memory: PairCounts,
    /// Of locks.
    pub locks: PairCounts,
    /// Of waits.
    pub waits: PairCounts,
    received: BTreeMap<Kind, u64>,
}

impl Books {
    pub fn observe(&mut self, record: Record<'_>) {
        let header = record.header();
        let cpu = (header.cpu != kprobe_core::abi::CPU_NONE).then_some(header.cpu);
        *self.received.entry((record.kind(), cpu)).or_default() += 1;
        self.gaps.observe(record);
        if record.kind() == Kind::META_LOST {
            let lost = Lost::decode(record).unwrap();
            *self.lost.entry((lost.kind, lost.cpu)).or_default() += lost.count;
            assert!(lost.first_ns <= lost.last_ns && lost.count > 0, "{lost:?}");
        }
    }

    /// Compares with the books of a recorder that is detached and drained: for each kind and CPU what was submitted was
    /// received or lost, losses are in the stream, and record numbers are missing where records were lost.
    pub fn close<Probes>(self, recorder: &Recorder<Probes>) -> Closed {
        let rows = recorder.probes();
        let mut unexplained = self.received.clone();
        let mut lost = self.lost.clone();
        for row in &rows {
            let kind = kind_named(&row.probe);
            let received = unexplained.remove(&(kind, row.cpu)).unwrap_or(0);
            let said = row.cpu.and_then(|cpu| lost.remove(&(kind, cpu))).unwrap_or(0);
            assert_eq!(row.submitted, received + row.lost, "submitted = received + lost: {row:?}");
            assert_eq!(row.lost, said, "what meta.lost records say of {row:?}");
        }
        assert_eq!(unexplained, BTreeMap::new(), "received, but in no row of {rows:?}");
        assert_eq!(lost, BTreeMap::new(), "said to be lost, but in no row of {rows:?}");
        let next = recorder.next_seqs();
        for gap in self.gaps.report(&rows, |cpu| next.get(usize::from(cpu)).copied()) {
            assert!(gap.to_the_end && gap.agrees(), "record numbers: {gap:?}\n{rows:?}");
        }
        let syscalls = recorder.syscall_counts();
        assert_eq!(syscalls.unstored_enters, 0);
        let mut received = BTreeMap::new();
        for ((kind, _), count) in self.received {
            *received.entry(kind).or_default() += count;
        }
        let memory = recorder.pair_counts(Family::Memory);
        assert_eq!(memory.unstored, 0);
        let locks = recorder.pair_counts(Family::Lock);
        assert_eq!(locks.unstored, 0);
        let waits = recorder.pair_counts(Family::Wait);
        assert_eq!(waits.unstored, 0);
        Closed { rows, syscalls, memory, locks, waits, received }
    }
}

impl Closed {
    pub fn received(&self, kind: Kind) -> u64 {
        self.received.get(&kind).copied().unwrap_or(0)
    }

    pub fn submitted(&self, kind: Kind) -> u64 {
        self.sum(kind, |row| row.submitted)
    }

    pub fn lost(&self, kind: Kind) -> u64 {
        self.sum(kind, |row| row.lost)
    }

    pub fn sampled_out(&self, kind: Kind) -> u64 {
        self.sum(kind, |row| row.sampled_out)
    }

    pub fn lost_in_all(&self) -> u64 {
        self.rows.iter().map(|row| row.lost).sum()
    }

    fn sum(&self, kind: Kind, of: impl Fn(&ProbeRow) -> u64) -> u64 {
        self.rows.iter().filter(|row| kind_named(&row.probe) == kind).map(of).sum()
    }
}

/// Every record of a batch, none of them undecodable.
pub fn each_event(batch: &Batch, mut take: impl FnMut(Record<'_>, Option<Event>)) {
    for record in batch.records() {
        let record = record.unwrap();
        take(record, Event::decode(record).unwrap());
    }
}

fn kind_named(name: &str) -> Kind {
    let user = || name.strip_prefix("kind-0x").and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let known = Kind::ALL.iter().find(|kind| kind.name() == Some(name));
    known.copied().or_else(|| user().map(Kind)).unwrap_or_else(|| panic!("a row of {name}"))
}

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{drop_records, made::Made, passing::Passing};
use crate::{
    abi::{self, FAMILIES, Family, Header, Kind},
    event::{Sampling, TypedEvent},
    pipeline::{Batch, BatchBuf, Context, Enriched, Stage, StageRow},
};

/// A stage that keeps one of so many records of each kind; the others are dropped as `sampled_out`.
///
/// It counts, so that the same stream gives the same records however it comes in batches: of each kind the first is kept.
/// Always passed on are
///
/// - records about the stream itself, and process events, which others need;
/// - OOM kills, which the kernel programs do not leave out either, and minor page faults, which have a rate of their own in
///   each record;
/// - kinds of a family that this version does not know.
///
/// The rate is in the stream, as that of sampling in the kernel is: in front of the first record that a rate applies to
/// there is a `meta.sampling` of its family. Its `one_in` is the whole of it, the kernel's rate times this one: whoever
/// counts takes each record of the family for as many as the last `meta.sampling` says. The ledger has these records as
/// `added`.
///
/// ```
/// use kprobe_core::{abi::{self, Header, Kind}, decode::Record, pipeline::{BatchBuf, Sample, Stage}};
/// use zerocopy::IntoBytes;
///
/// let header = Header { kind: Kind::SYSCALL.0, ..Header::default() };
/// let call = [header.as_bytes(), abi::Syscall::default().as_bytes()].concat();
/// let mut buf = BatchBuf::default();
/// for _ in 0..30 {
///     buf.push(Record::new(&call)?);
/// }
/// let mut sample = Sample::one_in(10);
/// let rate = sample.rate();
/// let kept: Vec<_> = sample.apply(buf.take()).records().flatten().map(|record| record.kind()).collect();
/// assert_eq!(kept, [Kind::META_SAMPLING, Kind::SYSCALL, Kind::SYSCALL, Kind::SYSCALL]);
/// assert_eq!((sample.row().added, sample.row().dropped["sampled_out"]), (1, 27));
/// rate.set(100); // from the next batch on, from any thread
/// # Ok::<(), kprobe_core::decode::DecodeError>(())
/// ```
pub struct Sample {
    rate: SampleRate,
    /// Records so far that a rate applied to, by kind.
    considered: Vec<u64>,
    families: [Told; FAMILIES],
    made: Made,
    row: StageRow,
    out: BatchBuf,
}

/// The rate of a [`Sample`], which may be changed while it runs. Cheap to clone; all clones are the same rate.
#[derive(Clone, Debug)]
pub struct SampleRate(Arc<AtomicU32>);

impl SampleRate {
    /// Keeps one of so many from the next batch on; 0 and 1 keep all.
    pub fn set(&self, one_in: u32) {
        // Relaxed: nothing else depends on it.
        self.0.store(one_in.max(1), Ordering::Relaxed);
    }

    /// One of how many is kept.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the stream has said about a family.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// What is done before this stage.
    before: abi::Sampling,
    /// The rate that whoever reads on takes for the whole of it.
    one_in: u32,
}

/// Kinds of the families that this version knows.
const KINDS: usize = FAMILIES << 8;

impl Sample {
    /// Keeps one of so many; 0 and 1 keep all.
    #[must_use]
    pub fn one_in(one_in: u32) -> Self {
        let nothing = abi::Sampling { family: 0, one_in: 1, min_duration_ns: 0 };
        Self {
            rate: SampleRate(Arc::new(AtomicU32::new(one_in.max(1)))),
            considered: vec![0; KINDS],
            families: [Told { before: nothing, one_in: 1 }; FAMILIES],
            made: Made::default(),
            row: StageRow::named("sample"),
            out: BatchBuf::default(),
        }
    }

    /// The rate, to be changed while the stage runs.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate.clone()
    }
}

/// The family whose rate applies to records of that kind, if one does.
fn sampled(kind: Kind) -> Option<Family> {
    match kind {
        Kind::MEMORY_OOM_KILL | Kind::MEMORY_FAULT_MINOR => None,
        _ => kind.family().filter(|family| !matches!(family, Family::Meta | Family::Process)),
    }
}

/// Remembers what the source says about its own sampling, which passes on.
fn listen(families: &mut [Told; FAMILIES], one: &Enriched<'_>) {
    if one.record.kind() != Kind::META_SAMPLING {
        return;
    }
    if let (Ok(event), Ok(before)) = (Sampling::decode(one.record), one.record.body::<abi::Sampling>()) {
        families[event.family as usize] = Told { before, one_in: event.one_in.max(1) };
    }
}

impl Stage for Sample {
    fn apply(&mut self, batch: Batch) -> Batch {
        let one_in = self.rate.get();
        let (mut delivered, mut dropped, mut added) = (0, 0, 0);
        let mut passing = Passing::new(&batch, &mut self.out);
        for one in batch.enriched() {
            // A frame without a record is none: whoever drains counts it.
            let Ok(one) = one else {
                passing.leave_out();
                continue;
            };
            let Some(family) = sampled(one.record.kind()) else {
                listen(&mut self.families, &one);
                delivered += 1;
                passing.keep(&one);
                continue;
            };
            let told = &mut self.families[family as usize];
            let whole = told.before.one_in.max(1).saturating_mul(one_in);
            if told.one_in != whole {
                told.one_in = whole;
                let body = abi::Sampling { family: family as u32, one_in: whole, ..told.before };
                let header = Header { ktime_ns: one.record.header().ktime_ns, ..Header::default() };
                self.made.make(Kind::META_SAMPLING, header, &body, |record| {
                    passing.add(record, &Context::default());
                });
                added += 1;
            }
            if one_in > 1 {
                let considered = &mut self.considered[usize::from(one.record.kind().0)];
                let ticket = std::mem::replace(considered, considered.wrapping_add(1));
                if !ticket.is_multiple_of(one_in.into()) {
                    dropped += 1;
                    passing.leave_out();
                    continue;
                }
            }
            delivered += 1;
            passing.keep(&one);
        }
        let whole = passing.is_whole();
        self.row.received += delivered + dropped;
        self.row.added += added;
        self.row.delivered += delivered + added;
        drop_records(&mut self.row, "sampled_out", dropped);
        if whole { batch } else { self.out.take() }
    }

    fn row(&self) -> StageRow {
        self.row.clone()
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample").field("rate", &self.rate).field("row", &self.row).finish_non_exhaustive()
    }
}

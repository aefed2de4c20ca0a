use std::collections::BTreeMap;

use super::{Batch, ProbeRow};
use crate::{
    abi::{CPU_NONE, Family, Kind},
    decode::Record,
};

/// Watches the record numbers of each CPU: a second witness, independent of the kernel's counters, of what was lost.
///
/// A program numbers its record whether or not it got room for it, so a record the kernel had no room for leaves a gap. At a
/// quiet moment the gaps of a CPU are as many as its kernel counter says. Records of one CPU may come out of order (an
/// interrupt between reserving and taking the number). The 32 bits of a record's number are continued over their end, which works as
/// long as less than 2^31 numbers lie between two records that arrive one after the other.
///
/// A loss at the very end of a CPU's stream leaves no gap, since no record follows it: it shows only when the kernel's own
/// next number is known; see [`report`](Self::report).
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    cpus: Vec<Cpu>,
    /// Kinds of a user's own, each of which is numbered by itself.
    users: BTreeMap<(u16, Kind), Cpu>,
    from_first_seen: bool,
}

/// Numbers are kept as if they had 64 bits from the start on; where the start is not 0 they may go below it.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    received: u64,
    first: i64,
    /// One more than the highest so far.
    next: i64,
}

impl Cpu {
    #[inline]
    fn observe(&mut self, seq: u32, from_first_seen: bool) {
        if from_first_seen && self.received == 0 {
            (self.first, self.next) = (seq.into(), seq.into());
        }
        // The number nearest to the one expected that has these low 32 bits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32 is meant")]
        let ahead = seq.wrapping_sub(self.next as u32).cast_signed();
        let number = self.next + i64::from(ahead);
        self.next = self.next.max(number + 1);
        if from_first_seen {
            self.first = self.first.min(number);
        }
        self.received += 1;
    }

    fn missing(&self, next: i64) -> u64 {
        u64::try_from(next - self.first).unwrap_or(0).saturating_sub(self.received)
    }
}

/// What became of the numbers of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GapReport {
    /// Which source of its pipeline, from 0 on, in the order they were added.
    pub source: usize,
    /// The CPU.
    pub cpu: u16,
    /// A kind of the user's own; `None` for all others, which are numbered together.
    pub kind: Option<Kind>,
    /// Records that came.
    pub received: u64,
    /// Numbers of which no record came, up to the highest that came or, if that is known, the last one taken.
    pub missing: u64,
    /// Records that the kernel says it lost.
    pub lost: u64,
    /// `missing` covers the whole stream: the kernel's next number was given.
    pub to_the_end: bool,
}

impl GapReport {
    /// Numbers that are missing and that the kernel did not lose (positive), or that the kernel lost and that are not
    /// missing (negative).
    #[must_use]
    pub const fn difference(&self) -> i128 {
        self.missing as i128 - self.lost as i128
    }

    /// Both witnesses agree, as far as they can: without the kernel's next number, losses at the end do not show.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        if self.to_the_end { self.missing == self.lost } else { self.missing <= self.lost }
    }
}

/// What a batch held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// Records.
    pub records: u64,
    /// Frames without a record: see [`FrameError`](crate::decode::FrameError).
    pub bad_frames: u64,
}

impl Gaps {
    /// Knows no record yet. The first number of each CPU is 0, as in a stream of our own recorder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`new`](Self::new), but the first number of each CPU is the lowest that comes: for a part of a stream.
    #[must_use]
    pub fn from_first_seen() -> Self {
        Self { from_first_seen: true, ..Self::default() }
    }

    /// Takes every record of a batch, in the order they were drained.
    pub fn observe_batch(&mut self, batch: &Batch) -> Observed {
        let mut observed = Observed::default();
        for record in batch.records() {
            match record {
                Ok(record) => {
                    self.observe(record);
                    observed.records += 1;
                }
                Err(_) => observed.bad_frames += 1,
            }
        }
        observed
    }

    /// Takes a record. Those that user space made have no number.
    #[inline]
    pub fn observe(&mut self, record: Record<'_>) {
        let header = record.header();
        if header.cpu == CPU_NONE {
            return;
        }
        let kind = Kind(header.kind);
        if is_users(kind) {
            let cpu = self.users.entry((header.cpu, kind)).or_default();
            return cpu.observe(header.seq, self.from_first_seen);
        }
        let at = usize::from(header.cpu);
        if at >= self.cpus.len() {
            self.cpus.resize(at + 1, Cpu::default());
        }
        self.cpus[at].observe(header.seq, self.from_first_seen);
    }

    /// Numbers of a CPU of which no record came, up to the highest that came.
    #[must_use]
    pub fn missing(&self, cpu: u16) -> u64 {
        let users = self.users.range((cpu, Kind(0))..=(cpu, Kind(u16::MAX))).map(|(_, cpu)| cpu);
        self.cpus.get(usize::from(cpu)).into_iter().chain(users).map(|cpu| cpu.missing(cpu.next)).sum()
    }

    /// Compares with the kernel's counters. `next` gives the number of a CPU's next record where it is known:
    /// [`CpuState::seq`](crate::abi::CpuState) of a recorder that is detached and drained. With it the rows are taken to
    /// be of the same moment; they have the next number of a user's kind.
    #[must_use]
    pub fn report(&self, probes: &[ProbeRow], next: impl Fn(u16) -> Option<u64>) -> Vec<GapReport> {
        let rows = || probes.iter().filter_map(|row| Some((row.cpu?, kind_of_user(row), row)));
        let in_rows = rows().map(|(cpu, ..)| usize::from(cpu) + 1).max();
        let cpus = self.cpus.len().max(in_rows.unwrap_or(0));
        let own = (0..CPU_NONE).take(cpus).map(|cpu| {
            let lost = rows().filter(|(of, kind, _)| *of == cpu && kind.is_none()).map(|(.., row)| row.lost);
            let seen = self.cpus.get(usize::from(cpu)).copied().unwrap_or_default();
            report_of(cpu, None, seen, lost.sum(), next(cpu))
        });
        let mut users = self.users.clone();
        for (cpu, kind, _) in rows() {
            users
                .extend(kind.map(|kind| ((cpu, kind), users.get(&(cpu, kind)).copied().unwrap_or_default())));
        }
        let of_users = users.into_iter().map(|((cpu, kind), seen)| {
            let row =
                rows().find(|(of, row_kind, _)| *of == cpu && *row_kind == Some(kind)).map(|(.., row)| row);
            let submitted = next(cpu).and_then(|_| row.map(|row| row.submitted));
            report_of(cpu, Some(kind), seen, row.map_or(0, |row| row.lost), submitted)
        });
        own.chain(of_users).filter(|row| row.received > 0 || row.missing > 0 || row.lost > 0).collect()
    }
}

fn report_of(cpu: u16, kind: Option<Kind>, seen: Cpu, lost: u64, next: Option<u64>) -> GapReport {
    let (next, to_the_end) =
        next.and_then(|next| i64::try_from(next).ok()).map_or((seen.next, false), |next| (next, true));
    GapReport { source: 0, cpu, kind, received: seen.received, missing: seen.missing(next), lost, to_the_end }
}

fn is_users(kind: Kind) -> bool {
    kind.family() == Some(Family::User)
}

/// The user's kind that a row is about: rows name it by its number.
fn kind_of_user(row: &ProbeRow) -> Option<Kind> {
    let number = row.probe.strip_prefix("kind-0x")?;
    u16::from_str_radix(number, 16).ok().map(Kind).filter(|kind| is_users(*kind))
}

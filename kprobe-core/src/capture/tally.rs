use std::collections::BTreeMap;

use super::{Trailer, format::MAX_COUNT};
use crate::{
    abi::{CPU_NONE, Kind},
    decode::{Frames, Record},
    event::{Lost, TypedEvent},
    pipeline::ProbeRow,
};

/// Name of the row for records that are known to be missing, but not of which kind.
const MISSING: &str = "capture.missing";
/// Name of the row for what exceeds [`MAX_KEYS`].
const OTHERS: &str = "capture.others";

/// More kinds times CPUs than any recording has; what a damaged or made-up file has beyond is counted together.
const MAX_KEYS: usize = 1 << 16;

/// Records read, by kind and CPU.
#[derive(Debug)]
pub(super) struct Tally {
    rows: Vec<Count>,
    by_key: BTreeMap<Key, usize>,
    /// Where `rows` has the key, by a few bits of it: spares nearly every look-up in the tree.
    recent: [usize; RECENT],
    others: u64,
    read: u64,
    lost: u64,
}

const RECENT: usize = 256;

type Key = (Kind, u16);

#[derive(Debug)]
struct Count {
    key: Key,
    read: u64,
    lost: u64,
}

impl Tally {
    pub(super) const fn new() -> Self {
        Self { rows: Vec::new(), by_key: BTreeMap::new(), recent: [0; RECENT], others: 0, read: 0, lost: 0 }
    }

    /// Counts the records of a block.
    pub(super) fn count(&mut self, frames: &[u8]) {
        for record in Frames::new(frames).flatten() {
            let header = record.header();
            self.read += 1;
            match self.at((Kind(header.kind), header.cpu)) {
                Some(count) => count.read += 1,
                None => self.others += 1,
            }
            if header.kind == Kind::META_LOST.0 {
                self.count_lost(record);
            }
        }
    }

    fn count_lost(&mut self, record: Record<'_>) {
        let Ok(lost) = Lost::decode(record) else {
            return;
        };
        // Half of it, so that with the records read it is still within what a trailer may say.
        let number = lost.count.min(MAX_COUNT / 2 - self.lost);
        if let Some(count) = self.at((lost.kind, lost.cpu)) {
            count.lost += number;
            self.lost += number;
        }
    }

    fn at(&mut self, key: Key) -> Option<&mut Count> {
        let recent = (usize::from(key.0.0) * 31 + usize::from(key.1)) % RECENT;
        let row = self.recent[recent];
        if self.rows.get(row).is_some_and(|count| count.key == key) {
            return self.rows.get_mut(row);
        }
        let row = match self.by_key.get(&key) {
            Some(&row) => row,
            None if self.rows.len() == MAX_KEYS => return None,
            None => {
                self.rows.push(Count { key, read: 0, lost: 0 });
                self.by_key.insert(key, self.rows.len() - 1);
                self.rows.len() - 1
            }
        };
        self.recent[recent] = row;
        self.rows.get_mut(row)
    }

    /// The books by what was read alone; `missing` records are not there, of unknown kinds.
    pub(super) fn rows(&self, missing: u64) -> Vec<ProbeRow> {
        let counted = self.by_key.values().map(|&row| {
            let Count { key, read, lost } = self.rows[row];
            row_of(name(key.0), cpu(key.1), read + lost, lost)
        });
        let missing = missing.min(MAX_COUNT);
        let rest = [
            row_of(OTHERS.to_owned(), None, self.others, 0),
            row_of(MISSING.to_owned(), None, missing, missing),
        ];
        counted.chain(rest.into_iter().filter(|row| row.submitted > 0)).collect()
    }

    /// The books by the trailer. Where less was read than they say there should be, the rest is lost.
    pub(super) fn rows_with(&self, trailer: &Trailer) -> Vec<ProbeRow> {
        let flow: u64 = trailer.probes.iter().map(|row| row.submitted - row.lost).sum();
        if flow == self.read {
            return trailer.probes.clone();
        }
        let mut read: BTreeMap<(String, Option<u16>), u64> =
            self.by_key.iter().map(|(key, &row)| ((name(key.0), cpu(key.1)), self.rows[row].read)).collect();
        if self.others > 0 {
            read.insert((OTHERS.to_owned(), None), self.others);
        }
        let mut rows = trailer.probes.clone();
        for row in &mut rows {
            let read = read.remove(&(row.probe.clone(), row.cpu)).unwrap_or(0);
            row.submitted = row.submitted.max(read + row.lost);
            row.lost = row.submitted - read;
        }
        let unknown = read.into_iter().filter(|(_, read)| *read > 0);
        rows.extend(unknown.map(|((name, cpu), read)| row_of(name, cpu, read, 0)));
        rows
    }
}

impl Trailer {
    /// Its numbers can be added up, and of no kind more was lost than submitted.
    pub(super) fn is_countable(&self) -> bool {
        if self.probes.iter().any(|row| row.lost > row.submitted) {
            return false;
        }
        let total = |number: fn(&ProbeRow) -> u64| {
            self.probes.iter().try_fold(0_u64, |sum, row| sum.checked_add(number(row)))
        };
        let fits = |sum: Option<u64>| sum.is_some_and(|sum| sum <= MAX_COUNT);
        fits(total(|row| row.submitted)) && fits(total(|row| row.lost)) && fits(total(|row| row.sampled_out))
    }
}

fn name(kind: Kind) -> String {
    kind.name().map_or_else(|| format!("kind-{:#06x}", kind.0), str::to_owned)
}

fn cpu(cpu: u16) -> Option<u16> {
    (cpu != CPU_NONE).then_some(cpu)
}

fn row_of(probe: String, cpu: Option<u16>, submitted: u64, lost: u64) -> ProbeRow {
    ProbeRow { probe, cpu, submitted, lost, sampled_out: 0 }
}

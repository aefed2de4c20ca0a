use kprobe_core::{
    abi::{ClockChange, Kind},
    pipeline::{BatchBuf, Clocks},
};

use super::own::{Own, OwnRecords};
use crate::host;

/// How far the clocks may have moved against each other before the stream says so: what a reading that was interrupted makes
/// of it is much less, and so is what adjusting the clock's speed does, which moves all of them.
const TOLERANCE_NS: u64 = 1_000_000;

/// Notices that the wall clock was set, or that the machine was suspended.
#[derive(Debug)]
pub(crate) struct Clock {
    /// As the stream has them.
    known: Clocks,
    /// What was recorded up to this time is in the stream already.
    complete_until_ns: u64,
}

impl Clock {
    pub(crate) fn new(known: Clocks) -> Self {
        Self { known, complete_until_ns: known.monotonic_ns }
    }

    /// Every record up to this time was drained.
    pub(crate) fn drained_until(&mut self, complete_until_ns: u64) {
        self.complete_until_ns = self.complete_until_ns.max(complete_until_ns);
    }

    /// To be called before a drain: a change is told in front of all that was recorded since the last one.
    pub(crate) fn put_change(&mut self, own: &mut OwnRecords, out: &mut BatchBuf) {
        if !differ(&self.known, &host::reading()) {
            return;
        }
        let now = host::clocks();
        if !differ(&self.known, &now) {
            return;
        }
        self.known = now;
        let Clocks { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns } = now;
        let body = ClockChange { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns };
        own.push(&Own::new(Kind::META_CLOCK, self.complete_until_ns + 1, body), out);
    }
}

fn differ(a: &Clocks, b: &Clocks) -> bool {
    let most = TOLERANCE_NS + a.uncertainty_ns + b.uncertainty_ns;
    let offset = |clocks: &Clocks, clock_ns: u64| clock_ns.wrapping_sub(clocks.monotonic_ns).cast_signed();
    let moved = |of: fn(&Clocks) -> u64| offset(a, of(a)).abs_diff(offset(b, of(b)));
    moved(|clocks| clocks.realtime_ns) > most || moved(|clocks| clocks.boottime_ns) > most
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Clocks =
        Clocks { monotonic_ns: 1 << 40, boottime_ns: 1 << 41, realtime_ns: 1 << 60, uncertainty_ns: 200 };

    fn later(monotonic: u64, suspended: u64, set: i64) -> Clocks {
        Clocks {
            monotonic_ns: NOW.monotonic_ns + monotonic,
            boottime_ns: NOW.boottime_ns + monotonic + suspended,
            realtime_ns: (NOW.realtime_ns + monotonic + suspended).wrapping_add_signed(set),
            ..NOW
        }
    }

    #[test]
    fn time_that_passes_is_no_change() {
        for monotonic in [0, 1, 1 << 50] {
            assert!(!differ(&NOW, &later(monotonic, 0, 0)));
            assert!(!differ(&NOW, &later(monotonic, 900_000, 0)));
            assert!(!differ(&NOW, &later(monotonic, 0, -900_000)));
            assert!(differ(&NOW, &later(monotonic, 1_100_000, 0)));
            assert!(differ(&NOW, &later(monotonic, 0, -1_100_000)));
            // Back by as much as it was suspended: the wall clock agrees, time since boot does not.
            assert!(differ(&NOW, &later(monotonic, 1 << 40, -(1 << 40))));
        }
        // A reading that was interrupted.
        assert!(!differ(&NOW, &Clocks { uncertainty_ns: 5_000_000, ..later(0, 0, 4_000_000) }));
    }

    #[test]
    fn a_change_is_told_once_and_before_what_comes_after_it() {
        let mut known = host::clocks();
        known.realtime_ns -= 3_600_000_000_000;
        let mut clock = Clock::new(known);
        clock.drained_until(known.monotonic_ns + 5);
        clock.drained_until(known.monotonic_ns + 3);
        let (mut own, mut out) = (OwnRecords::default(), BatchBuf::default());
        clock.put_change(&mut own, &mut out);
        clock.put_change(&mut own, &mut out);
        let batch = out.take();
        let records: Vec<_> = batch.records().map(|record| record.expect("our own").header()).collect();
        let [header] = records[..] else { panic!("{records:?}") };
        assert_eq!((header.kind, header.ktime_ns), (Kind::META_CLOCK.0, known.monotonic_ns + 6));
    }
}

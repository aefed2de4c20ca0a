use kprobe_core::pipeline::Clocks;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Readings of which the tightest is taken: one that was not interrupted is among them.
const READINGS: usize = 16;

/// The kernel's clocks, read as close together as this machine can: `CLOCK_BOOTTIME` and `CLOCK_REALTIME` between two readings of
/// `CLOCK_MONOTONIC`, whose middle and half distance are the time and the uncertainty.
#[must_use]
pub fn clocks() -> Clocks {
    let mut best = reading();
    for _ in 1..READINGS {
        let next = reading();
        if next.uncertainty_ns < best.uncertainty_ns {
            best = next;
        }
    }
    best
}

/// Likewise, read once.
pub(crate) fn reading() -> Clocks {
    let before = nanoseconds(clock_gettime(ClockId::Monotonic));
    let boottime_ns = nanoseconds(clock_gettime(ClockId::Boottime));
    let realtime_ns = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = nanoseconds(clock_gettime(ClockId::Monotonic));
    let half = (after - before).div_ceil(2);
    Clocks { monotonic_ns: before + half, boottime_ns, realtime_ns, uncertainty_ns: half }
}

/// The kernel keeps its clocks between 0 and 2^63 ns; a wall clock set before 1970 counts as 1970.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_read_together() {
        let (first, second) = (clocks(), clocks());
        assert!(second.monotonic_ns > first.monotonic_ns);
        assert!(first.boottime_ns + first.uncertainty_ns >= first.monotonic_ns);
        // 2020 and 2200.
        assert!((1_577_836_800_000_000_000..7_258_118_400_000_000_000).contains(&first.realtime_ns));
        assert!(first.uncertainty_ns < 1_000_000, "{first:?}");
    }
}

use std::time::Duration;

/// How a reader trades delay for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Time between two drains while many records come.
    pub nap: Duration,
    /// The same while few come. A record waits no longer than this and the time it takes to wake up. On a virtual
    /// machine a nap may cost 20 us of CPU time however short it is, so this is what a trickle of records costs.
    pub longest_nap: Duration,
}

impl Default for Pacing {
    /// 100 us and 400 us: 99 of 100 records arrive within a millisecond, where sleepers are woken in time.
    fn default() -> Self {
        Self { nap: Duration::from_micros(100), longest_nap: Duration::from_micros(400) }
    }
}

/// When to drain again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next record: it will make the reader's descriptor readable.
    Idle,
    /// After this time, or when the reader's descriptor becomes readable.
    Again(Duration),
}

/// What to do after a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nap(Duration),
    /// Go idle, if no record came meanwhile; else nap so long.
    TryIdle(Duration),
}

/// Decides between napping and going idle. No clock, no system call.
#[derive(Debug)]
pub(super) struct Pacer {
    pacing: Pacing,
    nap: Duration,
    /// Bytes in one nap above which naps get shorter.
    many: usize,
    /// Bytes in one nap below which they get longer.
    few: usize,
}

impl Pacer {
    /// `ring_bytes` is the length of the smallest ring.
    pub(super) fn new(pacing: Pacing, ring_bytes: usize) -> Self {
        let longest_nap = pacing.longest_nap.max(pacing.nap);
        let pacing = Pacing { longest_nap, ..pacing };
        Self { pacing, nap: pacing.nap, many: ring_bytes / 16, few: ring_bytes / 32 }
    }

    /// `bytes`: what was drained since the last plan. `unread`: what is in the fullest ring now. `slept`: how long the
    /// reader had been idle, if it was.
    pub(super) fn plan(&mut self, bytes: usize, unread: usize, slept: Option<Duration>) -> Plan {
        let Pacing { nap, longest_nap } = self.pacing;
        if bytes == 0 {
            self.nap = nap;
            return Plan::TryIdle(nap);
        }
        if unread > self.many {
            // The caller stopped at its limit, or records come as fast as they are drained.
            self.nap = nap;
            return Plan::Nap(Duration::ZERO);
        }
        match slept {
            // Records come further apart than a nap is long. A nap would find nothing and only cost a second switch.
            Some(slept) if slept >= longest_nap && bytes < self.few => return Plan::TryIdle(nap),
            _ if bytes > self.many => self.nap = (self.nap / 2).max(nap),
            _ if bytes < self.few => self.nap = (self.nap * 2).min(longest_nap),
            _ => {}
        }
        Plan::Nap(self.nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn pacer() -> Pacer {
        Pacer::new(Pacing { nap: 100 * US, longest_nap: 400 * US }, 1 << 20)
    }

    #[test]
    fn a_nap_that_found_nothing_is_the_last() {
        let mut pacer = pacer();
        assert_eq!(pacer.plan(0, 0, None), Plan::TryIdle(100 * US));
        assert_eq!(pacer.plan(0, 0, Some(US)), Plan::TryIdle(100 * US));
    }

    #[test]
    fn naps_grow_while_few_records_come_and_shrink_when_many_do() {
        let mut pacer = pacer();
        let plans = [72, 72, 72, 40_000, 100_000, 100_000, 100_000].map(|bytes| pacer.plan(bytes, 0, None));
        assert_eq!(plans, [200, 400, 400, 400, 200, 100, 100].map(|us| Plan::Nap(us * US)));
    }

    #[test]
    fn a_record_now_and_then_is_not_worth_a_nap() {
        let mut pacer = pacer();
        assert_eq!(pacer.plan(72, 0, Some(Duration::from_secs(1))), Plan::TryIdle(100 * US));
        assert_eq!(pacer.plan(72, 0, Some(10 * US)), Plan::Nap(200 * US));
        assert_eq!(pacer.plan(100_000, 0, Some(Duration::from_secs(1))), Plan::Nap(100 * US));
    }

    #[test]
    fn no_nap_while_much_is_unread_unless_it_cannot_be_read() {
        let mut pacer = pacer();
        assert_eq!(pacer.plan(72, 200_000, None), Plan::Nap(Duration::ZERO));
        assert_eq!(pacer.plan(0, 200_000, None), Plan::TryIdle(100 * US));
    }

    #[test]
    fn a_longest_nap_below_the_nap_is_the_nap() {
        let mut pacer = Pacer::new(Pacing { nap: 100 * US, longest_nap: US }, 1 << 20);
        assert_eq!(pacer.plan(72, 0, None), Plan::Nap(100 * US));
    }
}

use std::ops::Range;

/// Cuts the time of a stream into intervals, which end at multiples of their length. The first begins with the first record.
///
/// It knows no other clock than the records: an interval ends when a record comes that is not earlier than its end.
#[derive(Debug)]
pub(super) struct Intervals {
    length_ns: u64,
    /// The one that is open.
    open: Option<Range<u64>>,
    /// Greatest time so far.
    now_ns: u64,
}

impl Intervals {
    pub(super) fn new(length_ns: u64) -> Self {
        Self { length_ns: length_ns.max(1), open: None, now_ns: 0 }
    }

    /// A record comes. The interval that it ended; those without any record are skipped.
    #[inline]
    pub(super) fn advance(&mut self, ktime_ns: u64) -> Option<Range<u64>> {
        self.now_ns = self.now_ns.max(ktime_ns);
        if let Some(open) = &self.open
            && ktime_ns < open.end
        {
            return None;
        }
        let begin_ns = ktime_ns - ktime_ns % self.length_ns;
        let end_ns = begin_ns.saturating_add(self.length_ns);
        let from_ns = if self.open.is_some() { begin_ns } else { ktime_ns };
        self.open.replace(from_ns..end_ns)
    }

    /// Whether a record of that time belongs to an interval that is over.
    pub(super) fn is_late(&self, ktime_ns: u64) -> bool {
        self.open.as_ref().is_some_and(|open| ktime_ns < open.start)
    }

    /// Ends the open interval before its time; what is left of it is the next one.
    pub(super) fn cut(&mut self) -> Option<Range<u64>> {
        let open = self.open.as_mut()?;
        let from_ns = std::mem::replace(&mut open.start, self.now_ns);
        Some(from_ns..self.now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::Intervals;

    #[test]
    fn they_end_at_multiples_of_their_length() {
        let mut time = Intervals::new(100);
        assert_eq!(time.cut(), None);
        assert_eq!((time.advance(130), time.advance(199), time.advance(120)), (None, None, None));
        assert!(time.is_late(129) && !time.is_late(130));
        assert_eq!(time.advance(200), Some(130..200));
        // Nothing happened for a while.
        assert_eq!(time.advance(750), Some(200..300));
        assert!(time.is_late(699) && !time.is_late(700));
        assert_eq!(time.advance(799), None);
        assert_eq!(time.advance(u64::MAX), Some(700..800));
    }

    #[test]
    fn one_that_is_cut_goes_on_to_its_end() {
        let mut time = Intervals::new(100);
        assert_eq!(time.advance(130), None);
        assert_eq!(time.advance(150), None);
        assert_eq!(time.advance(140), None);
        assert_eq!(time.cut(), Some(130..150));
        assert!(time.is_late(149) && !time.is_late(150));
        assert_eq!(time.cut(), Some(150..150));
        assert_eq!(time.advance(210), Some(150..200));
    }

    #[test]
    fn a_length_of_0_is_1() {
        let mut time = Intervals::new(0);
        assert_eq!((time.advance(5), time.advance(6)), (None, Some(5..6)));
    }
}

use std::ops::RangeInclusive;

use super::HostError;
use super::error::read;

/// A set of CPUs as the kernel lists it, for example `0-3,8-11`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<RangeInclusive<u16>>);

impl CpuList {
    /// How many CPUs: the number of values in an element of a per-CPU map.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    /// The highest number plus one: the length of an array with an entry for each CPU by its number.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.iter().map(|range| usize::from(*range.end()) + 1).max().unwrap_or(0)
    }

    /// Their numbers, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().cloned().flatten()
    }

    fn parse(text: &str) -> Option<Self> {
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some(first.parse().ok()?..=last.parse().ok()?),
            None => part.parse().ok().map(|cpu| cpu..=cpu),
        };
        let ranges: Option<Vec<RangeInclusive<u16>>> = text.trim().split(',').map(range).collect();
        ranges.filter(|ranges| ranges.iter().all(|range| !range.is_empty())).map(Self)
    }
}

/// The CPUs that this kernel could ever have, those not plugged in included.
///
/// # Errors
///
/// If `/sys` is not mounted.
pub fn possible_cpus() -> Result<CpuList, HostError> {
    let found = read("/sys/devices/system/cpu/possible")?;
    let (what, expected) = ("the list of possible CPUs", "something like 0-3,8");
    CpuList::parse(&found).ok_or(HostError::Unexpected { what, expected, found: found.trim().into() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lists() {
        let list = |text: &str| CpuList::parse(text).map(|list| (list.count(), list.limit()));
        assert_eq!(list("0\n"), Some((1, 1)));
        assert_eq!(list("0-1\n"), Some((2, 2)));
        assert_eq!(list("0-3,8-11,15"), Some((9, 16)));
        for odd in ["", "a", "3-1", "1-", "-1", "0,,1", "70000"] {
            assert_eq!(list(odd), None, "{odd}");
        }
        assert_eq!(CpuList::parse("1,4-6").unwrap().iter().collect::<Vec<_>>(), [1, 4, 5, 6]);
    }

    #[test]
    fn this_machine() {
        let cpus = possible_cpus().unwrap();
        assert!(cpus.count() >= std::thread::available_parallelism().unwrap().get());
        assert!(cpus.limit() >= cpus.count());
    }
}

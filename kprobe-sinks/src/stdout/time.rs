//! Wall-clock times as RFC 3339 text.

use super::decimal::fill;

const SECOND: u64 = 1_000_000_000;

/// Formats times in UTC with nine digits of nanoseconds. Remembers the second it last did.
#[derive(Clone, Debug)]
pub(super) struct Rfc3339 {
    /// Start of the second that `text` shows, in nanoseconds since 1970.
    second_ns: u64,
    text: [u8; 30],
}

/// `2026-09-30T12:34:56.123456789Z`: where the parts of a time begin.
pub(super) const CLOCK: usize = 11;
const FRACTION: usize = 20;

impl Rfc3339 {
    pub(super) const fn new() -> Self {
        Self { second_ns: 0, text: *b"1970-01-01T00:00:00.000000000Z" }
    }

    /// The text for so many nanoseconds since 1970-01-01T00:00:00Z.
    #[inline]
    pub(super) fn text(&mut self, wall_ns: u64) -> &[u8; 30] {
        if wall_ns.checked_sub(self.second_ns).is_none_or(|nanoseconds| nanoseconds >= SECOND) {
            self.set_second(wall_ns / SECOND);
        }
        fill(&mut self.text[FRACTION..FRACTION + 9], wall_ns - self.second_ns);
        &self.text
    }

    /// Days to a date of the Gregorian calendar, with years that begin in March: a leap day is then the last of its year.
    fn set_second(&mut self, seconds: u64) {
        self.second_ns = seconds * SECOND;
        // Days since 0000-03-01; 146,097 days are 400 years.
        let days = seconds / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);

        let in_day = seconds % 86_400;
        let parts = [
            (0..4, year),
            (5..7, month),
            (8..10, day_of_month),
            (11..13, in_day / 3_600),
            (14..16, in_day / 60 % 60),
            (17..19, in_day % 60),
        ];
        for (place, value) in parts {
            fill(&mut self.text[place], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(wall_ns: u64) -> String {
        let time = jiff::Timestamp::from_nanosecond(wall_ns.into()).expect("a u64 ends in the year 2554");
        format!("{time:.9}")
    }

    #[test]
    fn edges() {
        let day = 86_400 * SECOND;
        let mut clock = Rfc3339::new();
        for wall in [0, 1, SECOND - 1, SECOND, day - 1, day, 58 * day, 59 * day, 11_016 * day, u64::MAX, 0] {
            assert_eq!(clock.text(wall), reference(wall).as_bytes(), "{wall}");
        }
    }

    proptest! {
        #[test]
        fn as_jiff(first: u64, step in 0_u64..3 * SECOND) {
            let mut clock = Rfc3339::new();
            for wall in [first, first.saturating_add(step), first.saturating_sub(step)] {
                prop_assert_eq!(String::from_utf8_lossy(clock.text(wall)), reference(wall));
            }
        }
    }
}

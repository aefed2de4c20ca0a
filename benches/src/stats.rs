use std::fmt;

/// Median and quartiles of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` for an empty sample.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // Linear interpolation between the two nearest ranks.
        let at = |quarter: usize| {
            let (rank, rest) = (quarter * last / 4, (quarter * last % 4) as f64 / 4.0);
            values[rank] + (values[(rank + 1).min(last)] - values[rank]) * rest
        };
        Some(Self { low: at(1), median: at(2), high: at(3) })
    }
}

/// `spread` with so many digits behind the point and its unit; nothing for an empty sample.
pub(crate) fn show(spread: Option<Spread>, digits: usize, unit: &str) -> String {
    spread.map_or_else(String::new, |spread| format!("{spread:.digits$} {unit}").trim_end().to_owned())
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, median, high } = self;
        let digits = f.precision().unwrap_or(2);
        write!(f, "{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([7.0]), Some(Spread { low: 7.0, median: 7.0, high: 7.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Some(Spread { low: 1.75, median: 2.5, high: 3.25 }));
        assert_eq!(format!("{:.1}", Spread { low: 1.75, median: 2.5, high: 3.25 }), "2.5 (1.8–3.2)");
    }
}

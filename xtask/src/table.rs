//! The table at the end of a test run, and its last line.

use std::time::Duration;

use crate::libtest::Counts;

/// One line of the table: a tier, or a tier on one kernel.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    pub(crate) time: Duration,
    /// Why nothing was run, if so.
    pub(crate) skipped: Option<String>,
}

impl Row {
    /// A tier that could not run here.
    pub(crate) fn skipped(name: &str, why: impl std::fmt::Display) -> Self {
        let counts = Counts { skipped: 1, ..Counts::default() };
        Self { name: name.to_owned(), counts, time: Duration::ZERO, skipped: Some(why.to_string()) }
    }

    fn result(&self) -> &'static str {
        match (&self.skipped, self.counts.failed) {
            (Some(_), _) => "SKIPPED",
            (None, 0) => "passed",
            (None, _) => "FAILED",
        }
    }
}

/// The table; a tier's line is followed by why it was skipped.
pub(crate) fn render(rows: &[Row]) -> String {
    let head = ["tier", "result", "passed", "failed", "skipped", "time", "why skipped"].map(str::to_owned);
    let mut cells = vec![head];
    for row in rows {
        let Counts { passed, failed, skipped, .. } = row.counts;
        cells.push([
            row.name.clone(),
            row.result().to_owned(),
            passed.to_string(),
            failed.to_string(),
            skipped.to_string(),
            format!("{:.0} s", row.time.as_secs_f64()),
            row.skipped.as_deref().unwrap_or_default().split('\n').next().unwrap_or_default().to_owned(),
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &cells {
        let line = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            2..=5 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        text.push_str(line.collect::<Vec<_>>().join(" | ").trim_end());
        text.push('\n');
    }
    text
}

/// The sums over all rows, in the form that scripts read.
pub(crate) fn last_line(rows: &[Row]) -> String {
    let mut sum = Counts::default();
    for row in rows {
        sum += row.counts;
    }
    format!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Row, last_line, render};
    use crate::libtest::Counts;

    #[test]
    fn a_skipped_tier_is_seen_in_the_table_and_in_the_last_line() {
        let counts = Counts { passed: 12, failed: 1, ..Counts::default() };
        let rows = [
            Row { name: "everywhere".to_owned(), counts, time: Duration::from_secs(61), skipped: None },
            Row::skipped("live", "not root"),
        ];
        let expected = "\
tier       | result  | passed | failed | skipped | time | why skipped
everywhere | FAILED  |     12 |      1 |       0 | 61 s |
live       | SKIPPED |      0 |      0 |       1 |  0 s | not root
";
        assert_eq!(render(&rows), expected);
        assert_eq!(last_line(&rows), "12 passed, 1 failed, 1 skipped");
    }
}

//! What Rust's test harness says at the end of each test binary.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Ignored where they cannot run, by a harness that says that another tier runs them.
    pub(crate) elsewhere: u64,
}

/// What a harness prints for each test that it ignores because another tier runs it; the name and the reason follow.
const ELSEWHERE: &str = "KPROBE-ELSEWHERE ";

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.elsewhere += other.elsewhere;
    }
}

impl Counts {
    /// The sum over every `test result:` line of an output. An ignored test counts as skipped, unless it is known to run
    /// elsewhere.
    pub(crate) fn of(output: &str) -> Self {
        let mut sum = Self::default();
        let mut named = 0;
        for line in output.lines() {
            named += u64::from(line.trim_start().starts_with(ELSEWHERE));
            let Some((_, result)) = line.split_once("test result: ") else { continue };
            let ignored = before(result, " ignored");
            // Said before this harness ran; of no other one's tests.
            let elsewhere = std::mem::take(&mut named).min(ignored);
            sum += Self {
                passed: before(result, " passed"),
                failed: before(result, " failed"),
                skipped: ignored - elsewhere,
                elsewhere,
            };
        }
        sum
    }
}

/// The number that stands before `word`.
fn before(text: &str, word: &str) -> u64 {
    let head = text.split(word).next().unwrap_or_default();
    head.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn every_binary_counts_and_nothing_else_does() {
        let output = "running 4 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n\
            my test result was 9 passed\n\
            test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        assert_eq!(Counts::of(output), Counts { passed: 15, failed: 2, skipped: 1, elsewhere: 0 });
    }

    #[test]
    fn an_ignored_test_is_skipped_unless_it_is_known_to_run_elsewhere() {
        let output = "KPROBE-ELSEWHERE strace::git: there is no strace\n\
            test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(Counts::of(output), Counts { passed: 6, failed: 0, skipped: 2, elsewhere: 1 });
    }
}

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use kprobe_core::{
    abi::Family,
    pipeline::{BatchBuf, Polled, ProbeRow, Source, SourceError, StreamInfo},
};

use super::{PairCounts, PathCounts, Recorder, Stopped, SyscallCounts};

use crate::ring::Next;

/// After the probes are detached, how long a program that was interrupted may take to submit its record.
const LAST_RECORDS: Duration = Duration::from_millis(500);

impl<Probes> Source for Recorder<Probes> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        let failed = |error: io::Error| SourceError {
            source_name: "recorder".to_owned(),
            message: error.to_string(),
            cause: Some(Box::new(error)),
        };
        self.wait(longest).map_err(failed)?;
        let before = out.len();
        let drained = self.drain(out).map_err(failed)?;
        let mut end = false;
        if let Some(stopped) = &mut self.stopped {
            if out.len() > before {
                // However much there is and however long it takes the caller, it gets all of it.
                stopped.quiet_since = Instant::now();
            }
            end = drained.next == Next::Idle;
            if !end && stopped.quiet_since.elapsed() > LAST_RECORDS {
                (end, stopped.leaves_some) = (true, true);
            }
        }
        Ok(Polled::until(drained.complete_until_ns).ended(end))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        Self::probes(self)
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let SyscallCounts { unpaired_exits, fork_returns, unstored_enters } = self.syscall_counts();
        // Those without memory are among the counts of the families.
        let PathCounts { outside, too_deep, unstored: _ } = self.path_counts();
        let counts = [
            ("unpaired_exits", unpaired_exits),
            ("fork_returns", fork_returns),
            ("unstored_enters", unstored_enters),
            ("skipped_programs", self.skipped_programs()),
            ("path.outside", outside),
            ("path.too_deep", too_deep),
        ];
        let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count));
        let others = Family::ALL.iter().flat_map(|&family| {
            let PairCounts { unpaired, unstored, uncounted } = self.pair_counts(family);
            let name = family.name();
            // Those of system calls have names of their own.
            let is_paired = family != Family::Syscall;
            [
                (format!("{name}.unpaired"), if is_paired { unpaired } else { 0 }),
                (format!("{name}.unstored"), if is_paired { unstored } else { 0 }),
                (format!("{name}.uncounted"), uncounted),
            ]
        });
        counts.chain(others).filter(|(_, count)| *count > 0).collect()
    }

    fn uncounted(&self) -> u64 {
        Family::ALL.iter().map(|&family| self.pair_counts(family).uncounted).sum()
    }

    fn next_seq(&self, cpu: u16) -> Option<u64> {
        // What was left behind has its numbers, too.
        self.stopped.filter(|stopped| !stopped.leaves_some)?;
        let cpus = &self.builtin()?.cpus;
        (usize::from(cpu) < cpus.len()).then(|| cpus.next_seq(cpu.into()))
    }

    fn stop(&mut self) {
        if self.stopped.is_none() {
            let leaves_some = !self.detach_and_wait();
            self.stopped = Some(Stopped { quiet_since: Instant::now(), leaves_some });
            self.next = None;
        }
    }

    fn leaves_some(&self) -> bool {
        self.stopped.is_some_and(|stopped| stopped.leaves_some)
    }
}

impl<Probes> Recorder<Probes> {
    /// Waits as the last drain said, but for `longest` at most.
    pub(super) fn wait(&mut self, longest: Option<Duration>) -> io::Result<()> {
        let Some(next) = self.next.take() else { return Ok(()) };
        match (next, longest) {
            (Next::Idle, None) => self.reader.wait(Next::Idle).map(drop)?,
            (Next::Idle, Some(longest)) => self.reader.wait_at_most(Next::Idle, longest).map(drop)?,
            (Next::Again(nap), longest) => {
                let nap = longest.map_or(nap, |longest| nap.min(longest));
                self.reader.wait(Next::Again(nap)).map(drop)?;
            }
        }
        Ok(())
    }
}

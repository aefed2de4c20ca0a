use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Arch, BootId, ClockChange};

/// What a stream is from: enough to read it on another machine, years later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Host name.
    pub host: String,
    /// Boot of that host.
    pub boot: BootId,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture of the host.
    pub arch: Arch,
    /// Its clocks when recording began.
    pub clocks: Clocks,
    /// Number of CPUs the kernel may use.
    pub cpus: u16,
    /// What was attached and how, as the recorder reported it; `null` for a source that attaches nothing. Of several sources the
    /// array of theirs.
    pub report: Value,
    /// How many sources its records are from. Each numbers its own, so of several the numbers of a CPU say nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub sources: u16,
}

const fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_one(sources: &u16) -> bool {
    *sources == 1
}

impl StreamInfo {
    /// What the records of both together are from, if they are of one boot.
    pub(super) fn join(&mut self, other: &Self) {
        // What happened to the clocks since then is in its stream.
        if other.clocks.monotonic_ns < self.clocks.monotonic_ns {
            self.clocks = other.clocks;
        }
        self.cpus = self.cpus.max(other.cpus);
        let mut reports = self.reports();
        reports.extend(other.reports());
        self.report = Value::Array(reports);
        self.sources = self.sources.saturating_add(other.sources);
    }

    /// What each of the sources attached and how.
    #[must_use]
    pub fn reports(&self) -> Vec<Value> {
        match &self.report {
            Value::Array(reports) if self.sources > 1 => reports.clone(),
            report => vec![report.clone()],
        }
    }
}

/// The kernel's clocks, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC` in nanoseconds: the clock of every record.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds: the clock of process starts.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME`: nanoseconds since 1970-01-01T00:00:00Z.
    pub realtime_ns: u64,
    /// The three were read within so many nanoseconds.
    pub uncertainty_ns: u64,
}

impl Clocks {
    /// The wall-clock time of a record: nanoseconds since 1970-01-01T00:00:00Z, by the clocks as they stood then. Those of a
    /// stream's beginning hold until a [`ClockChange`] in the stream says otherwise.
    #[must_use]
    pub const fn wall_ns(&self, ktime_ns: u64) -> u64 {
        self.realtime_ns.wrapping_add(ktime_ns.wrapping_sub(self.monotonic_ns))
    }
}

impl From<&ClockChange> for Clocks {
    fn from(change: &ClockChange) -> Self {
        let ClockChange { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns, .. } = *change;
        Self { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns }
    }
}

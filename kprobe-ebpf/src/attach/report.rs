use std::fmt;

use serde::Serialize;

use crate::probe::TRACE_EVENT;

/// What was attached and how, and why not otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// One entry for each event of each probe.
    pub probes: Vec<ProbeReport>,
    /// How the context of a wake-up is found, if `sched.waking`, `lock.contention` or `wait.blocked` is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_context: Option<String>,
    /// What else a user should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Memory of all maps.
    pub memory: MemoryUse,
}

/// One event of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// Name of the event.
    pub probe: String,
    /// `attach` was to fail without it.
    pub required: bool,
    /// The rung that was taken; `None` if none could be.
    pub rung: Option<String>,
    /// Every rung of the ladder, best first.
    pub ladder: Vec<RungReport>,
}

/// One rung of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RungReport {
    /// Its name, for example `tp_btf`.
    pub rung: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// It is attached.
    Taken,
    /// A better one was taken.
    NotNeeded,
    /// It could not be attached, and why.
    Refused(String),
}

/// Kernel memory of the maps, in bytes. None of it depends on load; task storage grows with the number of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// All together, but for what is by thread.
    pub total_bytes: u64,
    /// The ring buffers.
    pub ring_bytes: u64,
    /// Each map, the largest first.
    pub maps: Vec<MapMemory>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    /// Its name.
    pub map: String,
    /// Most bytes it can ever take, but for what is by thread.
    pub bytes: u64,
    /// About what it takes for each thread that makes a recorded call, until the thread ends: task storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_thread_bytes: Option<u64>,
}

/// Why a rung was refused that the user does not want.
pub(crate) const FORBIDDEN: &str = "forbidden by the user";

/// On a kernel that skips programs at raw tracepoints: which events are taken there because trace events were refused,
/// what that means and what to do.
pub(crate) fn skipping(probes: &[ProbeReport]) -> Option<String> {
    let refusal = |rung: &RungReport| match &rung.outcome {
        Outcome::Refused(reason) if rung.rung == TRACE_EVENT && reason != FORBIDDEN => Some(reason.clone()),
        _ => None,
    };
    let taken = probes.iter().filter(|probe| probe.rung.is_some());
    let refused =
        taken.filter_map(|probe| Some((probe.probe.as_str(), probe.ladder.iter().find_map(refusal)?)));
    let (names, reasons): (Vec<_>, Vec<_>) = refused.unzip();
    let reason = reasons.first()?;
    Some(format!(
        "{} at raw tracepoints, where this kernel can skip programs while threads are preempted: events may be \
         missing, counted only in `skipped_programs`. Trace events were refused ({reason}): let this process read them, \
         as root by `mount -t tracefs -o remount,gid=GROUP,mode=0750 tracefs /sys/kernel/tracing` (without `remount,` \
         where it is not mounted) with the process in GROUP, and open them, by `sysctl kernel.perf_event_paranoid=2` \
         where it is higher",
        names.join(", ")
    ))
}

impl Report {
    /// Memory of all maps.
    #[must_use]
    pub const fn memory(&self) -> &MemoryUse {
        &self.memory
    }

    /// The events that are recorded.
    pub fn attached(&self) -> impl Iterator<Item = &ProbeReport> {
        self.probes.iter().filter(|probe| probe.rung.is_some())
    }
}

impl ProbeReport {
    /// Why it could not be attached, in one line.
    #[must_use]
    pub fn refusal(&self) -> String {
        let mut reasons: Vec<(String, &str)> = Vec::new();
        for rung in &self.ladder {
            let Outcome::Refused(reason) = &rung.outcome else { continue };
            match reasons.iter_mut().find(|(_, known)| known == reason) {
                Some((rungs, _)) => *rungs = format!("{rungs}, {}", rung.rung),
                None => reasons.push((rung.rung.clone(), reason)),
            }
        }
        let lines = reasons.into_iter().map(|(rungs, reason)| format!("{rungs}: {reason}"));
        lines.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Report {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}", self.kernel)?;
        writeln!(f, "{:<20} {:<12} why not another", "probe", "rung")?;
        for probe in &self.probes {
            let rung = probe.rung.as_deref().unwrap_or("off");
            let refusal = probe.refusal();
            writeln!(
                f,
                "{:<20} {rung:<12} {}",
                probe.probe,
                if refusal.is_empty() { "-" } else { &refusal }
            )?;
        }
        if let Some(context) = &self.wake_context {
            writeln!(f, "context of a wake-up: {context}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(f, "kernel memory {} KiB: ", self.memory.total_bytes.div_ceil(1024))?;
        for (index, map) in self.memory.maps.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match map.per_thread_bytes {
                None => write!(f, "{comma}{} {} KiB", map.map, map.bytes.div_ceil(1024))?,
                Some(bytes) => write!(f, "{comma}{} {bytes} bytes for each thread", map.map)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rungs of an event, with the reasons for refusals.
    fn probe(name: &str, ladder: &[(&str, Outcome)]) -> ProbeReport {
        let taken = ladder.iter().find(|(_, outcome)| *outcome == Outcome::Taken);
        let rung = |(rung, outcome): &(&str, Outcome)| RungReport {
            rung: (*rung).to_owned(),
            outcome: outcome.clone(),
        };
        ProbeReport {
            probe: name.to_owned(),
            required: false,
            rung: taken.map(|(rung, _)| (*rung).to_owned()),
            ladder: ladder.iter().map(rung).collect(),
        }
    }

    #[test]
    fn what_may_be_skipped_is_said() {
        let unreadable = Outcome::Refused("permission denied".to_owned());
        let forbidden = Outcome::Refused(FORBIDDEN.to_owned());
        let raw =
            |name, why: &Outcome| probe(name, &[("tracepoint", why.clone()), ("tp_btf", Outcome::Taken)]);
        let note = skipping(&[
            raw("syscall", &unreadable),
            probe("sched.switch", &[("tp_btf", Outcome::Taken)]),
            raw("process.exit", &unreadable),
        ]);
        let note = note.unwrap_or_default();
        assert!(
            note.starts_with("syscall, process.exit at raw tracepoints, where this kernel can skip"),
            "{note}"
        );
        assert!(
            note.contains("(permission denied)") && note.contains("-o remount,gid=GROUP,mode=0750"),
            "{note}"
        );
        // By choice, on a better rung, or not at all.
        let taken = probe("syscall", &[("tracepoint", Outcome::Taken), ("tp_btf", Outcome::NotNeeded)]);
        let off = probe("syscall", &[("tracepoint", unreadable.clone()), ("tp_btf", unreadable)]);
        assert_eq!(skipping(&[raw("syscall", &forbidden), taken, off]), None);
    }
}

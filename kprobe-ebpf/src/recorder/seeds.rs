use std::{fs, path::Path};

use kprobe_core::{
    abi::{Kind, ThreadSeed, select},
    event::{Comm, Tgid},
    process::parse_proc_stat,
};

use super::own::Own;
use crate::filter::{Cgroup, Selection};

/// Threads that one recording is seeded with.
const MOST_SEEDS: usize = 131_072;

/// Which processes a recording is seeded with: those whose end will be recorded. Of others the stream would not tell when
/// they end, so their names would go stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seed {
    /// All there are.
    All,
    /// These.
    Tgids(Vec<u32>),
}

impl Seed {
    pub(crate) fn of(selection: &Selection) -> Self {
        if !selection.ids_are_the_kernels {
            // What `/proc` calls 7 is somebody else in the records.
            return Self::Tgids(Vec::new());
        }
        if selection.select & select::ALL != 0 {
            return Self::All;
        }
        let of_threads = selection.tids.iter().filter_map(|tid| process_of(tid.0)).map(Tgid);
        let tgids: Vec<Tgid> = selection.tgids.iter().copied().chain(of_threads).collect();
        Self::of_added(&tgids, &selection.cgroups)
    }

    /// These processes, and those in these cgroups.
    pub(crate) fn of_added(tgids: &[Tgid], cgroups: &[Cgroup]) -> Self {
        let mut tgids: Vec<u32> = tgids.iter().map(|tgid| tgid.0).collect();
        cgroups.iter().for_each(|cgroup| members(&cgroup.path, &mut tgids));
        tgids.sort_unstable();
        tgids.dedup();
        Self::Tgids(tgids)
    }
}

/// The process that a thread is in.
fn process_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The processes in a cgroup and in all below it.
fn members(cgroup: &Path, tgids: &mut Vec<u32>) {
    let mut todo = vec![cgroup.to_owned()];
    while let Some(directory) = todo.pop() {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        tgids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        if tgids.len() > MOST_SEEDS {
            return;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        todo.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}

/// Looks up in `/proc` which threads there are. What ends while it is looked at is left out: it had its end before
/// recording began.
pub(crate) fn threads(which: &Seed, now_ns: u64) -> Vec<Own<ThreadSeed>> {
    let tgids = match which {
        Seed::Tgids(tgids) => tgids.clone(),
        Seed::All => numbers_in("/proc"),
    };
    let mut seeds = Vec::new();
    for tgid in tgids {
        let Some(process) = read_stat(&format!("/proc/{tgid}/stat")) else { continue };
        for tid in numbers_in(&format!("/proc/{tgid}/task")) {
            let Some(thread) = read_stat(&format!("/proc/{tgid}/task/{tid}/stat")) else { continue };
            if seeds.len() == MOST_SEEDS {
                return seeds;
            }
            seeds.push(Own {
                kind: Kind::META_THREAD,
                ktime_ns: now_ns,
                cgroup_id: 0,
                tgid,
                tid,
                body: ThreadSeed {
                    start_ns: process.start_ns,
                    parent_tgid: process.parent,
                    flags: 0,
                    comm: thread.comm.to_field(),
                },
            });
        }
    }
    seeds
}

struct Stat {
    comm: Comm,
    parent: u32,
    start_ns: u64,
}

fn read_stat(path: &str) -> Option<Stat> {
    let stat = parse_proc_stat(&fs::read(path).ok()?).ok()?;
    Some(Stat { comm: stat.comm, parent: stat.ppid.0, start_ns: stat.start_ns() })
}

fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_another_pid_namespace_are_no_seeds() {
        let own = kprobe_core::event::Tgid(std::process::id());
        let mut selection = Selection {
            select: select::TGIDS,
            tgids: vec![own],
            tids: Vec::new(),
            cgroups: Vec::new(),
            include_self: true,
            ids_are_the_kernels: true,
        };
        assert_eq!(Seed::of(&selection), Seed::Tgids(vec![own.0]));
        selection.ids_are_the_kernels = false;
        assert_eq!(Seed::of(&selection), Seed::Tgids(Vec::new()));
        selection.select = select::ALL;
        assert_eq!(Seed::of(&selection), Seed::Tgids(Vec::new()));
    }
}

//! What the kernel has of a process: its BPF objects, its tasks' states.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

/// The end of a wait that should never be long.
pub struct Deadline(Instant);

impl Deadline {
    pub fn new() -> Self {
        Self(Instant::now() + Duration::from_secs(60))
    }

    pub fn check(&self, what: &str) {
        assert!(Instant::now() < self.0, "no end of waiting for {what}");
    }

    /// Asks again and again until the answer is yes.
    pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Self::new();
        while !done() {
            deadline.check(what);
            std::thread::yield_now();
        }
    }
}

/// Whether a process sleeps in a function of the kernel with such a name or, where the kernel does not find out the name (on
/// x86-64 before 5.16), in one of these system calls.
pub fn sleeps_in(tgid: u32, functions: &[&str], calls: &[i64]) -> bool {
    let text = |file: &str| fs::read_to_string(format!("/proc/{tgid}/{file}")).unwrap_or_default();
    let function = text("wchan");
    if function != "0" {
        return functions.iter().any(|name| function.contains(name));
    }
    // `running`, or the number of the call and its arguments.
    let call = text("syscall");
    let nr = call.split(' ').next().and_then(|nr| nr.parse().ok());
    nr.is_some_and(|nr| calls.contains(&nr))
}

/// BPF objects by their ids in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BpfObjects {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
}

impl BpfObjects {
    /// Those that a process has open, from the information about its descriptors.
    pub fn of_process(pid: u32) -> Self {
        let mut objects = Self::default();
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
        for entry in entries {
            // A descriptor may be closed meanwhile.
            let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
            let id = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim().parse::<u32>().ok()
            };
            let link = id("link_id:");
            objects.links.extend(link);
            // A link also names its program.
            objects.programs.extend(id("prog_id:").filter(|_| link.is_none()));
            objects.maps.extend(id("map_id:"));
        }
        objects
    }

    pub fn own() -> Self {
        Self::of_process(std::process::id())
    }

    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }

    /// Those of them that are still in the kernel.
    pub fn alive(&self) -> Self {
        let programs = loaded_programs().filter_map(Result::ok).map(|program| program.id());
        let maps = loaded_maps().filter_map(Result::ok).map(|map| map.id());
        let links = loaded_links().filter_map(Result::ok).map(|link| link.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }

    /// The kernel frees them a moment after the last descriptor is closed.
    pub fn wait_until_gone(&self) {
        assert!(!self.is_empty(), "nothing that could be gone");
        Deadline::wait_for("BPF objects to be freed", || self.alive().is_empty());
    }

    /// Names of the programs.
    pub fn program_names(&self) -> BTreeSet<String> {
        let programs = loaded_programs().filter_map(Result::ok);
        let own = programs.filter(|program| self.programs.contains(&program.id()));
        own.map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Waits until a thread sleeps, as it does in the last call that it made.
pub fn wait_until_asleep(tid: u32) {
    Deadline::wait_for("a thread to sleep", || {
        let stat = fs::read_to_string(format!("/proc/{tid}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    });
}

/// Waits until a thread sleeps in a call.
pub fn wait_until_in(tid: u32, nr: i64) {
    Deadline::wait_for("a thread in a call", || {
        wait_until_asleep(tid);
        let call = fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap();
        call.split(' ').next().is_some_and(|number| number.parse() == Ok(nr))
    });
}

/// Voluntary and involuntary context switches of a thread, until now.
pub fn context_switches(tid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse().unwrap()
    };
    (number("voluntary_ctxt_switches:"), number("nonvoluntary_ctxt_switches:"))
}

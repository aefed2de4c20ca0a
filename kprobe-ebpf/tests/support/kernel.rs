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

/// The call in which a thread has given up its CPU, as `number argument ...`, if it is in the state of this letter.
fn call_in_state(tid: u32, state: char) -> Option<String> {
    let text = |file: &str| {
        fs::read_to_string(format!("/proc/{tid}/{file}"))
            .unwrap_or_else(|error| panic!("thread {tid}: {error}"))
    };
    // `running` if it has a CPU or could have one.
    let call = text("syscall");
    let stat = text("stat");
    let is_in_state = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state));
    (is_in_state && call.starts_with(|first: char| first.is_ascii_digit()) && text("syscall") == call)
        .then_some(call)
}

/// Waits until a thread has given up its CPU in one of these calls, in the state of this letter: whoever wakes it then ends that.
pub fn wait_until_in_state(tid: u32, calls: &[i64], state: char) {
    Deadline::wait_for(&format!("thread {tid} to be in one of the calls {calls:?} in state {state}"), || {
        let call = call_in_state(tid, state);
        let nr = call.and_then(|call| call.split(' ').next()?.parse().ok());
        nr.is_some_and(|nr| calls.contains(&nr))
    });
}

/// Waits until a thread sleeps in a call.
pub fn wait_until_in(tid: u32, nr: i64) {
    wait_until_in_state(tid, &[nr], 'S');
}

/// Voluntary and involuntary context switches of a thread that reads its standard input, and has not run since they were counted.
pub fn context_switches_of_reader(tid: u32) -> Option<(u64, u64)> {
    let counted = context_switches(tid);
    let call = call_in_state(tid, 'S')?;
    (call.starts_with(&format!("{} 0x0 ", libc::SYS_read)) && context_switches(tid) == counted)
        .then_some(counted)
}

/// Voluntary and involuntary context switches of a thread, until now.
pub fn context_switches(tid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse().unwrap()
    };
    (number("voluntary_ctxt_switches:"), number("nonvoluntary_ctxt_switches:"))
}

//! `--pid`, `--cgroup`, `--system`: whose events they are.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    gate::Gate,
    in_vm,
    support::{Running, agent, agent_path, events, wait_until},
};

crate::trials!(a_process, two_agents, a_duration, a_cgroup, the_agent_itself, the_whole_system);

fn number(event: &Value, name: &str) -> u64 {
    event[name].as_u64().unwrap_or_else(|| panic!("no {name}: {event}"))
}

fn tgids(events: &[Value]) -> BTreeSet<u64> {
    events.iter().map(|event| number(event, "tgid")).collect()
}

/// Lets the recording end, and gives its events.
fn stopped(running: Running) -> Vec<Value> {
    running.signal(Signal::INT);
    events::lossless(&running.finish().exits(0).silent().stdout)
}

fn recording(args: &[&str]) -> Running {
    Running::start(&mut agent(args)).wait_until_running()
}

/// Everything but its times, and what is numbered by each recorder for itself.
fn what(event: &Value) -> Vec<(String, Value)> {
    let own = ["ktime_ns", "time", "seq", "enter_ktime_ns", "duration_ns"];
    let fields = event.as_object().unwrap().iter();
    fields
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn a_process() {
    let mut gate = Gate::closed("(exit 4); exit 9");
    let mut other = Gate::closed("exit 0");
    let running = recording(&["--pid", &gate.tgid().to_string()]);
    assert_eq!(gate.open().code(), Some(9));
    assert!(other.open().success());
    let events = stopped(running);
    let forks: Vec<_> = events::of_kind(&events, "process.fork").collect();
    let [fork] = forks[..] else { panic!("{forks:?}") };
    let (parent, child) = (u64::from(gate.tgid()), number(fork, "child_tgid"));
    assert_eq!(tgids(&events), BTreeSet::from([parent, child]));
    assert!(events.iter().all(|event| event["comm"] == "sh"));
    let exits: Vec<_> = events::of_kind(&events, "process.exit")
        .map(|exit| (number(exit, "tgid"), number(exit, "parent_tgid"), number(exit, "code")))
        .collect();
    assert_eq!(exits, [(child, parent, 4), (parent, u64::from(std::process::id()), 9)]);
    let calls: Vec<_> =
        events::of_kind(&events, "syscall").map(|call| call["name"].as_str().unwrap()).collect();
    assert!(calls.contains(&"wait4") && calls.contains(&"exit_group"), "{calls:?}");
    // The shell reads its gate byte by byte: `go` and the newline. The call in which it waited was entered before: there
    // is no record for a return without its entry. That of busybox waits in a poll, before the first read.
    let reads = if in_vm() { 3 } else { 2 };
    assert_eq!(calls.iter().filter(|name| **name == "read").count(), reads);
}

fn two_agents() {
    let mut both = Gate::closed("(exit 1); (exit 2); exit 0");
    let mut one = Gate::closed("(exit 3); exit 0");
    let (first, second) = (both.tgid().to_string(), one.tgid().to_string());
    let narrow = recording(&["--pid", &first]);
    let wide = recording(&["--pid", &format!("{second},{first}")]);
    assert!(both.open().success() && one.open().success());
    let (narrow, wide) = (stopped(narrow), stopped(wide));
    assert_eq!((tgids(&narrow).len(), tgids(&wide).len()), (3, 5));
    for tgid in tgids(&narrow) {
        let of = |events: &[Value]| -> Vec<_> {
            events.iter().filter(|event| event["tgid"] == tgid).map(what).collect()
        };
        assert_eq!(of(&narrow), of(&wide));
    }
}

fn a_duration() {
    let gate = Gate::closed("exit 0");
    let mut command = agent(["--duration", "30ms", "--pid", &gate.tgid().to_string()]);
    let output = Running::start(&mut command).finish().exits(0).silent();
    events::lossless(&output.stdout);
}

/// A cgroup of the test's own, removed at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Self {
        let mount = kprobe_ebpf::host::cgroup2_mount().unwrap().path;
        let path = mount.join(format!("kprobe-agent-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn add(&self, tgid: u32) {
        fs::write(self.procs(), tgid.to_string()).unwrap();
    }

    fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_until("a cgroup to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}

fn a_cgroup() {
    let cgroup = Cgroup::make("target");
    let mut inside = Gate::closed("(exit 4); exit 9");
    let mut outside = Gate::closed("exit 0");
    cgroup.add(inside.tgid());
    let running = recording(&["--cgroup", cgroup.path().to_str().unwrap()]);
    assert_eq!(inside.open().code(), Some(9));
    assert!(outside.open().success());
    let events = stopped(running);
    let id = fs::metadata(cgroup.path()).unwrap().ino();
    assert!(events.iter().all(|event| event["cgroup_id"] == id));
    let codes: Vec<_> = events::of_kind(&events, "process.exit").map(|exit| number(exit, "code")).collect();
    assert_eq!(codes, [4, 9]);
    assert_eq!(tgids(&events).len(), 2);
}

/// It is in the cgroup that it records: only then, and only if asked to, it is among the recorded.
fn the_agent_itself() {
    for (asked, flag) in [(false, &[][..]), (true, &["--include-self"])] {
        let cgroup = Cgroup::make("itself");
        let mut gate = Gate::closed("exit 0");
        cgroup.add(gate.tgid());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(cgroup.procs()).arg(agent_path());
        let duration = if in_vm() { "5s" } else { "300ms" };
        command.args(["--duration", duration, "--output", "json", "--cgroup"]).arg(cgroup.path()).args(flag);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let running = Running::start(&mut command).wait_until_running();
        let own = u64::from(running.pid());
        assert!(gate.open().success());
        let output = running.finish().exits(0).silent();
        let (events, _) = events::stream(&output.stdout);
        let seen = tgids(&events);
        assert!(seen.contains(&u64::from(gate.tgid())));
        assert_eq!(seen.contains(&own), asked);
        // Nobody else is in there.
        assert_eq!(seen.len(), 1 + usize::from(asked), "{seen:?}");
    }
}

/// In a machine of the tests' own.
fn the_whole_system() {
    let mut gate = Gate::closed("exit 9");
    let running = recording(&["--system"]);
    let own = u64::from(running.pid());
    assert_eq!(gate.open().code(), Some(9));
    let events = stopped(running);
    let seen = tgids(&events);
    assert!(seen.contains(&u64::from(gate.tgid())) && seen.contains(&u64::from(std::process::id())));
    assert!(!seen.contains(&own));
}

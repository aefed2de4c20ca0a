//! The configuration file changes while a recording goes on, and SIGHUP says so.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    gate::Gate,
    support::{Running, agent, events, open_folder, wait_until_signals_arrived},
};

crate::trials!(processes_and_thresholds, what_cannot_change, a_file_that_is_bad, a_hangup_that_is_ignored);

/// An agent with a file to read again.
struct Configured {
    folder: tempfile::TempDir,
    running: Running,
}

impl Configured {
    fn start(text: &str) -> Self {
        let folder = open_folder();
        fs::write(folder.path().join("agent.toml"), text).unwrap();
        let mut command = agent(["--config", "agent.toml", "--stats=json", "--when-full", "block"]);
        let running = Running::start(command.current_dir(folder.path())).wait_until_running();
        Self { folder, running }
    }

    /// What is said once it is read.
    fn reload(&mut self, text: &str, until: &str) -> String {
        fs::write(self.folder.path().join("agent.toml"), text).unwrap();
        let before = self.running.errors().len();
        self.running.signal(Signal::HUP);
        self.running.wait_for_error(until);
        self.running.errors()[before..].to_owned()
    }

    /// Its events, nothing of which was lost.
    fn end(self) -> Vec<Value> {
        self.running.signal(Signal::TERM);
        let output = self.running.finish().exits(0);
        let ledger: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(ledger["balance"], 0, "{ledger}");
        events::lossless(&output.stdout)
    }
}

/// Events of this kind in this process, but for calls that never return, which have no duration.
fn count(events: &[Value], kind: &str, gate: u32) -> usize {
    let is_of = |event: &&Value| event["tgid"] == gate && event["name"] != "exit_group";
    events::of_kind(events, kind).filter(is_of).count()
}

fn processes_and_thresholds() {
    let mut gates: Vec<_> = (0..4).map(|_| Gate::closed("exit 0")).collect();
    let tgids: Vec<_> = gates.iter().map(Gate::tgid).collect();
    let mut agent = Configured::start(&format!("pid = [{}]\n", tgids[0]));
    assert!(gates[0].open().success() && gates[1].open().success());
    // The first has ended by now, and is still named.
    let said = agent.reload(&format!("pid = [{}, {}]\n", tgids[0], tgids[2]), "also processes");
    assert_eq!(said, format!("kprobe-agent: configuration: also processes {}\n", tgids[2]));
    assert!(gates[2].open().success());
    let text = format!("pid = [{}]\nmin-duration = \"1h\"\n", tgids[3]);
    let said = agent.reload(&text, "no longer processes");
    let lines: Vec<_> =
        said.lines().map(|line| line.trim_start_matches("kprobe-agent: configuration: ")).collect();
    assert_eq!(
        lines,
        [
            "syscall: every record of what takes 3600s or longer".to_owned(),
            format!("also processes {}", tgids[3]),
            format!("no longer processes {}, {}", tgids[0], tgids[2]),
        ]
    );
    assert!(gates[3].open().success());
    let events = agent.end();
    let seen = |kind| tgids.iter().map(|tgid| count(&events, kind, *tgid) > 0).collect::<Vec<_>>();
    assert_eq!(seen("process.exit"), [true, false, true, true]);
    assert_eq!(seen("syscall"), [true, false, true, false]);
}

fn what_cannot_change() {
    let mut gate = Gate::closed("exit 0");
    let pid = format!("pid = [{}]\n", gate.tgid());
    let mut agent = Configured::start(&pid);
    let more =
        "ring-bytes = \"1MiB\"\nqueue-bytes = \"1MiB\"\nmetrics = \"127.0.0.1:0\"\nprobes = [\"sched\"]\n";
    let said = agent.reload(&format!("{pid}{more}"), "queue-bytes");
    for what in ["which probes there are", "the size of the rings", "metrics", "queue-bytes"] {
        let line = format!("configuration: {what} cannot change while recording: restart for that\n");
        assert!(said.contains(&line), "{line}{said}");
    }
    // As often as it is asked for; and it is as it was.
    agent.reload(&format!("{pid}{more}"), "queue-bytes");
    agent.reload(&pid, "configuration: nothing has changed");
    assert!(gate.open().success());
    let events = agent.end();
    assert_eq!(count(&events, "process.exit", gate.tgid()), 1);
}

fn a_file_that_is_bad() {
    let mut gate = Gate::closed("exit 0");
    let pid = format!("pid = [{}]\n", gate.tgid());
    let mut agent = Configured::start(&pid);
    let said = agent.reload("pid = [0]\n", "as it was");
    assert_eq!(
        said,
        "kprobe-agent: the configuration is as it was: --pid 0: no process has this id, expected 1 or more\n"
    );
    let said = agent.reload("pidd = [7]\n", "as it was");
    assert!(said.contains("agent.toml, line 1: unknown field `pidd`; did you mean `pid`?"), "{said}");
    let nobody = format!("pid = [{}, 4194303]\n", gate.tgid());
    let said = agent.reload(&nobody, "as it was");
    assert!(said.contains("4194303"), "{said}");
    // Nobody writes into it, and nobody waits for that.
    let file = agent.folder.path().join("agent.toml");
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    agent.running.signal(Signal::HUP);
    agent.running.wait_for_error("agent.toml is no file that can be read again: a pipe or a device");
    assert!(gate.open().success());
    let events = agent.end();
    assert_eq!(count(&events, "process.exit", gate.tgid()), 1);
}

/// As `nohup` has it: nothing to read again, and nobody's end.
fn a_hangup_that_is_ignored() {
    let mut gate = Gate::closed("exit 0");
    let command = agent(["--pid", &gate.tgid().to_string()]);
    let program = command.get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program).args(command.get_args());
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let running = Running::start(shell.stderr(std::process::Stdio::piped())).wait_until_running();
    running.signal(Signal::HUP);
    wait_until_signals_arrived(running.pid());
    assert!(gate.open().success());
    running.signal(Signal::TERM);
    let output = running.finish().exits(0);
    let events = events::lossless(&output.stdout);
    assert_eq!(count(&events, "process.exit", gate.tgid()), 1);
}

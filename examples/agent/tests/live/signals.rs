//! SIGINT and SIGTERM end a recording cleanly, with its books; a command gets to see them.

use std::{fs, os::unix::process::CommandExt};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    gate::Gate,
    support::{Output, Running, agent, agent_path, events, open_folder, run},
};

crate::trials!(
    while_a_process_is_recorded,
    an_interrupt_from_the_terminal,
    a_command_that_ends_at_sigterm,
    a_command_that_minds_sigterm,
    sigterm_when_the_recording_is_over,
    from_before_the_first_program_on,
);

/// The ledger is the only line on standard error, and balances.
fn settled(output: &Output) {
    let ledger: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(output.stderr.lines().count(), 1);
    assert_eq!(ledger["balance"], 0, "{ledger}");
}

fn while_a_process_is_recorded() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut gate = Gate::closed("exit 0");
        let mut command = agent(["--stats=json", "--pid", &gate.tgid().to_string()]);
        let running = Running::start(&mut command).wait_until_running();
        running.signal(signal);
        let output = running.finish().exits(0);
        settled(&output);
        events::lossless(&output.stdout);
        assert!(gate.is_waiting(), "the recorded process got the signal as well");
        assert!(gate.open().success());
    }
}

/// A command that says when it is there, in a process group that the agent leads, which records it to a file.
fn started(folder: &std::path::Path, script: &str) -> Running {
    let mut command = agent(["--stats=json", "-o", "events.json", "--", "sh", "-c", script]);
    command.current_dir(folder).process_group(0);
    let mut running = Running::start(&mut command);
    running.wait_for("ready");
    running
}

fn an_interrupt_from_the_terminal() {
    let folder = open_folder();
    let running = started(folder.path(), "echo ready; exec sleep 1000");
    running.signal_group(Signal::INT);
    let output = running.finish().exits(130);
    settled(&output);
    events::lossless(&fs::read_to_string(folder.path().join("events.json")).unwrap());
}

fn a_command_that_ends_at_sigterm() {
    let folder = open_folder();
    let running = started(folder.path(), "echo ready; exec sleep 1000");
    running.signal(Signal::TERM);
    let output = running.finish().exits(143);
    settled(&output);
    events::lossless(&fs::read_to_string(folder.path().join("events.json")).unwrap());
}

const MINDS: &str = "trap 'kill $!; echo asked; exit 7' TERM; sleep 1000 & echo ready; wait";

fn a_command_that_minds_sigterm() {
    let folder = open_folder();
    let running = started(folder.path(), MINDS);
    running.signal(Signal::TERM);
    let output = running.finish().exits(7);
    assert_eq!(output.stdout, "ready\nasked\n");
    settled(&output);
}

/// The agent only waits for the command then.
fn sigterm_when_the_recording_is_over() {
    let mut command = agent(["--duration", "1ms", "--", "sh", "-c", MINDS]);
    let mut running = Running::start(&mut command);
    running.wait_for("ready");
    running.wait_until_recorded();
    running.signal(Signal::TERM);
    let output = running.finish().exits(7);
    assert_eq!(output.stdout, "ready\nasked\n");
    events::lossless(&output.stderr);
}

/// Attaching takes a while, in which a signal must not end it in disorder: the handlers are there before.
fn from_before_the_first_program_on() {
    let folder = open_folder();
    let trace = folder.path().join("trace");
    let mut strace = std::process::Command::new("strace");
    strace.args(["-e", "trace=rt_sigaction,bpf", "-o"]).arg(&trace).arg(agent_path());
    run(strace.args(["--output", "none", "--", "true"]).stdin(std::process::Stdio::null())).exits(0);
    let trace = fs::read_to_string(trace).unwrap();
    let first_program = trace.find("bpf(BPF_PROG_LOAD").unwrap();
    for signal in ["SIGINT", "SIGTERM"] {
        let handler = trace.find(&format!("rt_sigaction({signal}, {{sa_handler=0x"));
        assert!(handler.is_some_and(|handler| handler < first_program), "{signal}");
    }
}

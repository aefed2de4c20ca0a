//! The calls of real programs, beside what strace says of the same processes at the same time.
//!
//! The agent records strace as its command, so it sees the program that strace runs, too. For each thread the calls must be
//! the same, in the same order, with the same results. There are no tolerances: what differs for a reason is in
//! [`DIFFERENCES`], is taken out one by one, and is counted.

mod programs;
mod trace;

use std::{collections::BTreeMap, fs};

use kprobe_ebpf::host::command::resolve;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::{agent, events, open_folder, run};
use programs::{PROGRAMS, Program, serve};
use trace::{Call, Outcome};

/// What may differ, and why.
const DIFFERENCES: [(&str, &str); 2] = [
    (
        "before the exec",
        "the thread that becomes the program is strace's own until then: strace hides what it does, the agent does not",
    ),
    (
        "killed in a call",
        "strace does not know how a call ended in which its thread was killed. Where it was interrupted the agent has the \
         kernel's own code for it, and what it returned where the kill came between its end and the moment that strace is \
         told of it; where it could not end, or was stopped by strace before it began, there is no record",
    ),
];

pub fn trials() -> Vec<Trial> {
    PROGRAMS.iter().map(of_program).collect()
}

/// A test, or if a program is missing one that is counted as skipped.
#[expect(clippy::print_stderr, reason = "what is skipped must be seen")]
fn of_program(program: &'static Program) -> Trial {
    let needs = ["strace"].iter().chain(program.needs);
    let missing: Vec<_> = needs.filter(|name| resolve(name).is_err()).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED strace::{}: without {missing:?} there is nothing to compare with", program.name);
    }
    let name = format!("strace::{}", program.name);
    let trial = Trial::test(name, || {
        compare(program);
        Ok(())
    });
    trial.with_ignored_flag(!missing.is_empty())
}

/// What the agent and strace say of a program.
fn compare(program: &Program) {
    let folder = open_folder();
    let mut command = agent(["--ring-bytes", "64MiB", "-o", "events.json", "--"]);
    command.args(["strace", "-f", "-o", "trace", "-e", "raw=all", "sh", "-c", program.script]);
    command.current_dir(folder.path()).env("HOME", folder.path()).env("PORT", serve().to_string());
    run(&mut command);
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    let events = events::lossless(&read("events.json"));
    let (root, strace) = trace::parse(&read("trace"));
    let mut agent = calls_of_descendants(&events, root);
    let mut taken_out = BTreeMap::new();
    without_those_before_the_exec(agent.get_mut(&root).unwrap(), &mut taken_out);

    let threads = |calls: &BTreeMap<u64, Vec<Call>>| calls.keys().copied().collect::<Vec<_>>();
    assert_eq!(threads(&strace), threads(&agent));
    let mut counts = BTreeMap::<String, usize>::new();
    for (tid, mut strace) in strace {
        let mut agent = agent.remove(&tid).unwrap();
        without_the_call_of_a_kill(&mut strace, &mut agent, &mut taken_out);
        for (at, (strace, agent)) in strace.iter().zip(&agent).enumerate() {
            assert_eq!(strace, agent, "call {at} of thread {tid}: strace, then the agent");
        }
        assert_eq!(
            strace.len(),
            agent.len(),
            "calls of thread {tid}: {:?} {:?}",
            strace.last(),
            agent.last()
        );
        strace.into_iter().for_each(|call| *counts.entry(call.name).or_default() += 1);
    }
    for name in program.makes {
        assert!(counts.contains_key(*name), "{name} was not called: {counts:?}");
    }
    show(program, &counts, &taken_out);
}

#[expect(clippy::print_stdout, reason = "the numbers are worth a look")]
fn show(program: &Program, counts: &BTreeMap<String, usize>, taken_out: &BTreeMap<&str, usize>) {
    println!("{}: {} calls are the same: {counts:?}", program.name, counts.values().sum::<usize>());
    for (difference, count) in taken_out {
        let (_, why) = DIFFERENCES.iter().find(|(name, _)| name == difference).unwrap();
        println!("  taken out: {count} {difference}: {why}");
    }
}

/// The calls of `root` and of all threads that it and they created.
fn calls_of_descendants(events: &[Value], root: u64) -> BTreeMap<u64, Vec<Call>> {
    let number = |event: &Value, name: &str| event[name].as_u64().unwrap();
    let mut calls = BTreeMap::from([(root, Vec::new())]);
    // In the order of time a thread is created before it does anything.
    for event in events {
        let tid = number(event, "tid");
        if event["kind"] == "process.fork" && calls.contains_key(&tid) {
            calls.insert(number(event, "child_tid"), Vec::new());
        } else if event["kind"] == "syscall"
            && let Some(of_thread) = calls.get_mut(&tid)
        {
            of_thread.push(Call::of(event));
        }
    }
    calls
}

fn without_those_before_the_exec(calls: &mut Vec<Call>, taken_out: &mut BTreeMap<&str, usize>) {
    let exec = calls.iter().position(|call| call.name == "execve").unwrap();
    calls.drain(..exec);
    *taken_out.entry(DIFFERENCES[0].0).or_default() += exec;
}

/// Takes out the last call of a thread if strace does not know how it ended.
fn without_the_call_of_a_kill(
    strace: &mut Vec<Call>,
    agent: &mut Vec<Call>,
    taken_out: &mut BTreeMap<&str, usize>,
) {
    let Some(last) = strace.pop_if(|call| call.outcome == Outcome::None && !call.ends_its_thread()) else {
        return;
    };
    let is_there = agent.len() > strace.len();
    if is_there {
        let recorded = agent.pop().unwrap();
        assert!(
            recorded.name == last.name && recorded.was_interrupted_or_killed_late(),
            "{last:?} {recorded:?}"
        );
    }
    *taken_out.entry(DIFFERENCES[1].0).or_default() += 1;
}

//! What is played: the shipped capture, as JSON and for people, by anybody.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{DEMO, Output, agent, events, is_root, open_folder, run, unprivileged};

fn with_demo(test: impl FnOnce(&Path)) {
    let folder = open_folder();
    fs::write(folder.path().join("demo.kcap"), DEMO).unwrap();
    test(folder.path());
}

fn play(folder: &Path, args: &[&str]) -> Output {
    run(unprivileged(folder, ["--from", "demo.kcap"]).args(args)).exits(0)
}

#[test]
fn json() {
    with_demo(|folder| {
        let first = play(folder, &["--output", "json"]).silent().stdout;
        let events = events::lossless(&first);
        assert!(events.len() > 100);
        // The command's status is in its process's exit.
        let exits = events::of_kind(&events, "process.exit").filter(|exit| exit["process_ended"] == true);
        assert_eq!(exits.last().unwrap()["code"], 3);
        // Times do not go back: a capture is in order.
        let times: Vec<_> = events.iter().map(|event| event["ktime_ns"].as_u64().unwrap()).collect();
        assert!(times.is_sorted());
        // No terminal, so JSON is what is had without asking; and the same bytes each time.
        assert!(play(folder, &[]).silent().stdout == first);
        assert!(run(agent(["--from", "demo.kcap"]).current_dir(folder)).exits(0).silent().stdout == first);
        play(folder, &["-o", "events.json"]).silent();
        assert!(fs::read_to_string(folder.join("events.json")).unwrap() == first);
    });
}

#[test]
fn for_people() {
    with_demo(|folder| {
        let events = events::lossless(&play(folder, &[]).stdout);
        let first = play(folder, &["--output", "human"]).silent().stdout;
        assert!(play(folder, &["--output", "human"]).stdout == first);
        // A line for each event, and no colour where there is no terminal.
        assert!(first.lines().count() >= events.len() && !first.contains('\x1b'), "{first}");
        assert!(first.contains("execve()") && first.contains("ENOENT"), "{first}");
    });
}

#[test]
fn the_books() {
    with_demo(|folder| {
        let output = play(folder, &["--stats=json"]);
        let ledger: Value = serde_json::from_str(&output.stderr).unwrap();
        assert_eq!(output.stderr.lines().count(), 1);
        assert_eq!(ledger["balance"], 0);
        let events = events::lossless(&output.stdout);
        let sink = &ledger["sinks"][0];
        assert_eq!((&sink["sink"], &sink["delivered"]), (&"json".into(), &events.len().into()));
        let human = play(folder, &["--stats", "--output", "none"]);
        assert!(human.stdout.is_empty() && human.stderr.contains("balance"), "{}", human.stderr);
    });
}

/// A capture of a capture has the same in it.
#[test]
fn captured_again() {
    with_demo(|folder| {
        let first = play(folder, &["--capture", "again.kcap"]).silent().stdout;
        let again = run(agent(["--from", "again.kcap"]).current_dir(folder)).exits(0).silent().stdout;
        assert!(again == first);
    });
}

#[test]
fn the_demo_without_privilege() {
    with_demo(|folder| {
        let demo = run(&mut unprivileged(folder, ["--demo"])).exits(0);
        assert!(demo.stdout == play(folder, &[]).stdout);
        let lines: Vec<_> = demo.stderr.lines().collect();
        let [why, what, how] = lines[..] else { panic!("{}", demo.stderr) };
        assert!(
            why.starts_with("kprobe-agent: cannot record here: missing CAP_BPF and CAP_PERFMON"),
            "{why}"
        );
        let start: Value = events::line(demo.stdout.lines().next().unwrap());
        let kernel = start["kernel"].as_str().unwrap();
        assert_eq!(what, format!("kprobe-agent: playing the shipped capture, recorded on kernel {kernel}"));
        assert_eq!(how, "kprobe-agent: to go live run the same as root");
    });
}

#[test]
fn the_list_of_probes() {
    let folder = open_folder();
    let list = run(&mut unprivileged(folder.path(), ["--probes", "help"])).exits(0).silent().stdout;
    for kind in ["process.fork", "process.exec", "process.exit", "syscall", "sched.switch", "duration_ns"] {
        assert!(list.contains(kind), "{kind}");
    }
    if is_root() {
        assert_eq!(run(&mut agent(["--probes", "help"])).exits(0).silent().stdout, list);
    }
}

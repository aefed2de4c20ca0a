//! `-- CMD`: its exit code, its streams, and everything that it did from its exec on.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Running, agent, events, open_folder, run, set_mode};

crate::trials!(
    the_exit_code,
    the_streams_of_the_command,
    events_on_standard_error,
    the_report_and_the_ledger,
    nothing_is_missed_from_the_exec_on,
    nobody_else_is_recorded,
    a_duration,
    a_ring_that_is_too_small,
    nothing_to_execute,
    a_command_that_cannot_be_costs_no_file,
    a_duration_without_end,
);

/// Where it is, without asking a shell, so that the exec is that of this file.
fn sh(script: &str) -> [String; 4] {
    ["--", "sh", "-c", script].map(str::to_owned)
}

fn the_exit_code() {
    for (script, code) in
        [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
    {
        let output = run(agent(["--output", "none"]).args(sh(script))).exits(code).silent();
        assert_eq!(output.stdout, "");
    }
}

fn the_streams_of_the_command() {
    let folder = open_folder();
    let mut command = agent(["-o", "events.json"]);
    command.args(sh("cat; echo out; echo err >&2")).current_dir(folder.path());
    let mut running = Running::start(command.stdin(Stdio::piped()));
    running.child().stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = running.finish().exits(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("in\nout\n", "err\n"));
    let events = events::lossless(&fs::read_to_string(folder.path().join("events.json")).unwrap());
    let exit = events::of_kind(&events, "process.exit").last().unwrap();
    assert_eq!((&exit["comm"], &exit["code"]), (&"sh".into(), &0.into()));
}

/// As `strace` has it.
fn events_on_standard_error() {
    let output = run(agent::<[&str; 0]>([]).args(sh("echo out; echo err >&2"))).exits(0);
    assert_eq!(output.stdout, "out\n");
    let (lines, others): (Vec<_>, Vec<_>) =
        output.stderr.split_inclusive('\n').partition(|line| line.starts_with('{'));
    assert_eq!(others, ["err\n"]);
    let events = events::lossless(&lines.concat());
    assert_eq!(events::of_kind(&events, "process.exec").count(), 1);
    assert_eq!(events::of_kind(&events, "syscall").filter(|call| call["name"] == "write").count(), 2);
}

fn the_report_and_the_ledger() {
    let families = ["process.fork", "process.exec", "process.exit", "process.rename", "syscall"];
    let output =
        run(agent(["--report=json", "--stats=json", "--output", "none"]).args(sh("true; exit 4"))).exits(4);
    let lines: Vec<Value> = output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [report, ledger] = &lines[..] else { panic!("{}", output.stderr) };
    let probes: Vec<_> = report["probes"].as_array().unwrap().iter().map(|probe| &probe["probe"]).collect();
    assert_eq!(probes, families);
    assert!(report["probes"].as_array().unwrap().iter().all(|probe| probe["rung"].is_string()));
    assert_eq!((&ledger["balance"], &ledger["undecodable"]), (&0.into(), &0.into()));
    for name in families {
        let rows = ledger["probes"].as_array().unwrap().iter().filter(|row| row["probe"] == name);
        assert!(rows.clone().all(|row| row["lost"] == 0));
        // A shell that ends with a builtin may have forked nobody.
        let submitted: u64 = rows.map(|row| row["submitted"].as_u64().unwrap()).sum();
        assert!(submitted > 0 || name == "process.fork", "{name}: {ledger}");
    }
    // For people: a table each.
    let output = run(agent(["--report", "--stats", "--output", "none"]).args(sh("exit 0"))).exits(0);
    assert!(
        output.stderr.contains("process.exec ") && output.stderr.contains("balance"),
        "{}",
        output.stderr
    );
}

fn nothing_is_missed_from_the_exec_on() {
    let folder = open_folder();
    let file = folder.path().join("events.json");
    for _ in 0..20 {
        run(agent(["--probes", "process,syscall,sched", "-o"]).arg(&file).args(sh("exit 0"))).exits(0);
        let events = events::lossless(&fs::read_to_string(&file).unwrap());
        let exec = events::of_kind(&events, "process.exec").next().unwrap();
        let command = exec["tgid"].as_u64().unwrap();
        assert_eq!((&exec["comm"], &exec["parent_tgid"].is_u64()), (&"sh".into(), &true));
        let calls: Vec<_> = events::of_kind(&events, "syscall").collect();
        let first = calls[0];
        assert_eq!(
            (&first["name"], &first["tgid"], &first["ret"], &first["comm"]),
            (&"execve".into(), &command.into(), &0.into(), &"sh".into())
        );
        // It began the exec before it was in it, and made no other call since it is recorded.
        assert!(first["enter_ktime_ns"].as_u64().unwrap() < exec["ktime_ns"].as_u64().unwrap());
        assert!(first["ktime_ns"].as_u64().unwrap() > exec["ktime_ns"].as_u64().unwrap());
        let last = calls.last().unwrap();
        assert_eq!((&last["name"], &last["tgid"]), (&"exit_group".into(), &command.into()));
        let exit = events::of_kind(&events, "process.exit").last().unwrap();
        assert_eq!((&exit["tgid"], &exit["process_ended"]), (&command.into(), &true.into()));
    }
}

/// While processes come and go that get the stacks of dead ones, up to the moment when the last program is detached.
fn nobody_else_is_recorded() {
    let folder = open_folder();
    let file = folder.path().join("events.json");
    let mut others = Command::new("sh");
    others.args(["-c", "echo ready; while :; do (exit 0); done"]);
    let mut others = Running::start(others.stdout(Stdio::piped()));
    others.wait_for("ready");
    for _ in 0..10 {
        run(agent(["-o"]).arg(&file).args(sh("exit 0"))).exits(0);
        let events = events::lossless(&fs::read_to_string(&file).unwrap());
        let command = &events[0]["tgid"];
        let mut strangers = events.iter().filter(|event| event["tgid"] != *command);
        assert_eq!(strangers.next(), None);
    }
}

/// The command goes on unrecorded, and its exit code is the agent's all the same.
fn a_duration() {
    let mut command = agent(["--duration", "1ms"]);
    let mut running = Running::start(command.args(sh("read gate; exit 5")).stdin(Stdio::piped()));
    running.wait_until_recorded();
    running.child().stdin.take().unwrap().write_all(b"go\n").unwrap();
    let events = events::lossless(&running.finish().exits(5).stderr);
    assert_eq!(events::of_kind(&events, "process.exit").count(), 0);
}

/// What had no room is counted in the stream, where it happened, and at its end.
fn a_ring_that_is_too_small() {
    let folder = open_folder();
    let file = folder.path().join("events.json");
    let script =
        "i=0; while [ $i -lt 5000 ]; do read x <&-; umask >/dev/null; i=$((i+1)); done 2>/dev/null; exit 6";
    run(agent(["--ring-bytes", "4096", "-o"]).arg(&file).args(sh(script))).exits(6).silent();
    let (events, end) = events::stream(&fs::read_to_string(&file).unwrap());
    let lost: u64 = events::of_kind(&events, "meta.lost").map(|event| event["count"].as_u64().unwrap()).sum();
    assert_eq!(end["lost"], lost);
    assert_eq!(end["complete"], true);
}

/// A file of which only the exec itself finds out that it cannot be: the probes are attached by then.
fn nothing_to_execute() {
    let folder = open_folder();
    let path = folder.path().join("script");
    fs::write(&path, "#!/nowhere/sh\n").unwrap();
    set_mode(&path, 0o755);
    let output = run(agent(["--stats=json", "--"]).arg(&path)).exits(126);
    let expected = format!("command {} cannot be executed: its interpreter was not found", path.display());
    assert_eq!((output.stdout, output.stderr), (String::new(), format!("kprobe-agent: {expected}\n")));
}

/// The files that it was to be recorded to are what they were, or are not.
fn a_command_that_cannot_be_costs_no_file() {
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("bad.sh"), "#!/nowhere/sh\n").unwrap();
    set_mode(&path("bad.sh"), 0o755);
    fs::write(path("keep.json"), "kept").unwrap();
    fs::write(path("keep.kcap"), "kept").unwrap();
    for (events, capture) in [("keep.json", "keep.kcap"), ("new.json", "new.kcap")] {
        let args = ["-o", events, "--capture", capture, "--", "./bad.sh"];
        run(agent(args).current_dir(folder.path())).exits(126);
        assert_eq!(fs::read_to_string(path("keep.json")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(path("keep.kcap")).unwrap(), "kept");
        assert!(!path("new.json").exists() && !path("new.kcap").exists());
    }
}

/// Longer than a clock can tell is for ever, and no reason to leave the command alone.
fn a_duration_without_end() {
    let mut command = agent(["--output", "none", "--duration", "18446744073709551615s"]);
    run(command.args(sh("exit 7"))).exits(7).silent();
}

//! What cannot be attached is said, and nothing is made up in its place.

use std::fs;

use crate::support::{agent, events, open_folder, run, set_mode, unprivileged};

crate::trials!(nothing_at_all, no_family_of_processes, the_demo_is_no_way_out);

/// Every rung there is.
const ALL: &str = "tp_btf,raw_tp,tracepoint,raw_tp+hash";
/// What leaves system calls, and nothing else.
const BUT_CALLS: &str = "tp_btf,raw_tp,tracepoint";

fn nothing_at_all() {
    let output = run(&mut agent(["--forbid-rung", ALL, "--", "true"])).exits(125);
    let line = output.stderr.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n') && output.stdout.is_empty(), "{output:?}");
    assert!(
        line.starts_with("kprobe-agent: nothing could be attached: process.fork, process.exec, "),
        "{line}"
    );
    assert!(line.contains("; syscall cannot be recorded (") && line.contains("tp_btf"), "{line}");
}

/// A family that is off is told of, whoever asks for a report; and without it nobody has a name.
fn no_family_of_processes() {
    let folder = open_folder();
    let mut command = agent(["--forbid-rung", BUT_CALLS, "--capture", "x.kcap", "-o", "events.json", "--"]);
    let output = run(command.args(["sh", "-c", "exit 4"]).current_dir(folder.path())).exits(4);
    let line = output.stderr.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    assert!(line.starts_with("kprobe-agent: process.fork, process.exec, "), "{line}");
    assert!(line.contains(" cannot be recorded (") && !line.contains("syscall"), "{line}");
    let live = fs::read_to_string(folder.path().join("events.json")).unwrap();
    let events = events::lossless(&live);
    assert!(events::of_kind(&events, "syscall").count() > 0);
    for event in &events {
        assert!(event.get("comm").is_none() && event.get("parent_tgid").is_none(), "{event}");
    }
    // Nor when it is played.
    set_mode(&folder.path().join("x.kcap"), 0o644);
    let played = run(&mut unprivileged(folder.path(), ["--from", "x.kcap"])).exits(0).silent();
    assert!(played.stdout == live);
}

/// It is for machines that cannot record, not for options that cannot be.
fn the_demo_is_no_way_out() {
    let output = run(&mut agent(["--demo", "--forbid-rung", ALL])).exits(2);
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(output.stderr.starts_with("kprobe-agent: nothing could be attached: "), "{output:?}");
}

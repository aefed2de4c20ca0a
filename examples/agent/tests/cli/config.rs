//! The configuration file.

use std::fs;

use super::refusals::refusal;
use crate::support::{DEMO, Output, agent, events, open_folder, run, set_mode, unprivileged};

/// The agent with this file as `agent.toml`, and `demo.kcap` beside it, in a folder where it runs.
fn with_file(toml: &str, args: &[&str]) -> Output {
    let folder = open_folder();
    fs::write(folder.path().join("agent.toml"), toml).unwrap();
    fs::write(folder.path().join("demo.kcap"), DEMO).unwrap();
    let mut command = agent(["--config", "agent.toml"]);
    run(command.args(args).current_dir(folder.path()))
}

fn check_bad(toml: &str, expected: &str) {
    for args in [&["--check-config"][..], &["--from", "demo.kcap"]] {
        assert_eq!(refusal(&with_file(toml, args), 2), expected, "{toml}");
    }
    assert_eq!(refusal(&with_file(toml, &["--", "true"]), 125), expected, "{toml}");
}

const NOT_A_POWER: &str =
    "a ring buffer of 7340032 bytes cannot be: expected a power of two from 4096 to 1073741824";

#[test]
fn bad_files() {
    let names = "`pid`, `cgroup`, `system`, `from`, `demo`, `probes`, `paths`, `min-duration`, `sample`, `minor-faults`, `syscalls`, \
                 `aggregate`, `interval`, `aggregate-keys`, `ring-bytes`, `duration`, `include-self`, `forbid-rung`, `output`, `times`, \
                 `output-file`, `capture`, `queue-bytes`, `when-full`, `spill-dir`, `spill-bytes`, `order-bytes`, `known-threads`, `shutdown-within`, `metrics`, `count-runs`, `report`, `stats`";
    check_bad(
        "output = \"json\"\n\nring-byte = \"8MiB\"\n",
        &format!(
            "agent.toml, line 3: unknown field `ring-byte`; did you mean `ring-bytes`? There are {names}"
        ),
    );
    check_bad(
        "frobnicate = 1\n",
        &format!("agent.toml, line 1: unknown field `frobnicate`, expected one of {names}"),
    );
    check_bad(
        "output = \"jsn\"\n",
        "agent.toml, line 1: unknown variant `jsn`; did you mean `json`? There are `human`, `json`, `none`",
    );
    check_bad(
        "min-duration = \"50\"\n",
        "agent.toml, line 1: time unit needed, for example 50sec or 50ms; expected a number with a unit, such as 50us, \
         10ms or 2s",
    );
    check_bad(
        "output = \"xml\"\n",
        "agent.toml, line 1: unknown variant `xml`, expected one of `human`, `json`, `none`",
    );
    check_bad("\npid = 7\n", "agent.toml, line 2: invalid type: integer `7`, expected a sequence");
    check_bad("sample = 0\n", "agent.toml, line 1: invalid value: integer `0`, expected a nonzero u32");
    check_bad(
        "probes = [\"sharks\"]\n",
        "--probes sharks: no such family; there are process, syscall, sched, tcp, udp, unix, pipe, block, memory, lock, wait, irq, security, path",
    );
    check_bad("ring-bytes = \"7MiB\"\n", NOT_A_POWER);
    check_bad("ring-bytes = 7340032\n", NOT_A_POWER);
    check_bad(
        "ring-bytes = true\n",
        "agent.toml, line 1: expected a number of bytes with or without a unit, such as \"8MiB\" or 65536",
    );
    check_bad(
        "forbid-rung = [\"btf\"]\n",
        "no probe has a rung `btf`; there are raw_tp, raw_tp+hash, tp_btf, tracepoint",
    );
    let output = with_file("output = \"json\"\n\noutput = \"none\"\n", &["--check-config"]);
    let line = refusal(&output, 2);
    assert!(line.starts_with("agent.toml, line 3: duplicate key"), "{line}");
    let output = with_file("output = [\n", &["--check-config"]);
    assert!(refusal(&output, 2).starts_with("agent.toml, line "), "{output:?}");
}

#[test]
fn no_file() {
    let missing = run(&mut agent(["--check-config", "--config", "/nowhere/agent.toml"]));
    let expected =
        "cannot read the configuration file /nowhere/agent.toml: No such file or directory (os error 2)";
    assert_eq!(refusal(&missing, 2), expected);

    let folder = open_folder();
    let file = folder.path().join("secret.toml");
    fs::write(&file, "").unwrap();
    set_mode(&file, 0o000);
    let mut command = unprivileged(folder.path(), ["--check-config", "--config", "secret.toml"]);
    let expected = "cannot read the configuration file secret.toml: Permission denied (os error 13)";
    assert_eq!(refusal(&run(&mut command), 2), expected);
}

#[test]
fn paths() {
    with_file("paths = [\"/etc\", \"/a, with a comma\"]\n", &["--check-config"]).exits(0);
    check_bad(
        "probes = [\"path\"]\npaths = [\"etc\"]\n",
        "--paths: \"etc\" is no absolute path: expected one that begins with /",
    );
    let expected = "--probes path: paths are recorded only of directories that you name; add --paths, for example --paths /etc,/usr";
    assert_eq!(refusal(&with_file("probes = [\"path\"]\n", &["--check-config"]), 2), expected);
}

#[test]
fn no_process() {
    let output = with_file("pid = [7, 0]\n", &["--check-config"]);
    assert_eq!(refusal(&output, 2), "--pid 0: no process has this id, expected 1 or more");
}

/// A device may have no end.
#[test]
fn a_file_without_end() {
    let output = run(&mut agent(["--check-config", "--config", "/dev/zero"]));
    let expected = "/dev/zero is no configuration file: expected at most 1048576 bytes";
    assert_eq!(refusal(&output, 2), expected);
}

/// Numbers of bytes need no unit, and so no quotes.
#[test]
fn a_number_of_bytes() {
    with_file("ring-bytes = 8388608\n", &["--check-config"]).exits(0);
}

#[test]
fn a_good_file() {
    let toml = "probes = [\"syscall\"]\nsyscalls = [\"io\", \"=poll\"]\nmin-duration = \"1ms\"\nring-bytes = \"16MiB\"\n\
                duration = \"1h\"\ninclude-self = true\nsample = 10\nstats = \"human\"\ncgroup = \"/nowhere\"\n";
    let output = with_file(toml, &["--check-config"]).exits(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("", "kprobe-agent: the options are good\n")
    );
    // Options without a file can be checked as well.
    let output = run(&mut agent(["--check-config", "--sample", "3"])).exits(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("", "kprobe-agent: the options are good\n")
    );
}

#[test]
fn a_target_in_the_file_and_another_flag() {
    let output = with_file("from = \"demo.kcap\"\n", &["--demo"]);
    assert_eq!(refusal(&output, 2), "--from and --demo exclude each other: give one of them");
}

fn kinds(output: Output) -> Vec<String> {
    let mut kinds: Vec<_> = events::lossless(&output.exits(0).silent().stdout)
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn the_file_is_used_and_flags_win() {
    let toml = "from = \"demo.kcap\"\nprobes = [\"process\"]\noutput = \"json\"\n";
    let process = ["process.exec", "process.exit", "process.fork", "process.rename"];
    assert_eq!(kinds(with_file(toml, &[])), process);
    assert_eq!(kinds(with_file(toml, &["--probes", "syscall"])), ["syscall"]);
    let human = with_file(toml, &["--output", "human"]).exits(0).silent().stdout;
    assert!(human.starts_with("    0.000000 "), "{human}");
    let wall = with_file(toml, &["--output", "human", "--times", "wall"]).exits(0).silent().stdout;
    assert_eq!(wall.lines().count(), human.lines().count());
    let json = with_file(toml, &[]).stdout;
    let first = &events::lossless(&json)[0];
    let of_day = first["time"].as_str().unwrap().split_once('T').unwrap().1;
    assert!(wall.starts_with(&of_day[.."12:34:56.789012".len()]), "{of_day} {wall}");
    assert_eq!(with_file(toml, &["--output", "none"]).exits(0).silent().stdout, "");
}

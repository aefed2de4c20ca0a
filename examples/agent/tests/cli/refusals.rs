//! Every way not to start: one line on standard error, nothing on standard output, the documented exit code.

use std::{fs, process::Command};

use crate::support::{Output, agent, open_folder, run, set_mode, unprivileged};

const COULD_NOT_START: i32 = 2;
const BEFORE_THE_COMMAND: i32 = 125;

/// The one line that was said, without the program's name.
pub fn refusal(output: &Output, code: i32) -> &str {
    assert_eq!(output.code(), code, "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    let line = output.stderr.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "more than one line: {line}");
    line.strip_prefix("kprobe-agent: ").unwrap()
}

/// `args` are refused in these words, whatever is to be recorded.
fn check(args: &[&str], expected: &str) {
    let with = |target: &[&str]| run(&mut agent([args, target].concat()));
    assert_eq!(refusal(&with(&["--from", "/dev/null"]), COULD_NOT_START), expected);
    assert_eq!(refusal(&with(&["--", "true"]), BEFORE_THE_COMMAND), expected);
}

/// As [`check`], of what is only looked at when a recording starts.
fn check_start(args: &[&str], expected: &str) {
    let own = std::process::id().to_string();
    assert_eq!(refusal(&run(&mut agent([args, &["--pid", &own]].concat())), COULD_NOT_START), expected);
    assert_eq!(refusal(&run(&mut agent([args, &["--", "true"]].concat())), BEFORE_THE_COMMAND), expected);
}

/// This command line is refused in these words.
fn check_whole(args: &[&str], code: i32, expected: &str) {
    assert_eq!(refusal(&run(&mut agent(args)), code), expected, "{args:?}");
}

#[test]
fn no_target() {
    let expected = "nothing to record: give `-- CMD`, --pid, --cgroup, --system, --from or --demo";
    check_whole(&[], COULD_NOT_START, expected);
    check_whole(&["--output", "json"], COULD_NOT_START, expected);
    check_whole(&["--"], BEFORE_THE_COMMAND, expected);
}

#[test]
fn queues_and_metrics() {
    check(
        &["--when-full", "spill"],
        "--when-full spill needs a directory: add --spill-dir, for example --spill-dir /var/lib/kprobe",
    );
    check(
        &["--when-full", "drop", "--spill-dir", "x"],
        "--spill-dir is that of --when-full spill: leave one of the two out",
    );
    check(&["--spill-bytes", "1MiB"], "--spill-bytes is that of --spill-dir: say where records are to wait");
    for address in ["0.0.0.0:9464", "[::]:9464", "[::ffff:192.0.2.1]:9464"] {
        let expected = format!(
            "--metrics {address}: other machines can reach it, and whoever reaches it may ask: expected an address of this \
             machine alone, such as 127.0.0.1:9464 or [::1]:9464"
        );
        check(&["--metrics", address], &expected);
    }
}

#[test]
fn two_targets() {
    for (args, code, names) in [
        (&["--pid", "1", "--system"][..], COULD_NOT_START, "--pid and --system"),
        (&["--cgroup", "/x", "--from", "x"], COULD_NOT_START, "--cgroup and --from"),
        (&["--demo", "--from", "x"], COULD_NOT_START, "--from and --demo"),
        (&["--pid", "1", "--", "true"], BEFORE_THE_COMMAND, "-- CMD and --pid"),
        (&["--pid", "1", "--cgroup", "/x", "--system"], COULD_NOT_START, "--pid and --cgroup and --system"),
    ] {
        check_whole(args, code, &format!("{names} exclude each other: give one of them"));
    }
}

#[test]
fn arguments_that_are_none() {
    let help = "see kprobe-agent --help";
    check(&["--frobnicate"], &format!("unexpected argument '--frobnicate' found; {help}"));
    check(
        &["--probe", "x"],
        &format!("unexpected argument '--probe' found; tip: a similar argument exists: '--probes'; {help}"),
    );
    check(&["more"], &format!("unexpected argument 'more' found; {help}"));
    check(
        &["--output", "xml"],
        &format!("invalid value 'xml' for '--output <FORM>'; [possible values: human, json, none]; {help}"),
    );
    check(
        &["--pid", "me"],
        &format!("invalid value 'me' for '--pid <N,...>': invalid digit found in string; {help}"),
    );
    check(
        &["--sample", "0"],
        &format!("invalid value '0' for '--sample <N>': expected a number from 1 to 4294967295; {help}"),
    );
    check(
        &["--minor-faults", "0"],
        &format!(
            "invalid value '0' for '--minor-faults <N>': expected a number from 1 to 4294967295; {help}"
        ),
    );
    check_whole(
        &["--duration"],
        COULD_NOT_START,
        &format!("a value is required for '--duration <TIME>' but none was supplied; {help}"),
    );
}

#[test]
fn units() {
    let see = "see kprobe-agent --help";
    let time = "expected a number with a unit, such as 50us, 10ms or 2s";
    let size = "expected a number of bytes with or without a unit, such as 8MiB or 65536";
    check(
        &["--min-duration", "50"],
        &format!(
            "invalid value '50' for '--min-duration <TIME>': time unit needed, for example 50sec or 50ms; {time}; {see}"
        ),
    );
    for (flag, value, expected) in [
        ("--min-duration <TIME>", "5parsecs", time),
        ("--duration <TIME>", "", time),
        ("--duration <TIME>", "-1s", time),
        ("--ring-bytes <SIZE>", "8 apples", size),
        ("--ring-bytes <SIZE>", "-1", size),
    ] {
        let name = flag.split(' ').next().unwrap();
        let output = run(&mut agent([&format!("{name}={value}"), "--from", "/dev/null"]));
        let line = refusal(&output, COULD_NOT_START);
        assert!(line.starts_with(&format!("invalid value '{value}' for '{flag}': ")), "{line}");
        assert!(line.ends_with(&format!("; {expected}; {see}")), "{line}");
    }
}

#[test]
fn probes() {
    check(
        &["--probes", "process,sharks"],
        "--probes sharks: no such family; there are process, syscall, sched, tcp, udp, unix, pipe, block, memory, lock, wait, irq, security, path",
    );
}

#[test]
fn paths() {
    let named = "--probes path: paths are recorded only of directories that you name; add --paths, for example --paths /etc,/usr";
    for target in [&["--pid", "1"][..], &["--system"]] {
        let args = [&["--probes", "syscall,path"], target].concat();
        check_whole(&args, COULD_NOT_START, named);
    }
    check_whole(&["--probes", "path", "--", "true"], BEFORE_THE_COMMAND, named);
    for path in ["etc", "./etc"] {
        let expected = format!("--paths: {path:?} is no absolute path: expected one that begins with /");
        check(&["--paths", &format!("/usr,{path}")], &expected);
    }
    let many = vec!["/usr"; 65].join(",");
    check(
        &["--paths", &many],
        "--paths: 65 directories are named whose paths are to be recorded, expected 64 at most: name one that they are in",
    );
    let long = format!("/{}", "x".repeat(255));
    check(
        &["--paths", &long],
        &format!(
            "--paths: the path {long} has 256 bytes, expected 255 at most: name a directory that it is in"
        ),
    );
    // What is there is looked at when a recording starts.
    check_start(
        &["--paths", "/usr,/nowhere/at-all"],
        "/nowhere/at-all does not exist: expected a directory or a file whose paths are to be recorded",
    );
    run(&mut agent(["--check-config", "--paths", "/nowhere/at-all"])).exits(0);
}

#[test]
fn system_calls() {
    let known = "expected names of calls, or the families io, fsync, net, futex, poll, sleep, file, process, io_uring, all";
    for (wrong, meant) in [("reed", "read"), ("opnat", "openat"), ("futx", "futex")] {
        let output = run(&mut agent(["--syscalls", wrong, "--from", "/dev/null"]));
        let line = refusal(&output, COULD_NOT_START);
        assert!(line.starts_with(&format!("--syscalls: no system call \"{wrong}\" on ")), "{line}");
        assert!(line.ends_with(&format!(", did you mean {meant}?; {known}")), "{line}");
    }
    let output = run(&mut agent(["--syscalls", "read,frobnicate_everything", "--", "true"]));
    let line = refusal(&output, BEFORE_THE_COMMAND);
    assert!(line.starts_with("--syscalls: no system call \"frobnicate_everything\" on "), "{line}");
    assert!(line.ends_with(&format!("; {known}")) && !line.contains("did you mean"), "{line}");
}

#[test]
fn options_of_families_that_are_not_recorded() {
    let check = |args: &[&str], name: &str, families: &str| {
        let expected = format!(
            "{name} has no effect without the family {families}: add it to --probes, or leave {name} out"
        );
        check_start(args, &expected);
    };
    check(&["--minor-faults", "10"], "--minor-faults", "memory");
    check(&["--probes", "process,sched", "--syscalls", "read"], "--syscalls", "syscall");
    check(&["--probes", "block", "--min-duration", "1ms"], "--min-duration", "syscall or lock or wait");
    for args in [
        &["--probes", "memory", "--minor-faults", "10"][..],
        &["--syscalls", "read"],
        &["--probes", "block,wait", "--min-duration", "1ms"],
        &["--probes", "process", "--aggregate", "lock=kind", "--min-duration", "1ms"],
    ] {
        run(agent(["--check-config"]).args(args)).exits(0);
    }
}

#[test]
fn sums() {
    check_start(
        &["--aggregate", "syscall=subject,syscall=tgid"],
        "--aggregate names syscall twice: the durations of a family are told apart by one thing",
    );
    check_start(
        &["--aggregate", "sched=subject"],
        "the durations of sched cannot be told apart by subject: expected kind, tgid or cgroup; of what is recorded \
         these have subjects: syscall",
    );
    check_start(
        &["--aggregate", "irq=kind"],
        "the durations of irq cannot be summed up: of what is recorded these can be: syscall",
    );
    check_start(
        &["--aggregate", "syscall=kind", "--aggregate-keys", "65537"],
        "room for 65537 histograms on each CPU: it can be 65536 at most",
    );
    for option in [["--interval", "1s"], ["--aggregate-keys", "8"]] {
        let expected =
            "is that of --aggregate: say what is to be summed up, for example --aggregate syscall=subject";
        check(&option, &format!("{} {expected}", option[0]));
    }
}

#[test]
fn ring_sizes() {
    let page = rustix::param::page_size();
    for (text, bytes) in [("3000", 3000), ("12KiB", 12 << 10), ("1", 1), ("0", 0), ("2GiB", 2_u64 << 30)] {
        check_start(
            &["--ring-bytes", text],
            &format!(
                "a ring buffer of {bytes} bytes cannot be: expected a power of two from {page} to 1073741824"
            ),
        );
    }
}

#[test]
fn rungs() {
    let output = run(&mut agent(["--forbid-rung", "ladder", "--", "true"]));
    let line = refusal(&output, BEFORE_THE_COMMAND);
    assert!(line.starts_with("no probe has a rung `ladder`; there are raw_tp, "), "{line}");
}

#[test]
fn commands() {
    let folder = open_folder();
    let plain = folder.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    set_mode(&plain, 0o644);
    let (plain, directory) = (plain.to_str().unwrap(), folder.path().to_str().unwrap());
    check_whole(&["--", "frobnicate-nothing"], 127, "command \"frobnicate-nothing\" not found in PATH");
    check_whole(&["--", "/nowhere/frobnicate"], 127, "command \"/nowhere/frobnicate\" not found");
    check_whole(
        &["--", plain],
        126,
        &format!("command {plain} cannot be executed: Permission denied (os error 13)"),
    );
    check_whole(
        &["--", directory, "argument"],
        126,
        &format!("command {directory} cannot be executed: it is a directory"),
    );
}

#[test]
fn processes() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let pid = gone.id();
    check_whole(
        &["--pid", &pid.to_string()],
        COULD_NOT_START,
        &format!("no process {pid} (it may have ended)"),
    );
    let both = format!("{},{pid}", std::process::id());
    check_whole(&["--pid", &both], COULD_NOT_START, &format!("no process {pid} (it may have ended)"));
    check_whole(&["--pid", "7,0"], COULD_NOT_START, "--pid 0: no process has this id, expected 1 or more");
    for number in ["4194304", "4294967295"] {
        check_whole(
            &["--pid", number],
            COULD_NOT_START,
            &format!("{number} is no process or thread id, expected 1 to 4194303"),
        );
    }
}

#[test]
fn cgroups() {
    let folder = open_folder();
    let missing = folder.path().join("payments");
    let output = run(agent(["--cgroup"]).arg(&missing));
    let line = refusal(&output, COULD_NOT_START);
    // A machine with version 1 alone says that instead.
    if kprobe_ebpf::host::cgroup2_mount().is_ok() {
        assert_eq!(line, format!("no cgroup {}: there is no such directory", missing.display()));
    }
    let output = run(agent(["--cgroup"]).arg(folder.path()));
    let line = refusal(&output, COULD_NOT_START);
    if let Ok(mount) = kprobe_ebpf::host::cgroup2_mount() {
        let expected = "is no cgroup; expected a directory of cgroup version 2, below";
        assert_eq!(line, format!("{} {expected} {}", folder.path().display(), mount.path.display()));
    }
}

#[test]
fn where_nothing_can_be_written() {
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/demo.kcap");
    let refused = "No such file or directory (os error 2)";
    check_whole(
        &["--from", from, "-o", "/nowhere/events.json"],
        COULD_NOT_START,
        &format!("cannot write to /nowhere/events.json: {refused}"),
    );
    check_whole(
        &["--from", from, "--capture", "/nowhere/again.kcap"],
        COULD_NOT_START,
        &format!("cannot write the capture /nowhere/again.kcap: {refused}"),
    );
}

/// They would have no effect.
#[test]
fn options_of_a_recording_that_is_made() {
    for args in [
        &["--paths", "/etc"][..],
        &["--syscalls", "read"],
        &["--min-duration", "1ms"],
        &["--sample", "3"],
        &["--ring-bytes", "8MiB"],
        &["--forbid-rung", "tp_btf"],
        &["--include-self"],
        &["--report"],
    ] {
        let output = run(agent(args).args(["--from", "/dev/null"]));
        let expected = format!("{} cannot change a recording that is made: leave out with --from", args[0]);
        assert_eq!(refusal(&output, COULD_NOT_START), expected);
    }
    let expected = "--sample and --report=json cannot change";
    let output = run(&mut agent(["--sample", "3", "--report=json", "--from", "/dev/null"]));
    assert!(refusal(&output, COULD_NOT_START).starts_with(&expected.replace("=json", "")), "{output:?}");
}

/// The one refusal that depends on who asks.
#[test]
fn without_privilege() {
    let folder = open_folder();
    let own = std::process::id().to_string();
    let expected = "missing CAP_BPF and CAP_PERFMON: every family is off without CAP_BPF (programs and maps) and CAP_PERFMON \
         (reading what the kernel passes to them); run as root, or give the \
                    program those two with `setcap cap_bpf,cap_perfmon+ep FILE`";
    let targets: [(&[&str], i32); 3] = [
        (&["--pid", &own], COULD_NOT_START),
        (&["--system"], COULD_NOT_START),
        (&["--", "true"], BEFORE_THE_COMMAND),
    ];
    for (target, code) in targets {
        let output = run(&mut unprivileged(folder.path(), target));
        assert_eq!(refusal(&output, code), expected, "{target:?}");
    }
}

/// What was asked for by mistake leaves no file behind.
#[test]
fn nothing_is_created() {
    let folder = open_folder();
    let file = folder.path().join("events.json");
    let capture = folder.path().join("events.kcap");
    let mut command = agent(["--from", "/dev/null", "-o"]);
    refusal(&run(command.arg(&file).arg("--capture").arg(&capture)), COULD_NOT_START);
    let mut command =
        unprivileged(folder.path(), ["-o", "events.json", "--capture", "events.kcap", "--", "true"]);
    refusal(&run(&mut command), BEFORE_THE_COMMAND);
    assert!(!file.exists() && !capture.exists());
}

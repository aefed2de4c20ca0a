//! A capture gives the lines that were seen live, to the byte.

use std::{fs, path::Path};

use crate::{
    in_vm,
    support::{agent, events, open_folder, run, unprivileged},
};

crate::trials!(the_same_lines, the_same_lines_with_losses, the_same_for_people, the_same_paths);

const WORKLOADS: [&str; 3] = [
    "exit 3",
    "cat /proc/self/stat | cat | wc -c; (cd /; ls) >/dev/null; cat /nowhere; true",
    "for i in 1 2 3 4 5 6 7 8; do (cat /proc/self/status | sort | wc -l; sleep 0.01) & done; wait",
];

/// What is recorded, and which families are shown.
const OPTIONS: [&[&str]; 6] = [
    &[],
    &["--probes", "process,syscall,sched"],
    &["--probes", "sched"],
    &["--probes", "syscall", "--syscalls", "io,file,process"],
    &["--min-duration", "20us"],
    &["--probes", "process,syscall,sched", "--sample", "3"],
];

/// Records to `events` and to `x.kcap`, and plays the latter, as anybody; both texts.
fn live_and_played(folder: &Path, options: &[&str], form: &str, script: &str) -> (String, String) {
    let mut live = agent(["--output", form, "--capture", "x.kcap", "-o", "events"]);
    live.args(options).args(["--", "sh", "-c", script]).current_dir(folder);
    run(&mut live);
    let shown = options.iter().position(|option| *option == "--probes").map(|at| &options[at..at + 2]);
    crate::support::set_mode(&folder.join("x.kcap"), 0o644);
    let mut played = unprivileged(folder, ["--output", form, "--from", "x.kcap"]);
    let played = run(played.args(shown.unwrap_or_default())).exits(0).silent();
    (fs::read_to_string(folder.join("events")).unwrap(), played.stdout)
}

/// Long texts are not printed whole.
fn assert_same(live: &str, played: &str) {
    for (at, (live, played)) in live.lines().zip(played.lines()).enumerate() {
        assert_eq!(live, played, "line {at}");
    }
    assert!(live == played, "{} and {} bytes", live.len(), played.len());
}

fn the_same_lines() {
    let folder = open_folder();
    for options in OPTIONS {
        for script in WORKLOADS {
            let (live, played) = live_and_played(folder.path(), options, "json", script);
            events::lossless(&live);
            assert_same(&live, &played);
        }
    }
}

fn the_same_lines_with_losses() {
    let folder = open_folder();
    let loops = if in_vm() { 2_000 } else { 20_000 };
    let script = format!("i=0; while [ $i -lt {loops} ]; do : >/dev/null; i=$((i+1)); done");
    let options = ["--probes", "process,syscall,sched", "--ring-bytes", "4096"];
    let (live, played) = live_and_played(folder.path(), &options, "json", &script);
    let (_, end) = events::stream(&live);
    assert!(end["lost"].as_u64().unwrap() > 0, "a page had room for everything: {end}");
    assert_same(&live, &played);
}

fn the_same_for_people() {
    let folder = open_folder();
    let options = ["--probes", "process,syscall,sched"];
    for script in WORKLOADS {
        let (live, played) = live_and_played(folder.path(), &options, "human", script);
        assert!(live.contains("execve()"), "{live}");
        assert_same(&live, &played);
    }
}

/// Whole paths are in the capture: whoever plays it need not have the files, nor say of which directories they are.
fn the_same_paths() {
    let folder = open_folder();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    for dir in [&inside, &outside] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
    }
    let inside = inside.to_str().unwrap();
    let script = "cat inside/file outside/file; cat outside/../inside/file";
    for form in ["json", "human"] {
        let options = ["--probes", "path", "--paths", inside];
        let (live, played) = live_and_played(folder.path(), &options, form, script);
        assert_same(&live, &played);
        assert!(!live.contains("outside"), "{live}");
        let opened = match form {
            "json" => format!("\"path\":\"{inside}/file\",\"fd\":3,"),
            _ => format!("opened {inside}/file as 3"),
        };
        assert_eq!(live.matches(&opened).count(), 2, "{live}");
    }
}

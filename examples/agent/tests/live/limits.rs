//! `--min-duration` and `--sample`: how many of a known number of calls are recorded.

use std::fs;

use serde_json::Value;

use crate::support::{Output, agent, events, open_folder, run};

crate::trials!(only_long_calls, one_in_so_many);

/// The calls in the stream and the ledger.
fn recorded(args: &[&str], script: &str) -> (Vec<Value>, Value) {
    let folder = open_folder();
    let mut command = agent(["--stats=json", "-o", "events.json"]);
    command.args(args).args(["--", "sh", "-c", script]).current_dir(folder.path());
    let Output { stderr, .. } = run(&mut command).exits(0);
    let all = events::lossless(&fs::read_to_string(folder.path().join("events.json")).unwrap());
    let calls = events::of_kind(&all, "syscall").cloned().collect();
    (calls, serde_json::from_str(&stderr).unwrap())
}

fn only_long_calls() {
    let script = "sleep 0.001; sleep 0.6; sleep 0.001; exit 0";
    let (calls, _) = recorded(&["--syscalls", "sleep", "--min-duration", "500ms"], script);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert!(call["duration_ns"].as_u64().unwrap() >= 600_000_000, "{call}");
    let (calls, _) = recorded(&["--syscalls", "sleep"], script);
    assert_eq!(calls.len(), 3, "{calls:?}");
}

fn one_in_so_many() {
    // The builtin sets the mask and sets it back.
    let (calls, one_in) = (400, 10);
    let script = "i=0; while [ $i -lt 200 ]; do umask >/dev/null; i=$((i+1)); done; exit 0";
    let (found, ledger) = recorded(&["--syscalls", "umask", "--sample", "10"], script);
    let rows = ledger["probes"].as_array().unwrap().iter().filter(|row| row["probe"] == "syscall");
    let sum = |name: &str| rows.clone().filter_map(|row| row[name].as_u64()).sum::<u64>();
    assert_eq!((sum("submitted"), sum("submitted") + sum("sampled_out")), (found.len() as u64, calls));
    // Each CPU counts for itself, and can be in the middle of its ten.
    let cpus = rows.clone().count() as u64;
    assert!((calls / one_in).abs_diff(found.len() as u64) <= cpus, "{} on {cpus} CPUs", found.len());
}

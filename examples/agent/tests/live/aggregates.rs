//! `--aggregate`: what found no room for a sum is told, in the stream and beside it.

use std::fs;

use serde_json::Value;

use crate::support::{Output, agent, events, open_folder, run};

crate::trials!(no_room, room_for_all);

const SCRIPT: &str = "ls / >/dev/null; exit 0";

/// The sums and the last line of a recording with so much room, and what was said on standard error.
fn recorded(keys: &str) -> (Vec<Value>, Value, String, tempfile::TempDir) {
    let folder = open_folder();
    let mut command = agent(["--aggregate", "syscall=subject", "--interval", "1h", "--aggregate-keys", keys]);
    command.args(["--output", "json", "-o", "events.json", "--capture", "events.kcap"]);
    command.args(["--", "sh", "-c", SCRIPT]).current_dir(folder.path());
    let Output { stderr, .. } = run(&mut command).exits(0);
    let (all, end) = events::stream(&fs::read_to_string(folder.path().join("events.json")).unwrap());
    (events::of_kind(&all, "meta.histogram").cloned().collect(), end, stderr, folder)
}

fn room_for_all() {
    let (sums, end, stderr, _) = recorded("512");
    assert!(sums.len() > 5, "{sums:?}");
    assert_eq!((&end["uncounted"], &end["complete"]), (&0.into(), &true.into()), "{end}");
    assert_eq!(stderr, "");
}

/// Also whoever reads the capture hears of it, and that is no success.
fn no_room() {
    let (sums, end, stderr, folder) = recorded("1");
    let uncounted = end["uncounted"].as_u64().unwrap();
    assert!(uncounted > 0 && !sums.is_empty(), "{end} {sums:?}");
    assert_eq!(end["complete"], false, "{end}");
    assert_eq!(end["incomplete_reason"], format!("{uncounted} events found no room for a sum"));
    let line = format!(
        "kprobe-agent: {uncounted} events are in no sum, for want of room: record with a larger --aggregate-keys or a \
         shorter --interval\n"
    );
    assert_eq!(stderr, line);
    let mut replay = agent(["--from", "events.kcap", "--output", "json"]);
    let Output { stdout, stderr, .. } = run(replay.current_dir(folder.path())).exits(1);
    let (_, again) = events::stream(&stdout);
    for name in ["uncounted", "complete", "incomplete_reason", "lost"] {
        assert_eq!(again[name], end[name], "{again}");
    }
    assert_eq!(stderr, line);
}

//! Children that live for a millisecond have their right names and parents.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use serde_json::Value;

use crate::{
    in_vm,
    support::{agent, events, open_folder, run},
};

crate::trials!(short_lived_children);

/// Each child is another program by name, so that one cannot be taken for another.
fn short_lived_children() {
    let count = if in_vm() { 200 } else { 1000 };
    let folder = open_folder();
    for child in 0..count {
        symlink("/bin/true", folder.path().join(format!("child{child}"))).unwrap();
    }
    let script = format!("i=0; while [ $i -lt {count} ]; do ./child$i 2>/dev/null; i=$((i+1)); done; exit 0");
    // On a machine that is busy lines are written later than records come.
    let roomy = ["--ring-bytes", "64MiB", "--when-full", "block"];
    let mut command = agent(roomy.iter().chain(&["-o", "events.json", "--", "sh", "-c", &script]));
    run(command.current_dir(folder.path())).exits(0);
    let events = events::lossless(&fs::read_to_string(folder.path().join("events.json")).unwrap());

    let parent = events[0]["tgid"].as_u64().unwrap();
    let of_children = |kind| {
        let events = events::of_kind(&events, kind);
        events.filter(|event| event["tgid"] != parent).collect::<Vec<&Value>>()
    };
    let (execs, exits) = (of_children("process.exec"), of_children("process.exit"));
    let forks: Vec<_> = events::of_kind(&events, "process.fork").collect();
    assert_eq!((forks.len(), execs.len(), exits.len()), (count, count, count));
    let mut names = BTreeMap::new();
    for (at, ((fork, exec), exit)) in forks.iter().zip(&execs).zip(&exits).enumerate() {
        let name = format!("child{at}");
        assert_eq!((&fork["comm"], &fork["tgid"]), (&"sh".into(), &parent.into()));
        for (what, event) in [("exec", exec), ("exit", exit)] {
            assert_eq!(event["comm"], *name, "{what}");
            assert_eq!(event["parent_tgid"], parent, "{what}");
            assert_eq!(event["tgid"], fork["child_tgid"], "{what}");
            assert_eq!(event["start_ns"], fork["child_start_ns"], "{what}");
        }
        assert_eq!(exit["process_ended"], true);
        names.insert(exec["tgid"].as_u64().unwrap(), (name, exec["ktime_ns"].as_u64()));
    }
    // So has everything else that they did, but for what they did as a shell.
    for call in events::of_kind(&events, "syscall").filter(|call| call["tgid"] != parent) {
        let (name, exec_ktime_ns) = &names[&call["tgid"].as_u64().unwrap()];
        assert_eq!(call["parent_tgid"], parent, "{call}");
        let is_before = call["ktime_ns"].as_u64() < *exec_ktime_ns;
        assert_eq!(call["comm"], if is_before { "sh" } else { name.as_str() }, "{call}");
    }
}

//! `--demo` where recording is allowed.

use crate::support::{agent, events, run};

crate::trials!(the_demo_is_live);

fn the_demo_is_live() {
    let output = run(&mut agent(["--demo"])).exits(0);
    let release = kprobe_ebpf::host::kernel_release().unwrap().text;
    let said = output.stderr.strip_prefix("kprobe-agent: recording `sh -c '").unwrap();
    assert!(said.ends_with(&format!("'` live on kernel {release}\n")), "{said}");
    assert_eq!(said.lines().count(), 1);
    let events = events::lossless(&output.stdout);
    let start = events::line(output.stdout.lines().next().unwrap());
    assert_eq!(start["kernel"], release);
    let exit = events::of_kind(&events, "process.exit").last().unwrap();
    assert_eq!((&exit["comm"], &exit["code"]), (&"sh".into(), &3.into()));
}

//! The example as a user runs it: root, on the running kernel, a command of its own.

use std::process::Command;

use kprobe_core::event::Arch;
use serde_json::Value;

#[test]
fn it_records_its_own_event_beside_kprobes() -> Result<(), Box<dyn std::error::Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_kprobe-custom-agent"))
        .args(["sh", "-c", "echo seen; exit 3"])
        .output()?;
    let lines = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"seen\n"[..]), "{lines}");
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).cloned().collect::<Vec<_>>();
    let (counted, execs, ends) = (of("custom.counted"), of("process.exec"), of("meta.end"));
    assert_eq!((execs.len(), ends.len()), (1, 1), "{lines:?}");
    let shell = &execs[0]["tgid"];
    let write = (0..).find(|nr| Arch::native().syscall_name(*nr) == Some("write"));
    assert!(
        counted
            .iter()
            .any(|call| call["nr"] == write.unwrap_or(0) && call["comm"] == "sh" && &call["tgid"] == shell),
        "{lines:?}"
    );
    assert!(counted.len() > 10 && counted.iter().all(|call| &call["tgid"] == shell), "{lines:?}");
    Ok(())
}

//! What is written over and what is not.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use super::refusals::refusal;
use crate::support::{DEMO, agent, agent_path, open_folder, run};

/// The agent in this folder refuses: what is one file is given two names.
fn same(folder: &Path, args: &[&str], code: i32, names: &str) {
    let output = run(agent(args).current_dir(folder));
    let expected = "are the same file, which would be overwritten: give each one of its own";
    assert_eq!(refusal(&output, code), format!("{names} {expected}"));
}

#[test]
fn a_file_under_two_names() {
    let folder = open_folder();
    let folder = folder.path();
    fs::write(folder.join("x.kcap"), DEMO).unwrap();
    fs::write(folder.join("agent.toml"), "output = \"json\"\n").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    symlink("x.kcap", folder.join("soft")).unwrap();
    fs::hard_link(folder.join("x.kcap"), folder.join("hard")).unwrap();
    symlink("sub/../new", folder.join("nowhere")).unwrap();
    for name in ["x.kcap", "./sub/../x.kcap", "soft", "hard"] {
        for flag in ["--capture", "--output-file"] {
            let names = format!("--from x.kcap and {flag} {name}");
            same(folder, &["--from", "x.kcap", flag, name], 2, &names);
        }
    }
    // What is not there yet, too.
    for name in ["new", "sub/../new", "nowhere"] {
        let names = format!("--output-file new and --capture {name}");
        same(folder, &["-o", "new", "--capture", name, "--from", "x.kcap"], 2, &names);
        same(folder, &["-o", "new", "--capture", name, "--", "true"], 125, &names);
    }
    let config = ["--config", "agent.toml", "-o", "agent.toml", "--from", "x.kcap"];
    same(folder, &config, 2, "--config agent.toml and --output-file agent.toml");
    same(
        folder,
        &["--capture", "/dev/stdout", "--from", "x.kcap"],
        2,
        "standard output and --capture /dev/stdout",
    );
    assert!(fs::read(folder.join("x.kcap")).unwrap() == DEMO);
    assert!(!folder.join("new").exists());
    // Files that differ, and a device that keeps nothing, are no mistake.
    let args = ["--from", "x.kcap", "--capture", "sub/new", "-o", "new"];
    run(agent(args).current_dir(folder)).exits(0).silent();
    let args = ["--from", "x.kcap", "--capture", "/dev/null", "-o", "/dev/null"];
    run(agent(args).current_dir(folder)).exits(0).silent();
    let args = ["--from", "x.kcap", "--capture", "/dev/stdout", "--output", "none"];
    run(agent(args).current_dir(folder)).exits(0).silent_but_output();
}

/// If one of two files cannot be written, the other stays what it was.
#[test]
fn a_second_output_that_cannot_be() {
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("x.kcap"), DEMO).unwrap();
    for name in ["k.kcap", "new.kcap"] {
        fs::write(path("k.kcap"), "kept").unwrap();
        let args = ["--from", "x.kcap", "--capture", name, "-o", "/nowhere/x"];
        let output = run(agent(args).current_dir(folder.path()));
        refusal(&output, 2);
        assert_eq!(fs::read_to_string(path("k.kcap")).unwrap(), "kept");
        assert!(!path("new.kcap").exists());
    }
    let output = run(agent(["--from", "x.kcap", "-o", "k.kcap"]).current_dir(folder.path()));
    output.exits(0).silent();
    assert!(fs::read_to_string(path("k.kcap")).unwrap().starts_with("{\"kind\":\"meta.start\""));
}

/// A limit of the shell's is an error of that file like a full disk, not the agent's end.
#[test]
fn a_limit_on_files() {
    let folder = open_folder();
    fs::write(folder.path().join("x.kcap"), DEMO).unwrap();
    for (args, said) in [
        (&["-o", "events.json"][..], "json: File too large (os error 27)"),
        (&["--capture", "y.kcap", "--output", "none"], "File too large (os error 27)"),
    ] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 1; exec \"$0\" --from x.kcap \"$@\""]).arg(agent_path()).args(args);
        let output = run(limited.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        assert!(matches!(output.code(), 1 | 2), "{output:?}");
        assert!(output.stderr.ends_with(&format!("{said}\n")), "{output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
}

/// A name of a file is shown, and does nothing to the terminal.
#[test]
fn names_that_talk_to_the_terminal() {
    let output = run(&mut agent(["--from", "/nowhere/\u{1b}[31m\u{9b}x\r"]));
    let expected = "/nowhere/\\u{1b}[31m\\u{9b}x\\r: cannot be read: No such file or directory (os error 2)";
    assert_eq!(refusal(&output, 2), expected);
}

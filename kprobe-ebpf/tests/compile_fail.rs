//! A recorder gives the events of its probes and of no others: the rest does not compile, and says why.
//!
//! The cases are the binaries of a package made for the purpose. Of a compiler's words only ours are compared: the rest
//! differs from version to version. A case begins with `//~ ` and the message it must give, or gives none.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile_fail");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Messages of errors, by case.
type Errors = BTreeMap<String, BTreeSet<String>>;

fn expected() -> Errors {
    let cases = fs::read_dir(CASES).unwrap().map(|case| case.unwrap().path());
    let case = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let errors = text.lines().map_while(|line| line.strip_prefix("//~ ")).map(str::to_owned).collect();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), errors)
    };
    cases.map(|path| case(&path)).collect()
}

/// A package with a binary for each case, beside the workspace's own lock file.
fn package(folder: &Path, cases: &Errors) {
    let mut manifest = format!(
        "[package]\nname = \"cases\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         kprobe-core = {{ path = {:?} }}\nkprobe-ebpf = {{ path = {:?} }}\n",
        format!("{WORKSPACE}/kprobe-core"),
        env!("CARGO_MANIFEST_DIR"),
    );
    for case in cases.keys() {
        manifest += &format!("[[bin]]\nname = {case:?}\npath = {:?}\n", format!("{CASES}/{case}.rs"));
    }
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::copy(format!("{WORKSPACE}/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

fn found(folder: &Path, cases: &Errors) -> Errors {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo
        .args(["check", "--offline", "--keep-going", "--message-format=json", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let mut found: Errors = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let case = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        if !cases.contains_key(&case) {
            continue;
        }
        let errors = found.entry(case).or_default();
        let said = &message["message"];
        let text = said["message"].as_str().unwrap_or_default();
        if said["level"] == "error" && !text.starts_with("aborting due to") {
            errors.insert(text.to_owned());
        }
    }
    assert_eq!(found.len(), cases.len(), "{}", String::from_utf8_lossy(&output.stderr));
    found
}

#[test]
fn only_what_the_probes_yield() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile-fail");
    let expected = expected();
    assert!(expected.len() >= 5);
    package(&folder, &expected);
    assert_eq!(found(&folder, &expected), expected);
}

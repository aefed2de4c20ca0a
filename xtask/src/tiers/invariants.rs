//! The invariants of the design that a look at the tree can check.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use super::everywhere::cargo;
use crate::{repo, sh};

/// What `kprobe-core` must never depend on: loaders, async runtimes, networks.
const FORBIDDEN_IN_CORE: [&str; 18] = [
    "async-std",
    "aya",
    "aya-obj",
    "clickhouse",
    "curl",
    "futures-executor",
    "h2",
    "hyper",
    "libbpf-rs",
    "mio",
    "native-tls",
    "neo4rs",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "ureq",
];
const MAIN_LINES: usize = 150;

/// I1: the kernel programs take the ABI from kprobe-core, without its `std` feature. That they build is I3.
pub(super) fn i1() -> Result<String> {
    let manifest = repo::programs().join("Cargo.toml");
    let tree = sh::output(
        cargo()
            .args(["tree", "--locked", "--edges", "normal,features", "--prefix", "none", "--manifest-path"])
            .arg(&manifest),
    )?;
    if !tree.lines().any(|line| line.starts_with("kprobe-core v")) {
        bail!(
            "{} does not depend on kprobe-core: kernel and user would compile different files",
            manifest.display()
        );
    }
    if let Some(line) = tree.lines().find(|line| line.starts_with("kprobe-core feature ")) {
        bail!(
            "{} turns on `{line}`: only `abi`, which needs nothing but core, belongs into the kernel",
            manifest.display()
        );
    }
    Ok(String::new())
}

/// I5: the dependencies of kprobe-core, with all its features.
pub(super) fn i5() -> Result<String> {
    let tree = sh::output(cargo().args([
        "tree",
        "-p",
        "kprobe-core",
        "--all-features",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]))?;
    let found: Vec<&str> = tree
        .lines()
        .filter(|line| line.split(' ').next().is_some_and(|name| FORBIDDEN_IN_CORE.contains(&name)))
        .collect();
    if !found.is_empty() {
        bail!(
            "kprobe-core depends on {}; see `cargo tree -p kprobe-core -i <crate>` for the way in",
            found.join(", ")
        );
    }
    Ok(String::new())
}

/// I10: no example's `main.rs` is long enough to hold logic.
pub(super) fn i10() -> Result<String> {
    let mut seen = 0;
    for entry in fs::read_dir(repo::root().join("examples"))? {
        let main = entry?.path().join("src/main.rs");
        let Ok(text) = fs::read_to_string(&main) else { continue };
        seen += 1;
        let lines = text.lines().count();
        if lines > MAIN_LINES {
            bail!(
                "{} has {lines} lines, more than {MAIN_LINES}: move what another program could want into a library",
                main.display()
            );
        }
    }
    if seen == 0 {
        bail!("no examples/*/src/main.rs was found");
    }
    Ok(format!("{seen} examples"))
}

/// The oldest Rust that the manifest promises builds the workspace; without that toolchain, it is at least not newer than this one.
pub(super) fn rust_version() -> Result<String> {
    let manifest = fs::read_to_string(repo::root().join("Cargo.toml"))?;
    let promised = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|value| value.trim_matches('"').to_owned())
        .context("the workspace manifest has no rust-version")?;
    let installed = sh::output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let toolchain = installed.lines().filter_map(|line| line.split(' ').next()).find(|name| {
        name.strip_prefix(&promised)
            .is_some_and(|rest| rest.starts_with('-') || rest.starts_with('.') || rest.is_empty())
    });
    if let Some(toolchain) = toolchain {
        let mut check = sh::clean("rustup");
        check.current_dir(repo::root()).args([
            "run",
            toolchain,
            "cargo",
            "check",
            "--workspace",
            "--all-features",
        ]);
        sh::output(check.arg("--target-dir").arg(repo::target().join("rust-version")))?;
        return Ok(format!("the workspace builds with {toolchain}"));
    }
    let running = sh::output(sh::clean("rustc").current_dir(repo::root()).arg("--version"))?;
    let running = running.split(' ').nth(1).unwrap_or_default().to_owned();
    if number(&promised) > number(&running) {
        bail!("rust-version is {promised}, newer than the rustc {running} that built everything here");
    }
    Ok(format!("{promised} is not installed: only checked that it is not newer than the running {running}"))
}

fn number(version: &str) -> Vec<u32> {
    version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

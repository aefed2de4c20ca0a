//! The invariants of the design that a look at the tree can check.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{everywhere::cargo, targets};
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

/// What has a `now` that kprobe-core must not ask.
const CLOCKS: [&str; 2] = ["Instant", "SystemTime"];

/// I5: the lint that keeps kprobe-core from reading a clock bites, with its configuration and the workspace's table. That
/// it finds nothing there is the clippy step's.
pub(super) fn i5_clocks() -> Result<String> {
    let core = repo::root().join("kprobe-core");
    let manifest = fs::read_to_string(core.join("Cargo.toml"))?;
    if !manifest.contains("[lints]\nworkspace = true") {
        bail!("kprobe-core does not take the workspace's lints, which deny warnings about clocks");
    }
    let root = fs::read_to_string(repo::root().join("Cargo.toml"))?;
    let from = root.find("[workspace.lints.").context("the workspace manifest has no table of lints")?;
    let lints: Vec<&str> = root[from..]
        .lines()
        .take_while(|line| line.starts_with("[workspace.lints") || !line.starts_with('['))
        .collect();
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("src"))?;
    fs::copy(core.join("clippy.toml"), dir.path().join("clippy.toml"))?;
    let package =
        "[package]\nname = \"reads-a-clock\"\nedition = \"2024\"\n[lints]\nworkspace = true\n[workspace]\n";
    fs::write(dir.path().join("Cargo.toml"), format!("{package}{}\n", lints.join("\n")))?;
    let source = dir.path().join("src/lib.rs");
    let clippy = || {
        let mut cmd = cargo();
        cmd.current_dir(dir.path()).args(["clippy", "--quiet", "--offline", "--target-dir"]);
        cmd.arg(dir.path().join("target")).args(["--", "-D", "warnings"]);
        sh::output(&mut cmd)
    };
    fs::write(&source, "//! No clock.\n")?;
    clippy().context("a package that reads no clock must pass")?;
    for clock in CLOCKS {
        fs::write(
            &source,
            format!("//! A clock.\n/// Reads it.\npub fn read() {{ let _ = std::time::{clock}::now(); }}\n"),
        )?;
        let refused = clippy().err().map(|error| format!("{error:#}")).unwrap_or_default();
        if !refused.contains(&format!("disallowed method `std::time::{clock}::now`")) {
            bail!("clippy lets kprobe-core read std::time::{clock}: see kprobe-core/clippy.toml\n{refused}");
        }
    }
    Ok(String::new())
}

/// What a replay is compared in.
const FORMS: [&[&str]; 3] =
    [&["--output", "json"], &["--output", "human", "--times", "wall"], &["--output", "none", "--capture"]];
const CAPTURES: [&str; 2] = ["examples/agent/demo.kcap", "kprobe-core/tests/data/v1.kcap"];

/// The agent as a release has it.
pub(super) fn optimised_agent() -> Result<PathBuf> {
    targets::agent(|cmd: &mut Command| {
        cmd.arg("--release");
    })
}

/// I7: a capture gives the same bytes, whether the agent is optimised or not, and each time it is asked.
pub(super) fn i7(optimised: Result<PathBuf>) -> Result<String> {
    let agents = [targets::agent(|_| ())?, optimised?];
    if agents[0] == agents[1] {
        bail!("both builds of the agent are {}", agents[0].display());
    }
    let dir = tempfile::tempdir()?;
    let mut compared = 0;
    for capture in CAPTURES {
        for form in FORMS {
            let mut first: Option<Vec<u8>> = None;
            for agent in agents.iter().flat_map(|agent| [agent; 2]) {
                let bytes = replay(agent, &repo::root().join(capture), form, &dir.path().join("again.kcap"))
                    .with_context(|| format!("{capture} {form:?}"))?;
                if bytes.is_empty() {
                    bail!("{} gives nothing for {capture} {form:?}", agent.display());
                }
                if first.as_ref().is_some_and(|first| *first != bytes) {
                    bail!(
                        "{} gives other bytes for {capture} {form:?} than a run before it",
                        agent.display()
                    );
                }
                compared += 1;
                first = Some(bytes);
            }
        }
    }
    Ok(format!("{compared} runs"))
}

/// What the agent makes of a capture: its lines, or the capture that it writes anew.
fn replay(agent: &Path, capture: &Path, form: &[&str], again: &Path) -> Result<Vec<u8>> {
    let writes = form.contains(&"--capture");
    let mut cmd = Command::new(agent);
    cmd.args(form).args(writes.then_some(again)).arg("--from").arg(capture);
    let output =
        cmd.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", sh::line(&cmd)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", sh::line(&cmd), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    if writes { Ok(fs::read(again)?) } else { Ok(output.stdout) }
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

/// The oldest Rust that the manifest promises, and the toolchain that has it: installed if need be.
pub(super) fn oldest_rust(offline: bool) -> Result<String> {
    let manifest = fs::read_to_string(repo::root().join("Cargo.toml"))?;
    let promised = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|value| value.trim_matches('"').to_owned())
        .context("the workspace manifest has no rust-version")?;
    let installed = sh::output(sh::clean("rustup").args(["toolchain", "list"]))
        .with_context(|| format!("rust-version is {promised}, and there is no rustup to ask for it"))?;
    let found = installed.lines().filter_map(|line| line.split(' ').next()).find(|name| {
        name.strip_prefix(&promised)
            .is_some_and(|rest| rest.starts_with('-') || rest.starts_with('.') || rest.is_empty())
    });
    if let Some(found) = found {
        return Ok(found.to_owned());
    }
    if offline {
        bail!("rust-version is {promised}, which is not installed, and --offline forbids installing it");
    }
    eprintln!("xtask: installing Rust {promised} with rustup: needed to build with the stated rust-version");
    sh::output(sh::clean("rustup").args(["toolchain", "install", &promised, "--profile", "minimal"]))?;
    Ok(promised)
}

/// The workspace builds with that toolchain.
pub(super) fn rust_version(toolchain: &str) -> Result<String> {
    let named = sh::output(sh::clean("rustup").args(["run", toolchain, "rustc", "--version"]))?;
    let own = sh::output(sh::clean("rustc").arg("--version").current_dir(repo::root()))?;
    if named == own {
        return Ok(format!("{} is what everything here is built with", own.trim()));
    }
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
    Ok(format!("the workspace builds with {toolchain}"))
}

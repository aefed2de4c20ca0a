//! What needs nothing but a Rust toolchain.

use std::{path::Path, process::Command, thread};

use anyhow::{Result, bail};

use super::{Args, invariants, package, session::Session};
use crate::{
    cache::Cache,
    ebpf, repo, sh,
    table::Row,
    toolchain::{Choice, Toolchain},
};

pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    if let Err(error) = components(args.offline) {
        return Ok(vec![Row::skipped("everywhere", format!("{error:#}"))]);
    }
    let mut session = Session::start("everywhere")?;
    session.command("fmt", &mut fmt(None));
    for workspace in ["kprobe-ebpf/programs", "fuzz"] {
        let manifest = repo::root().join(workspace).join("Cargo.toml");
        if manifest.exists() {
            session.command(&format!("fmt of {workspace}"), &mut fmt(Some(&manifest)));
        }
    }
    session.command("clippy", &mut clippy());
    session.tests("unit, integration and doc tests", cargo().args(["test", "--workspace", "--no-fail-fast"]));
    // All together have the features that any of them asks for.
    for package in ["kprobe-ebpf", "kprobe-sinks"] {
        session
            .command(&format!("{package} without features"), cargo().args(["check", "--package", package]));
    }
    session.command(
        "docs",
        cargo()
            .args(["doc", "--workspace", "--all-features", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    // It takes minutes, and so does what follows, much of it with one processor.
    let optimised = thread::spawn(invariants::optimised_agent);
    session.check("I1: the kernel programs compile kprobe-core's ABI", invariants::i1);
    let mut skipped = Vec::new();
    // Only Debian's toolchain makes the committed bytes.
    match Toolchain::prepare(Choice::Debian, &Cache::open()?, args.offline) {
        Ok(toolchain) => {
            session.check("I3: the committed object is what the sources build", || {
                ebpf::check(&toolchain).map(|()| String::new())
            });
        }
        Err(error) => skipped.push(Row::skipped("everywhere I3", format!("{error:#}"))),
    }
    session.check("I5: kprobe-core knows no loader, runtime or network", invariants::i5);
    session.check("I5: kprobe-core reads no clock", invariants::i5_clocks);
    let optimised = optimised.join().unwrap_or_else(|_| bail!("whoever built it panicked"));
    session.check("I7: the same capture, the same bytes", || invariants::i7(optimised));
    session.check("I10: examples hold no logic", invariants::i10);
    match invariants::oldest_rust(args.offline) {
        Ok(toolchain) => session.check("rust-version", || invariants::rust_version(&toolchain)),
        Err(error) => skipped.push(Row::skipped("everywhere rust-version", format!("{error:#}"))),
    }
    session.check("packages, and a crate outside that depends on them alone", package::outside);
    Ok([session.finish()].into_iter().chain(skipped).collect())
}

/// A minimal toolchain lacks the formatter and the linter.
fn components(offline: bool) -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if sh::output(cargo().args([command, "--version"])).is_ok() {
            continue;
        }
        if offline {
            bail!(
                "cargo {command} is not installed, and --offline forbids `rustup component add {component}`"
            );
        }
        eprintln!("xtask: adding the component {component} with rustup: needed for cargo {command}");
        sh::output(Command::new("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

/// `cargo fmt --check` of the workspace, or of the one with this manifest.
pub(super) fn fmt(manifest: Option<&Path>) -> Command {
    let mut cmd = cargo();
    cmd.args(["fmt", "--all", "--check"]);
    if let Some(manifest) = manifest {
        cmd.arg("--manifest-path").arg(manifest);
    }
    // It colours its diff even when it writes to a file.
    cmd.args(["--", "--color", "never"]);
    cmd
}

pub(super) fn clippy() -> Command {
    let mut cmd = cargo();
    // All features: the targets of the live and vm tiers are linted too.
    cmd.args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]);
    cmd
}

pub(super) fn unit_tests() -> Command {
    let mut cmd = cargo();
    cmd.args(["test", "--quiet", "--workspace", "--lib", "--bins"]);
    cmd
}

/// The workspace's cargo, in its root.
pub(super) fn cargo() -> Command {
    let mut cmd = sh::clean(repo::cargo());
    cmd.current_dir(repo::root());
    cmd
}

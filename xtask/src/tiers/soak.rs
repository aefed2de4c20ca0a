//! `cargo xtask soak`: the test target `soak`, which takes too long for a tier, in an emulated machine or here.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use super::{
    targets::{self, Target},
    vm::{facts_in, linked_statically},
};
use crate::{
    cache::Cache,
    initramfs::Entry,
    install,
    kernels::{Kernel, Series},
    repo, vm,
};

/// The command line of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long; ten are what the page about back-pressure speaks of
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    minutes: u64,
    /// System calls a second of the workload
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// In an emulated machine with this kernel
    #[arg(long, default_value = "6.12", value_parser = series)]
    kernel: Series,
    /// On this machine's own kernel, as root; it attaches only to the workload
    #[arg(long, conflicts_with = "kernel")]
    here: bool,
    /// Download and install nothing but crates
    #[arg(long)]
    offline: bool,
}

fn series(name: &str) -> Result<Series, String> {
    Series::from_str(name, false)
}

/// Beyond the soak itself: the start, deliveries at the end, and an emulated machine's slowness.
const MORE: Duration = Duration::from_secs(600);

/// Whether all that it checks held. What it said goes to the terminal, and its fact to a file as well.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let target = Target { package: "kprobe-ebpf".to_owned(), name: "soak".to_owned() };
    let built = targets::build(std::slice::from_ref(&target), |cmd| {
        linked_statically(cmd);
        // Its figures are those of what people run.
        cmd.arg("--release");
    })?;
    let [binary] = &built[..] else { bail!("cargo built no test target `soak`") };
    let numbers = [(args.minutes * 60).to_string(), args.rate.to_string()];
    let (holds, output) =
        if args.here { here(&binary.path, &numbers)? } else { guest(args, &binary.path, &numbers)? };
    let fact = match &facts_in(&output)?[..] {
        [fact] => (*fact).to_owned(),
        // It panicked, and said why.
        [] if !holds => bail!("the soak did not come to its end"),
        facts => bail!("the soak left {} facts instead of one", facts.len()),
    };
    let path = repo::target().join("soak.jsonl");
    fs::write(&path, fact + "\n").with_context(|| path.display().to_string())?;
    eprintln!("xtask: the soak {}; {}", if holds { "passed" } else { "FAILED" }, path.display());
    Ok(holds)
}

/// Built as this user, run as root.
fn here(binary: &Path, numbers: &[String; 2]) -> Result<(bool, String)> {
    let mut cmd = install::as_root("env").context("attaching needs root; run `sudo -v` first, or as root")?;
    let mut child = cmd.arg(binary).args(numbers).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = String::new();
    for line in BufReader::new(child.stdout.take().context("a child without stdout")?).lines() {
        let line = line?;
        println!("{line}");
        output.push_str(&line);
        output.push('\n');
    }
    Ok((child.wait()?.success(), output))
}

fn guest(args: &Args, binary: &Path, numbers: &[String; 2]) -> Result<(bool, String)> {
    vm::prepare(args.offline)?;
    let kernel = Kernel::get(args.kernel, &Cache::open()?, args.offline)?;
    eprintln!("xtask: kernel {}; it takes {} minutes", kernel.release, args.minutes);
    let files = [Entry { host: binary.to_owned(), guest: "/bin/soak".to_owned(), mode: 0o755 }];
    let script = format!("export RUST_BACKTRACE=1\nsoak {}\n", numbers.join(" "));
    let timeout = Duration::from_secs(args.minutes * 60) + MORE;
    let outcome = vm::run(&kernel, &files, &script, timeout, true)?;
    Ok((outcome.status == 0, outcome.console))
}

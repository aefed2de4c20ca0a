//! Every target of `fuzz/`, for a while each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{Args, session::Session};
use crate::{
    cache::Cache,
    install::{self, Need},
    repo, sh,
    table::Row,
};

const CARGO_FUZZ: &str = "0.13.2";
/// libFuzzer is C++.
const NEEDS: [Need; 1] = [("c++", "g++")];

pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    let fuzz = repo::root().join("fuzz");
    if !fuzz.join("Cargo.toml").exists() {
        let session = Session::start("fuzz")?;
        return Ok(vec![session.finish()]);
    }
    let bin = match prepare(args) {
        Ok(bin) => bin,
        Err(error) => return Ok(vec![Row::skipped("fuzz", format!("{error:#}"))]),
    };
    let mut session = Session::start("fuzz")?;
    let log = session.log("build");
    let built = sh::logged(cargo_fuzz(&bin, &fuzz)?.arg("build"), &log)
        .and_then(|()| sh::output(cargo_fuzz(&bin, &fuzz)?.arg("list")));
    let targets: Vec<String> = match built {
        Ok(list) => list.lines().map(str::to_owned).collect(),
        Err(error) => {
            session.check("build", || Err(error));
            return Ok(vec![session.finish()]);
        }
    };
    // A target uses one core: as many at once as there are.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(targets.iter());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..cores.min(targets.len()) {
            scope.spawn(|| {
                loop {
                    let Some(target) = waiting.lock().ok().and_then(|mut targets| targets.next()) else {
                        return;
                    };
                    let started = Instant::now();
                    let result = one(&bin, &fuzz, target, args.fuzz_seconds, &session.log(target));
                    if let Ok(mut results) = results.lock() {
                        results.push((
                            target,
                            result.map(|said| format!("{said} in {:.0} s", started.elapsed().as_secs_f64())),
                        ));
                    }
                }
            });
        }
    });
    for (target, result) in results.into_inner().ok().context("a thread that ran a fuzz target panicked")? {
        session.check(target, || result);
    }
    Ok(vec![session.finish()])
}

fn one(bin: &Path, fuzz: &Path, target: &str, seconds: u64, log: &Path) -> Result<String> {
    let corpus = fuzz.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let mut cmd = cargo_fuzz(bin, fuzz)?;
    // New inputs go to the first folder; the seeds are read only.
    cmd.args(["run", target]).arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        cmd.arg(seeds);
    }
    sh::logged(cmd.args(["--", "-timeout=10", &format!("-max_total_time={seconds}")]), log).with_context(
        || format!("fuzz target {target}; the input that did it is under fuzz/artifacts/{target}"),
    )?;
    let said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let runs = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("done").to_owned();
    Ok(runs)
}

/// The folder with cargo-fuzz in it; installs what is missing.
fn prepare(args: &Args) -> Result<PathBuf> {
    install::install(&NEEDS, "fuzzing", args.offline)?;
    nightly("fuzzing", args.offline)?;
    if let Some(found) = sh::which("cargo-fuzz") {
        return Ok(found.parent().map(PathBuf::from).unwrap_or_default());
    }
    let cache = Cache::open()?;
    let dir = cache.entry(&format!("cargo-fuzz-{CARGO_FUZZ}"), |dir| {
        if args.offline {
            bail!("fuzzing needs cargo-fuzz, and --offline forbids installing it");
        }
        eprintln!("xtask: installing cargo-fuzz {CARGO_FUZZ} into the cache: needed for fuzzing");
        let target = dir.join("target");
        sh::logged(
            sh::clean(repo::cargo())
                .args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"])
                .arg(dir)
                .env("CARGO_TARGET_DIR", &target),
            &dir.join("install.log"),
        )?;
        fs::remove_dir_all(target)?;
        Ok(())
    })?;
    Ok(dir.join("bin"))
}

/// Sees to it that there is a nightly toolchain.
pub(super) fn nightly(why: &str, offline: bool) -> Result<()> {
    /// Tiers that run beside each other need the same.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let toolchains = sh::output(sh::clean("rustup").args(["toolchain", "list"]))
        .with_context(|| format!("{why} needs a nightly toolchain, and there is no rustup to ask for one"))?;
    if toolchains.lines().any(|line| line.starts_with("nightly")) {
        return Ok(());
    }
    if offline {
        bail!("{why} needs a nightly toolchain, and --offline forbids installing one");
    }
    eprintln!("xtask: installing a nightly toolchain with rustup: needed for {why}");
    sh::output(sh::clean("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))?;
    Ok(())
}

fn cargo_fuzz(bin: &Path, fuzz: &Path) -> Result<Command> {
    let mut cmd = sh::clean("rustup");
    cmd.args(["run", "nightly", "cargo", "fuzz"]).current_dir(fuzz).env_remove("CARGO_TARGET_DIR");
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&rest));
    cmd.env("PATH", std::env::join_paths(all)?);
    Ok(cmd)
}

//! The live tests and those that would disturb a developer's machine, in an emulated machine for each kernel.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Args, session::Session, targets};
use crate::{
    cache::Cache,
    facts,
    initramfs::Entry,
    kernels::{Kernel, Series},
    repo, sh,
    table::Row,
    vm,
};

const FACT: &str = "KPROBE-FACT ";
/// Two cores under emulation each: more at once only makes the tests' own clocks worse.
const AT_ONCE: usize = 2;

pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    let cache = Cache::open()?;
    let kernels = match prepare(args, &cache) {
        Ok(kernels) => kernels,
        Err(error) => return Ok(vec![Row::skipped("vm", format!("{error:#}"))]),
    };
    let mut build = Session::start("vm")?;
    let files = match files() {
        Ok(files) => files,
        Err(error) => {
            build.check("static build", || Err(error));
            return Ok(vec![build.finish()]);
        }
    };
    let timeout = Duration::from_secs(args.vm_timeout);
    clear_facts()?;
    let parts: Vec<Part<'_>> = kernels.iter().rev().flat_map(|kernel| Part::of(kernel, &files)).collect();
    let waiting = Mutex::new(parts.iter());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(part) = waiting.lock().ok().and_then(|mut parts| parts.next()) else {
                        return;
                    };
                    let row = part.run(timeout);
                    if let Ok(mut rows) = rows.lock() {
                        rows.push((part.kernel.series.name(), row));
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().ok().context("a thread that ran a machine panicked")?;
    rows.sort_by_key(|(name, _)| Series::ALL.iter().position(|series| series.name() == *name));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn prepare(args: &Args, cache: &Cache) -> Result<Vec<Kernel>> {
    vm::prepare(args.offline)?;
    kernels(args, cache)
}

fn kernels(args: &Args, cache: &Cache) -> Result<Vec<Kernel>> {
    Series::ALL.into_iter().map(|series| Kernel::get(series, cache, args.offline)).collect()
}

/// For a guest, which has no libraries.
pub(super) fn linked_statically(cmd: &mut Command) {
    cmd.args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(repo::target().join("vm-build"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
}

/// Fetches kernels and compiles what the machines run.
pub(super) fn ahead(args: &Args) {
    let _told_later = Cache::open().and_then(|cache| kernels(args, &cache));
    let _told_later = files();
}

/// The agent and the test binaries, linked statically: the guest has no libraries.
fn files() -> Result<Vec<Entry>> {
    let adjust = |cmd: &mut Command| {
        linked_statically(cmd);
        // Emulated processors are slow and the machine's disk is its memory.
        cmd.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    };
    let mut targets = targets::find(&["live", "vm"])?;
    // It tests a program that a guest does not have; what that does, `custom` of kprobe-ebpf does on each kernel.
    targets.retain(|target| target.package != "kprobe-custom-agent");
    if targets.is_empty() {
        bail!("no package has a test target named `live` or `vm`");
    }
    let started = Instant::now();
    let agent = targets::agent(adjust)?;
    let mut files = vec![Entry { host: agent, guest: "/bin/kprobe-agent".to_owned(), mode: 0o755 }];
    for binary in targets::build(&targets, adjust)? {
        let guest = format!("/tests/{}-{}", binary.target.package, binary.target.name);
        files.push(Entry { host: binary.path, guest, mode: 0o755 });
    }
    eprintln!("   vm: static build: ok ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(files)
}

fn script(series: Series, files: &[Entry]) -> String {
    let mut script =
        String::from("export KPROBE_AGENT=/bin/kprobe-agent\nexport RUST_BACKTRACE=1\nstatus=0\n");
    for test in files.iter().filter(|file| file.guest.starts_with("/tests/")) {
        let name = test.guest.trim_start_matches("/tests/");
        let path = sh::quote(&test.guest);
        for names in series.chosen(name) {
            // The output of passed tests is shown at the end: facts come that way.
            script.push_str(&format!(
                "echo \"## {path} {names}\"\n{path} --test-threads=1 --show-output {names} || status=1\n"
            ));
        }
    }
    script.push_str("exit $status\n");
    script
}

/// What one machine does: some of the tests, on one kernel.
#[derive(Debug)]
struct Part<'a> {
    kernel: &'a Kernel,
    name: &'static str,
    files: Vec<Entry>,
}

impl<'a> Part<'a> {
    /// The live tests of the library take as long as all the others together: two machines for each kernel, so that no processor
    /// is idle at the end. Those of 5.10 are few.
    fn of(kernel: &'a Kernel, files: &[Entry]) -> Vec<Self> {
        const LIVE: &str = "/tests/kprobe-ebpf-live";
        let part = |name, with: &dyn Fn(&str) -> bool| {
            let files = files.iter().filter(|file| !file.guest.starts_with("/tests/") || with(&file.guest));
            Part { kernel, name, files: files.cloned().collect() }
        };
        match kernel.series {
            Series::V5_10 => vec![part("", &|_| true)],
            _ => vec![part(" live", &|test| test == LIVE), part(" others", &|test| test != LIVE)],
        }
    }

    fn run(&self, timeout: Duration) -> Result<Row> {
        let Self { kernel, name, files } = self;
        let script = script(kernel.series, files);
        let mut session = Session::start(&format!("vm {}{name}", kernel.version()))?;
        let started = Instant::now();
        match vm::run(kernel, files, &script, timeout, false) {
            Ok(outcome) => {
                let log = outcome.log.display().to_string();
                session.add(&kernel.release, outcome.status == 0, &outcome.console, started.elapsed(), &log);
                let facts = facts(kernel, &outcome.console);
                if !matches!(facts, Ok(0)) {
                    session.check("facts", || facts.map(|count| format!("{count} written")));
                }
            }
            Err(error) => session.check(&kernel.release, || Err(error)),
        }
        Ok(session.finish())
    }
}

/// What was found out before.
fn clear_facts() -> Result<()> {
    match fs::remove_dir_all(facts::folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("cannot clear the facts"),
        _ => Ok(()),
    }
}

/// Keeps what the tests found out about a kernel, for the documentation's table: behind what another machine did.
fn facts(kernel: &Kernel, console: &str) -> Result<usize> {
    let folder = facts::folder();
    fs::create_dir_all(&folder)?;
    let facts = facts_in(console)?;
    let text: String = facts.iter().map(|fact| format!("{fact}\n")).collect();
    let path = folder.join(format!("{}.jsonl", kernel.version()));
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(facts.len())
}

/// What tests found out, as they wrote it among other things.
pub(super) fn facts_in(output: &str) -> Result<Vec<&str>> {
    let facts = output.lines().filter_map(|line| Some(line.split_once(FACT)?.1.trim()));
    let facts = facts.map(|fact| {
        let value: Value =
            serde_json::from_str(fact).with_context(|| format!("not JSON after {FACT}: {fact}"))?;
        if !value.is_object() {
            bail!("not one JSON object after {FACT}: {fact}");
        }
        Ok(fact)
    });
    facts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_runs_some_of_the_tests() {
        let file = |guest: &str| Entry { host: "/x".into(), guest: guest.to_owned(), mode: 0o755 };
        let files =
            [file("/bin/kprobe-agent"), file("/tests/kprobe-agent-live"), file("/tests/kprobe-ebpf-live")];
        let runs = |series| script(series, &files).lines().filter(|line| line.starts_with("/tests/")).count();
        assert_eq!(runs(Series::V6_1), 2);
        assert_eq!(runs(Series::V5_10), Series::V5_10.chosen("kprobe-ebpf-live").len());
        assert_eq!(runs(Series::V7_2), Series::V7_2.chosen("kprobe-agent-live").len() + 1);
        assert!(
            script(Series::V5_10, &files)
                .contains("/tests/kprobe-ebpf-live --test-threads=1 --show-output life:: ||")
        );
    }
}

//! One tier while it runs: its steps one after another, their logs, and what they add up to.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{libtest::Counts, repo, sh, table::Row};

/// Collects the steps of a tier.
#[derive(Debug)]
pub(crate) struct Session {
    name: String,
    logs: PathBuf,
    counts: Counts,
    started: Instant,
}

impl Session {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let logs = repo::target().join("test-logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        eprintln!("\n== {name}");
        Ok(Self { name: name.to_owned(), logs, counts: Counts::default(), started: Instant::now() })
    }

    /// A step that is one test: it passes or fails. The text of a success is shown behind its name.
    pub(crate) fn check(&mut self, step: &str, check: impl FnOnce() -> Result<String>) {
        let started = Instant::now();
        match check() {
            Ok(said) => {
                self.counts.passed += 1;
                self.say(step, "ok", started.elapsed(), &said);
            }
            Err(error) => {
                self.counts.failed += 1;
                self.say(step, "FAILED", started.elapsed(), &format!("\n{error:#}"));
            }
        }
    }

    /// A command that is one test.
    pub(crate) fn command(&mut self, step: &str, cmd: &mut Command) {
        let log = self.log(step);
        self.check(step, || sh::logged(cmd, &log).map(|()| String::new()));
    }

    /// A command whose output is that of test harnesses: each of its tests counts.
    pub(crate) fn tests(&mut self, step: &str, cmd: &mut Command) {
        let started = Instant::now();
        let log = self.log(step);
        match run_to(cmd, &log) {
            Ok((_, output)) if Counts::of(&output) == Counts::default() => {
                let tail = sh::tail(&output, 40);
                self.check(step, || bail!("no test ran\n{tail}\n  whole output: {}", log.display()));
            }
            Ok((success, output)) => {
                self.add(step, success, &output, started.elapsed(), &log.display().to_string());
            }
            Err(error) => self.check(step, || Err(error)),
        }
    }

    /// The output of test harnesses that ran elsewhere, and whether all of them said that they passed.
    pub(crate) fn add(&mut self, step: &str, success: bool, output: &str, time: Duration, log: &str) {
        let mut counts = Counts::of(output);
        if !success && counts.failed == 0 {
            // It did not compile, or a harness died: no test is named, and still it must not pass.
            counts.failed = 1;
        }
        self.counts += counts;
        let mut sum =
            format!("{} passed, {} failed, {} ignored", counts.passed, counts.failed, counts.skipped);
        if counts.elsewhere > 0 {
            sum.push_str(&format!(", {} left to the live tier", counts.elsewhere));
        }
        if success && counts.failed == 0 {
            self.say(step, "ok", time, &sum);
        } else {
            self.say(step, "FAILED", time, &format!("{sum}\n{}\n  whole output: {log}", failures(output)));
        }
    }

    /// The tier's line in the table. A tier in which nothing ran has failed.
    pub(crate) fn finish(mut self) -> Row {
        if self.counts.passed + self.counts.failed == 0 {
            self.counts.failed = 1;
            eprintln!("   FAILED: no test ran in this tier");
        }
        Row { name: self.name, counts: self.counts, time: self.started.elapsed(), skipped: None }
    }

    pub(crate) fn log(&self, step: &str) -> PathBuf {
        let name: String = format!("{}-{step}", self.name)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        self.logs.join(format!("{name}.log"))
    }

    fn say(&self, step: &str, result: &str, time: Duration, more: &str) {
        eprintln!("   {}: {step}: {result} ({:.1} s) {more}", self.name, time.as_secs_f64());
    }
}

/// Runs with all output in `log`; whether it succeeded, and what it said.
pub(super) fn run_to(cmd: &mut Command, log: &std::path::Path) -> Result<(bool, String)> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = cmd
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start `{}`: is it installed?", sh::line(cmd)))?;
    Ok((status.success(), String::from_utf8_lossy(&fs::read(log)?).into_owned()))
}

/// What a person wants to see of a failed run: the harness's own section of failures, else the end.
fn failures(output: &str) -> String {
    let from = output.find("\nfailures:\n").or_else(|| output.find("\nerror"));
    let part = from.map_or(output, |at| &output[at..]);
    let lines: Vec<&str> = part.lines().take(80).collect();
    if from.is_some() { lines.join("\n") } else { sh::tail(output, 40) }
}

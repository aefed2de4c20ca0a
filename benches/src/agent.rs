//! T17: what the agent takes at a steady rate of system calls, and what they take that it records.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kprobe_core::pipeline::Ledger;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, Signal, kill_process},
};
use serde::Deserialize;

use crate::{
    bpftrace::Bpftrace,
    emitted::settled_cpu_ns,
    harness::{Effort, Rounds},
    machine::{CONSUMER_CORE, PRODUCER_CORE, Watch, cpu_ns_of, peak_rss_of, pin},
    outcome::Paced,
    report::{Goal, Report, Row},
    stats::{Spread, show},
    workload::Workload,
};

/// Calls a second.
const RATE: u32 = 50_000;
/// Of a turn with a reader.
const TIME: Duration = Duration::from_secs(10);
/// Of a turn without one, which only says what the calls take by themselves, and of those that are thrown away.
const SHORT: Duration = Duration::from_secs(3);
/// Percent of a core: one for each 10,000 events a second.
const CPU_GOAL: f64 = RATE as f64 / 10_000.0;
const RSS_GOAL: f64 = 64.0;
/// Calls of the process that makes them that are none of the paced ones: it is told what to do and answers.
const FEW: u64 = 100;

/// Who records, in the order of the turns.
const NOBODY: usize = 0;
const OURS: usize = 1;
const THEIRS: usize = 2;

/// The agent, built as this program was.
pub(crate) fn build() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let profile = this.parent().context("a program is in a folder")?;
    let target = profile.parent().context("which is cargo's")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the benches are in the workspace")?;
    eprintln!("building the agent");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "--locked", "--package", "kprobe-agent", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .context("start cargo")?;
    ensure!(built.success(), "the agent does not build");
    Ok(target.join("release/kprobe-agent"))
}

/// It has attached and records.
struct Agent {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Agent {
    fn start(program: &Path, tgid: u32, to: &str) -> Result<Self> {
        // It and its threads stay on the core on which they are started.
        pin(CONSUMER_CORE)?;
        let started = Command::new(program)
            .args(["--pid", &tgid.to_string(), "--output", "json", "-o", to, "--report=json", "--stats=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        pin(PRODUCER_CORE)?;
        let mut child = started.context("start the agent")?;
        let stderr = child.stderr.take().context("its standard error")?;
        let mut agent = Self { child, stderr: BufReader::new(stderr) };
        let mut said = String::new();
        while agent.stderr.read_line(&mut said)? > 0 {
            if said.lines().last().is_some_and(|line| line.starts_with('{')) {
                return Ok(agent);
            }
        }
        bail!("the agent ended: {said}")
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stop(mut self) -> Result<Ledger> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        // 1 if it dropped records, which the ledger says.
        ensure!(matches!(status.code(), Some(0 | 1)), "the agent ended with {status}: {said}");
        let ledger = said.lines().find_map(|line| serde_json::from_str::<Ledger>(line).ok());
        ledger.with_context(|| format!("the agent gave no ledger: {said}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether each of the calls is in the books as delivered; an error if one is missing that nobody counted.
fn is_whole(ledger: &Ledger, made: u64) -> Result<bool> {
    let rows = || ledger.probes.iter().filter(|row| row.probe == "syscall");
    let submitted: u64 = rows().map(|row| row.submitted).sum();
    let [sink] = &ledger.sinks[..] else { bail!("the agent has one sink: {ledger}") };
    let dropped: BTreeMap<_, _> = sink.dropped.iter().filter(|(reason, _)| *reason != "not_shown").collect();
    let is_right = ledger.balance == 0
        && ledger.undecodable == 0
        && (made..made + FEW).contains(&submitted)
        && (sink.delivered + ledger.lost() + dropped.values().copied().sum::<u64>()) >= submitted;
    ensure!(is_right, "{made} calls were made: {ledger}");
    Ok(ledger.lost() == 0 && dropped.is_empty())
}

/// One turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Of who makes the calls, for each.
    call_ns: f64,
    /// Of its CPU time, in percent of a core.
    calls_percent: f64,
    /// Of who records, in percent of a core.
    percent: f64,
    /// Bytes.
    rss: f64,
    /// CPU time before it was ready.
    began_ns: f64,
}

struct Stage<'a> {
    workload: Workload,
    bpftrace: &'a Bpftrace,
    agent: &'a Path,
    quick: bool,
    turns: usize,
}

impl Stage<'_> {
    /// Nothing if records were lost.
    fn turn(&mut self, who: usize, watch: &mut Watch) -> Result<Option<Turn>> {
        self.turns += 1;
        let is_short = who == NOBODY || self.turns <= 3;
        let time = if is_short { SHORT } else { TIME }.mul_f64(if self.quick { 0.1 } else { 1.0 });
        let tgid = self.workload.pid();
        match who {
            NOBODY => Ok(Some(self.calls(None, time, watch)?.1)),
            OURS => {
                let agent = Agent::start(self.agent, tgid, "/dev/null")?;
                let (paced, turn) = self.calls(Some(agent.pid()), time, watch)?;
                Ok(is_whole(&agent.stop()?, paced.made)?.then_some(turn))
            }
            _ => {
                let printing = self.bpftrace.print_calls_of(tgid)?;
                let (paced, turn) = self.calls(Some(printing.pid()), time, watch)?;
                let printed = printing.stop(tgid, std::process::id())?;
                let is_right =
                    printed.calls <= paced.getppid && printed.others <= paced.made - paced.getppid + FEW;
                ensure!(is_right, "bpftrace printed {printed:?} of {paced}");
                if !printed.complaints.is_empty() {
                    eprintln!("bpftrace said {:?}", printed.complaints);
                }
                let all_came = printed.calls + printed.others >= paced.made && printed.complaints.is_empty();
                Ok(all_came.then_some(turn))
            }
        }
    }

    fn calls(&mut self, reader: Option<u32>, time: Duration, watch: &mut Watch) -> Result<(Paced, Turn)> {
        let others: Vec<u32> = reader.into_iter().chain([self.workload.pid()]).collect();
        let settled = |reader: Option<u32>| reader.map_or(Ok(0), settled_cpu_ns);
        let began_ns = settled(reader)?;
        let (from_ns, from) = (reader.map_or(Ok(0), cpu_ns_of)?, Instant::now());
        let paced = watch.over(&others, || self.workload.paced(RATE, time))?;
        // What it does while nothing comes is not part of it, but what came last is.
        let took = from.elapsed();
        let cpu_ns = settled(reader)? - from_ns;
        let percent = |ns: u64| 100.0 * ns as f64 / took.as_nanos() as f64;
        let rate = paced.made as f64 * 1e9 / paced.elapsed_ns as f64;
        ensure!((rate / f64::from(RATE) - 1.0).abs() < 0.02, "the calls came at {rate:.0} a second");
        Ok((
            paced,
            Turn {
                call_ns: paced.cpu_ns as f64 / paced.made as f64,
                calls_percent: percent(paced.cpu_ns),
                percent: percent(cpu_ns),
                rss: reader.map_or(Ok(0), peak_rss_of)? as f64,
                began_ns: began_ns as f64,
            },
        ))
    }
}

pub(crate) fn measure(bpftrace: &Bpftrace, agent: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let mut stage = Stage { workload: Workload::start()?, bpftrace, agent, quick: effort.quick, turns: 0 };
    let bytes = stage.read_lines()?;
    let effort = Effort { alternations: effort.alternations.min(5), ..effort };
    let rounds: Rounds<Turn, 3> = effort.rounds(|who, watch| stage.turn(who, watch))?;
    let of = |who: usize, figure: fn(&Turn) -> f64| rounds.spread(|round| figure(&round[who]));
    let added = |who: usize| rounds.spread(|round| round[who].calls_percent - round[NOBODY].calls_percent);
    let both = |who: usize| {
        rounds.spread(|round| round[who].percent + round[who].calls_percent - round[NOBODY].calls_percent)
    };
    let added_ns =
        |who: usize| show(rounds.spread(|round| round[who].call_ns - round[NOBODY].call_ns), 0, "ns");
    let ratio = |figure: fn(&[Turn; 3], usize) -> f64| {
        rounds.spread(|round| figure(round, OURS) / figure(round, THEIRS))
    };
    let cpu = format!("added to a call: {}, {}", added_ns(OURS), added_ns(THEIRS));
    let row =
        |what: &str, ours: Option<Spread>, theirs, digits, unit, ratio, (goal, most): (&'static str, f64)| {
            Row {
                test: "T17",
                what: what.to_owned(),
                ours: show(ours, digits, unit),
                theirs: show(theirs, digits, unit),
                compared: show(ratio, 2, ""),
                goal: Goal::Words(goal),
                met: ours.is_some_and(|ours| ours.median <= most),
                drops: "0, 0".to_owned(),
                cpu: cpu.clone(),
                turns: format!(
                    "{} ({} disturbed, {} with losses)",
                    rounds.turns.len(),
                    rounds.disturbed,
                    rounds.invalid
                ),
            }
        };
    let percent = |turn: &Turn| turn.percent;
    let mib = |turn: &Turn| turn.rss / f64::from(1 << 20);
    report.rows.push(row(
        "CPU time of `kprobe-agent --pid N --output json -o /dev/null` at 50,000 system calls a second, in percent of a core; bpftrace `printf` of 7 fields",
        of(OURS, percent),
        of(THEIRS, percent),
        2,
        "%",
        ratio(|round, who| round[who].percent),
        ("≤ 5 %: 1 % for 10,000 events a second", CPU_GOAL),
    ));
    report.rows.push(row(
        "the same and what it adds to the process that makes the calls",
        both(OURS),
        both(THEIRS),
        2,
        "%",
        ratio(|round, who| round[who].percent + round[who].calls_percent - round[NOBODY].calls_percent),
        ("≤ 5 %", CPU_GOAL),
    ));
    report.rows.push(row(
        "the most memory that it had (`VmHWM`)",
        of(OURS, mib),
        of(THEIRS, mib),
        1,
        "MiB",
        ratio(|round, who| round[who].rss),
        ("≤ 64 MiB", RSS_GOAL),
    ));
    report.notes.push(format!(
        "T17: a call takes the process that makes it {} of CPU time with nobody there, its share of sleeps and wake-ups included; the agent adds \
         {} of a core to it, bpftrace {}. To begin (to load and attach programs, and to read what is known of processes) takes the agent {}, \
         bpftrace {}, once. A line of the agent has {bytes:.0} bytes; every field of those of a second was read.",
        show(of(NOBODY, |turn| turn.call_ns), 0, "ns"),
        show(added(OURS), 2, "%"),
        show(added(THEIRS), 2, "%"),
        show(of(OURS, |turn| turn.began_ns / 1e6), 0, "ms"),
        show(of(THEIRS, |turn| turn.began_ns / 1e6), 0, "ms"),
    ));
    Ok(())
}

/// What is said of a call.
#[derive(Debug, Deserialize)]
struct Line {
    kind: String,
    #[serde(default)]
    ktime_ns: u64,
    #[serde(default)]
    cpu: Option<u16>,
    #[serde(default)]
    tgid: u32,
    #[serde(default)]
    tid: u32,
    #[serde(default)]
    comm: String,
    #[serde(default)]
    seq: u32,
    #[serde(default)]
    name: String,
    #[serde(default)]
    enter_ktime_ns: u64,
    #[serde(default)]
    duration_ns: u64,
    #[serde(default)]
    ret: i64,
}

impl Stage<'_> {
    /// A run into memory, read afterwards; how long a line is on average.
    fn read_lines(&mut self) -> Result<f64> {
        let (tgid, parent) = (self.workload.pid(), i64::from(std::process::id()));
        let mut written = File::from(memfd_create(c"lines", MemfdFlags::CLOEXEC)?);
        let to = format!("/proc/{}/fd/{}", std::process::id(), written.as_raw_fd());
        let agent = Agent::start(self.agent, tgid, &to)?;
        let paced = self.workload.paced(RATE, Duration::from_secs(1))?;
        let ledger = agent.stop()?;
        ensure!(is_whole(&ledger, paced.made)?, "records are lost at {RATE} a second: {ledger}");
        written.rewind()?;
        let (mut bytes, mut calls, mut getppid, mut last) = (0, 0, 0, None);
        for text in BufReader::new(written).lines() {
            let text = text?;
            let line: Line = serde_json::from_str(&text).with_context(|| text.clone())?;
            if line.kind != "syscall" {
                continue;
            }
            let is_getppid = line.name == "getppid";
            // It stays on its core, and nobody else makes records there.
            let follows = last.is_none_or(|(seq, ns)| line.seq == seq + 1 && line.enter_ktime_ns >= ns);
            let is_right = (line.tgid, line.tid) == (tgid, tgid)
                && line.cpu.map(usize::from) == Some(PRODUCER_CORE)
                && !line.comm.is_empty()
                && line.duration_ns == line.ktime_ns - line.enter_ktime_ns
                && follows
                && (!is_getppid || line.ret == parent);
            ensure!(is_right, "after {calls} lines: {text}");
            last = Some((line.seq, line.ktime_ns));
            (bytes, calls, getppid) = (bytes + text.len() + 1, calls + 1, getppid + u64::from(is_getppid));
        }
        let submitted = ledger.probes.iter().filter(|row| row.probe == "syscall").map(|row| row.submitted);
        ensure!(
            calls == submitted.sum::<u64>() && getppid == paced.getppid,
            "{calls} lines, {getppid} of them of `getppid`, of {paced}: {ledger}"
        );
        Ok(bytes as f64 / calls as f64)
    }
}

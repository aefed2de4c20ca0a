//! T15: records of the kernel to lines of JSON, from one core to another.

mod check;
mod ours;

use std::{
    os::fd::RawFd,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::ours::serve;
use crate::{
    bpf::{Producer, Rings, Wakeups},
    child::Talker,
    contest::start,
    harness::{Effort, Rounds},
    machine::now_ns,
    outcome::Lines,
    report::{Goal, Report, Row},
    stats::{Spread, show},
    sustained::{RING_BYTES, produce},
};

const GOAL: f64 = 5e6;
/// How long a rate must hold.
const STEP: Duration = Duration::from_secs(2);
/// From one offered rate to the next.
const FACTOR: f64 = 0.95;
/// The same where only the neighbourhood of the knee is looked for, in steps of a fifth of the time.
const COARSE: f64 = 0.8;
/// The first rate that is offered.
const FIRST: f64 = 2e6;
/// What the producer makes of less than this share of what it should is not that rate any more.
const MADE: f64 = 0.98;
/// The peer never sleeps: it has at least this share of its core, or the core was not its own.
const SPINNING: f64 = 0.9;
/// Offered rates of the curve, as shares of the knee.
const CURVE: [f64; 8] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5];
/// Rate and time of the run whose lines are read.
const READ: (f64, Duration) = (200_000.0, Duration::from_secs(1));

/// In the order of the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// What the agent has: records in order, names of threads, lines.
    Agent,
    /// Lines and nothing else, as the peer.
    Plain,
    Peer,
}

impl Who {
    const ALL: [Self; 3] = [Self::Agent, Self::Plain, Self::Peer];

    fn command(self, to: &str) -> String {
        match self {
            Self::Agent => format!("lines stages {to}"),
            Self::Plain => format!("lines plain {to}"),
            Self::Peer => format!("lines {to}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Agent => "ours, in order and with names",
            Self::Plain => "ours, lines alone",
            Self::Peer => "libbpf and `serde_json`",
        }
    }
}

/// One offered rate.
#[derive(Clone, Copy, Debug)]
struct Step {
    lines: Lines,
    submitted: u64,
    /// In the kernel.
    lost: u64,
    /// How long records came.
    produced_for: Duration,
    /// From the first record to the last line.
    took: Duration,
    /// As a knee: the producer made no more, so that it is one at least.
    is_least: bool,
}

impl Step {
    fn is_whole(&self) -> bool {
        self.lost == 0 && self.lines.dropped == 0
    }

    /// Whoever spins has all of its core, unless somebody else is on it.
    fn had_its_core(&self) -> bool {
        self.lines.cpu_ns as f64 >= SPINNING * self.took.max(self.produced_for).as_nanos() as f64
    }

    /// Records that came to their end, a second: what still waits at the end of the step is no part of the rate.
    fn rate(&self) -> f64 {
        self.lines.records as f64 / self.took.max(self.produced_for).as_secs_f64()
    }

    fn offered(&self) -> f64 {
        (self.submitted + self.lost) as f64 / self.produced_for.as_secs_f64()
    }

    fn cpu_ns(&self) -> f64 {
        self.lines.cpu_ns as f64 / self.lines.records as f64
    }
}

/// The ring, who fills it, and who makes lines of what is in it.
struct Stage {
    rings: Rings,
    ours: (Talker, Producer),
    theirs: (Talker, Producer),
}

impl Stage {
    fn new(ring_bytes: u32, peer: &Path) -> Result<Self> {
        let rings = Rings::new(ring_bytes).context("create maps (are you root?)")?;
        let load = |wakeups| Producer::load_calls(&rings, wakeups).context("load the producer");
        // The peer does nothing but look.
        let (by_state, never) = (load(Wakeups::ByReaderState)?, load(Wakeups::Never)?);
        let ours = start(Command::new(std::env::current_exe()?).arg("lines"), &rings, &by_state.one)?;
        let theirs = start(&mut Command::new(peer), &rings, &never.one)?;
        Ok(Self { rings, ours: (ours, by_state), theirs: (theirs, never) })
    }

    fn children(&self) -> [u32; 2] {
        [self.ours.0.pid(), self.theirs.0.pid()]
    }

    fn step(&mut self, who: Who, rate: f64, time: Duration, to: &str) -> Result<Step> {
        let Self { rings, ours, theirs } = self;
        let (child, producer) = if who == Who::Peer { theirs } else { ours };
        rings.reset();
        child.tell(&who.command(to))?;
        child.ready()?;
        let (from_ns, from) = (now_ns(), Instant::now());
        produce(producer, rate, time)?;
        let produced_for = from.elapsed();
        let (submitted, lost) = (rings.submitted(), rings.dropped());
        match who {
            Who::Peer => rings.end(producer)?,
            _ => child.tell(&format!("end {submitted} {lost}"))?,
        }
        let lines: Lines = child.answer()?;
        ensure!(
            lines.records + lines.dropped == submitted,
            "{}: {submitted} records were submitted and {lost} lost: {lines}",
            who.name()
        );
        let took = Duration::from_nanos(lines.last_ns.saturating_sub(from_ns));
        Ok(Step { lines, submitted, lost, produced_for, took, is_least: false })
    }

    /// The highest of the rates without a loss, from `from` on up or down: there is a loss at the next.
    fn knee(&mut self, who: Who, from: f64, factor: f64, time: Duration) -> Result<Step> {
        let (mut rate, mut best, mut is_too_much) = (from, None, false);
        loop {
            let step = self.step(who, rate, time, "/dev/null")?;
            if step.is_whole() {
                if is_too_much {
                    return Ok(step);
                }
                if step.offered() < MADE * rate {
                    return Ok(Step { is_least: true, ..step });
                }
                best = Some(step);
                rate /= factor;
            } else {
                if let Some(best) = best {
                    return Ok(best);
                }
                is_too_much = true;
                rate *= factor;
                ensure!(rate > 1000.0, "{}: no rate goes without a loss", who.name());
            }
        }
    }
}

pub(crate) fn measure(peer: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    let mut stage = Stage::new(RING_BYTES, peer)?;
    stage.theirs.0.tell("version")?;
    report.peer = Some(format!("{}, `serde_json::to_writer`", stage.theirs.0.line()?));
    let bytes = Who::ALL.map(|who| check::read_lines(&mut stage, who, effort));
    let [agent, plain, theirs] = bytes;
    let bytes = [agent?, plain?, theirs?];

    let time = STEP.mul_f64(if effort.quick { 0.1 } else { 1.0 });
    let effort = Effort { alternations: effort.alternations.min(5), ..effort };
    let (children, mut from) = (stage.children(), [None; 3]);
    let rounds: Rounds<Step, 3> = effort.rounds(|at, watch| {
        let who = Who::ALL[at];
        let knee = watch.over(&children, || match from[at] {
            // The round that is thrown away.
            None => stage.knee(who, FIRST, COARSE, time / 5),
            Some(from) => stage.knee(who, from, FACTOR, time),
        })?;
        from[at] = Some(knee.rate());
        Ok((who != Who::Peer || knee.had_its_core()).then_some(knee))
    })?;

    let figure = |at: usize, figure: fn(&Step) -> f64| rounds.spread(|round| figure(&round[at]));
    let megas = |at: usize| show(figure(at, |step| step.rate() / 1e6), 2, "M/s");
    let cpu = |at: usize| show(figure(at, Step::cpu_ns), 0, "ns");
    for (at, what) in [
        (
            0,
            "highest rate of records from the kernel to lines of JSON in /dev/null without a loss, put in order and with the names of their threads, core to core; lines without either, by libbpf `ring_buffer__consume` without a pause and `serde_json::to_writer`",
        ),
        (1, "the same without order and names, as the peer"),
    ] {
        let ratio = rounds.spread(|round| round[at].rate() / round[2].rate());
        report.rows.push(Row {
            test: "T15",
            what: what.to_owned(),
            ours: megas(at),
            theirs: megas(2),
            compared: show(ratio, 2, ""),
            goal: Goal::Words("≥ 5 M/s"),
            met: figure(at, Step::rate).is_some_and(|rate| rate.median >= GOAL),
            drops: "0, 0".to_owned(),
            cpu: format!("agent's core per event: {}, {}", cpu(at), cpu(2)),
            turns: format!(
                "{} of {:.1} s ({} disturbed, {} without a whole core)",
                rounds.turns.len(),
                time.as_secs_f64(),
                rounds.disturbed,
                rounds.invalid
            ),
        });
    }
    report.notes.push(format!(
        "T15: a line of ours has {:.0} bytes with the name of its thread, {:.0} without, the peer's {:.0}. What was written in a run of {} \
         records of each was read, every field of every line.",
        bytes[0],
        bytes[1],
        bytes[2],
        READ.0 * READ.1.as_secs_f64() * if effort.quick { 0.1 } else { 1.0 },
    ));
    for (at, who) in Who::ALL.into_iter().enumerate() {
        let least = rounds.turns.iter().filter(|round| round[at].is_least).count();
        if least > 0 {
            report.notes.push(format!(
                "T15, {}: in {least} of {} rounds the producer made no more than was delivered: the knee is that rate at least.",
                who.name(),
                rounds.turns.len()
            ));
        }
        if let Some(knee) = figure(at, Step::rate) {
            report.notes.push(curve(&mut stage, who, knee, time)?);
        }
    }
    Ok(())
}

/// What becomes of records at rates below and above the knee, once each.
fn curve(stage: &mut Stage, who: Who, knee: Spread, time: Duration) -> Result<String> {
    let mut table = format!(
        "T15, {}: what becomes of each offered rate, {:.1} s of it.\n\n\
         | offered | delivered | lost in the ring | dropped before the sink | CPU per event |\n|---|---|---|---|---|",
        who.name(),
        time.as_secs_f64() / 2.0
    );
    for share in CURVE {
        let step = stage.step(who, share * knee.median, time / 2, "/dev/null")?;
        table += &format!(
            "\n| {:.2} M/s | {:.2} M/s | {} | {} | {:.0} ns |",
            step.offered() / 1e6,
            step.rate() / 1e6,
            step.lost,
            step.lines.dropped,
            step.cpu_ns()
        );
    }
    Ok(table)
}

/// A file in memory that other processes open by this name.
fn name_of(fd: RawFd) -> String {
    format!("/proc/{}/fd/{fd}", std::process::id())
}

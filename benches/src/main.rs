//! Side-by-side measurements of kprobe and its peers: one command, a table for each test.
//!
//! Contestants take turns on the same two cores, each in a process of its own unless both are one thread's work, and the
//! number and the contents of every record are checked. A round of turns during which others used the cores is thrown away.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints a table and says what it does"
)]

mod agent;
mod bpf;
mod bpftrace;
mod child;
mod consumer;
mod contest;
mod costs;
mod drained;
mod emitted;
mod filtered;
mod harness;
mod heap;
mod hop;
mod json;
mod lines;
mod machine;
mod outcome;
mod peer;
mod recorder;
mod report;
mod stats;
mod summed;
mod sustained;
mod switches;
mod workload;

use std::{
    os::fd::RawFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    bpftrace::Bpftrace,
    contest::Contest,
    harness::Effort,
    report::{Page, Report},
};

const ALTERNATIONS: usize = 30;

/// Measures kprobe beside its peers and prints tables in markdown. Needs root and two cores.
#[derive(Parser)]
struct Args {
    /// What to measure; all of it if nothing is named.
    tests: Vec<Test>,
    /// Turns of each contestant.
    #[arg(long, default_value_t = ALTERNATIONS)]
    alternations: usize,
    /// A smoke run: 3 short turns, figures that mean nothing.
    #[arg(long)]
    quick: bool,
    /// Install nothing.
    #[arg(long)]
    offline: bool,
    /// Also puts what each test prints into this page, for T1 between the lines `<!-- bench:T1 -->` and
    /// `<!-- bench:T1:end -->`, as soon as it is measured.
    #[arg(long, value_name = "PAGE", conflicts_with = "quick")]
    write: Option<PathBuf>,
    #[command(subcommand)]
    internal: Option<Internal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Test {
    /// Drain a resident ring; vs libbpf.
    T1,
    /// Drain what another core has put into a ring, headers alone; vs libbpf.
    T2,
    /// Sustained hand-off; vs libbpf.
    T3,
    /// Durations of system calls, summed up in the kernel; vs bpftrace `hist`.
    T4,
    /// A record for each system call; vs bpftrace `printf`.
    T5,
    /// A system call that is filtered out; vs an empty pair of programs.
    T6,
    /// Switches and wake-ups, recorded and summed up; vs nothing attached.
    T7,
    /// Events from a thread to a sink; vs crossbeam-channel.
    T8,
    /// The same while another sink hangs; vs without that.
    T9,
    /// Records to lines of JSON; vs `serde_json`.
    T10,
    /// Records of the kernel to lines of JSON; vs libbpf and `serde_json`.
    T15,
    /// The agent at a steady rate, and what the recorded program pays; vs bpftrace `printf`.
    T17,
    /// What each family adds to its event and to other calls.
    Costs,
}

#[derive(Subcommand)]
enum Internal {
    /// Reads a ring for the harness.
    #[command(hide = true)]
    Consumer { core: usize, ring: RawFd, readers: RawFd, program: RawFd },
    /// Makes system calls for the harness.
    #[command(hide = true)]
    Workload { core: usize },
    /// Records system calls for the harness.
    #[command(hide = true)]
    Recorder { core: usize },
    /// Brings events from one thread to another for the harness.
    #[command(hide = true)]
    Hop { core: usize },
    /// Makes lines of the records of a ring for the harness.
    #[command(hide = true)]
    Lines { core: usize, ring: RawFd, readers: RawFd, program: RawFd },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.internal {
        Some(Internal::Consumer { core, ring, readers, program }) => {
            return consumer::serve(core, ring, readers, program);
        }
        Some(Internal::Workload { core }) => return workload::serve(core),
        Some(Internal::Recorder { core }) => return recorder::serve(core),
        Some(Internal::Hop { core }) => return hop::serve(core),
        Some(Internal::Lines { core, ring, readers, program: _ }) => {
            return lines::serve(core, ring, readers);
        }
        None => {}
    }
    ensure!(args.alternations > 0, "--alternations must be at least 1");
    let effort = Effort { alternations: if args.quick { 3 } else { args.alternations }, quick: args.quick };
    let wanted: Vec<Test> = Test::value_variants().iter().copied().filter(|test| args.wants(*test)).collect();
    let mut page = args.write.as_deref().map(Page::open).transpose()?;
    let peers = Peers::install(&wanted, args.offline)?;
    machine::take_precedence()?;
    for test in wanted {
        // Whatever the one before did.
        machine::pin(machine::PRODUCER_CORE)?;
        let name = test.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        eprintln!("{name}");
        let mut report = Report::new(args.command(&name));
        test.measure(&peers, effort, &mut report)?;
        if effort.quick {
            report.notes.push("A smoke run: the figures mean nothing.".to_owned());
        }
        println!("{report}");
        if let Some(page) = &mut page {
            page.write(&name, &report)?;
        }
    }
    Ok(())
}

impl Args {
    fn wants(&self, test: Test) -> bool {
        self.tests.is_empty() || self.tests.contains(&test)
    }

    /// How to measure this test again.
    fn command(&self, test: &str) -> String {
        let mut command = format!("cargo run --release -p kprobe-benches -- {test}");
        if self.quick {
            command += " --quick";
        } else if self.alternations != ALTERNATIONS {
            command += &format!(" --alternations {}", self.alternations);
        }
        command
    }
}

/// Whom the wanted tests compare with.
struct Peers {
    libbpf: Option<PathBuf>,
    bpftrace: Option<Bpftrace>,
    /// No peer: the program that it is compared with.
    agent: Option<PathBuf>,
}

impl Peers {
    fn install(wanted: &[Test], offline: bool) -> Result<Self> {
        let wants = |some: &[Test]| some.iter().any(|test| wanted.contains(test));
        Ok(Self {
            libbpf: wants(&[Test::T1, Test::T2, Test::T3, Test::T15])
                .then(|| peer::build(offline))
                .transpose()?,
            bpftrace: wants(&[Test::T4, Test::T5, Test::T17])
                .then(|| Bpftrace::install(offline))
                .transpose()?,
            agent: wants(&[Test::T17]).then(agent::build).transpose()?,
        })
    }

    fn libbpf(&self) -> Result<&Path> {
        self.libbpf.as_deref().context("libbpf was not built")
    }

    fn agent(&self) -> Result<&Path> {
        self.agent.as_deref().context("the agent was not built")
    }

    fn bpftrace(&self, report: &mut Report) -> Result<&Bpftrace> {
        let bpftrace = self.bpftrace.as_ref().context("bpftrace was not installed")?;
        report.peer = Some(bpftrace.version()?);
        Ok(bpftrace)
    }
}

impl Test {
    fn measure(self, peers: &Peers, effort: Effort, report: &mut Report) -> Result<()> {
        match self {
            Self::T1 => drained::measure_resident(peers.libbpf()?, effort, report)?,
            Self::T2 => drained::measure_routed(peers.libbpf()?, effort, report)?,
            Self::T3 => {
                let mut contest = Contest::new(sustained::RING_BYTES, peers.libbpf()?)?;
                report.peer = Some(contest.peer_version()?);
                let (rows, note) = sustained::measure_rate(&mut contest, effort)?;
                report.rows.extend(rows);
                report.notes.push(note);
                report.rows.extend(sustained::measure_delay(&mut contest, effort)?);
            }
            Self::T4 => {
                let bpftrace = peers.bpftrace(report)?;
                report.add(summed::measure(bpftrace, effort)?);
            }
            Self::T5 => {
                let bpftrace = peers.bpftrace(report)?;
                report.add(emitted::measure(bpftrace, effort)?);
            }
            Self::T6 => report.rows.push(filtered::measure(effort)?),
            Self::T7 => {
                let (rows, note) = switches::measure(effort)?;
                report.rows.extend(rows);
                report.notes.push(note);
            }
            Self::T8 => hop::measure_hop(effort, report)?,
            Self::T9 => hop::measure_stalled(effort, report)?,
            Self::T10 => json::measure(effort, report)?,
            Self::T15 => lines::measure(peers.libbpf()?, effort, report)?,
            Self::T17 => {
                let bpftrace = peers.bpftrace(report)?;
                agent::measure(bpftrace, peers.agent()?, effort, report)?;
            }
            Self::Costs => report.costs = costs::measure(effort)?,
        }
        Ok(())
    }
}

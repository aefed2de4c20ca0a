//! Side-by-side measurements of kprobe and its peers: one command, one table.
//!
//! Contestants take turns on the same two cores, each in a process of its own, and check the number and the contents of
//! every record. A round of turns during which others used the cores is thrown away.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints a table and says what it does"
)]

mod bpf;
mod bpftrace;
mod child;
mod consumer;
mod contest;
mod emitted;
mod filtered;
mod harness;
mod machine;
mod outcome;
mod peer;
mod recorder;
mod report;
mod resident;
mod stats;
mod summed;
mod sustained;
mod switches;
mod workload;

use std::{os::fd::RawFd, path::PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    bpftrace::Bpftrace,
    contest::Contest,
    harness::Effort,
    report::{Page, Report},
};

/// Measures kprobe beside its peers and prints one table in markdown. Needs root and two cores.
#[derive(Parser)]
struct Args {
    /// What to measure; all of it if nothing is named.
    tests: Vec<Test>,
    /// Turns of each contestant.
    #[arg(long, default_value_t = 30)]
    alternations: usize,
    /// A smoke run: 3 short turns, figures that mean nothing.
    #[arg(long)]
    quick: bool,
    /// Install nothing.
    #[arg(long)]
    offline: bool,
    /// Also puts the table into this page, between the lines `<!-- bench:begin -->` and `<!-- bench:end -->`. Only with
    /// all tests.
    #[arg(long, value_name = "PAGE", conflicts_with_all = ["quick", "tests"])]
    write: Option<PathBuf>,
    #[command(subcommand)]
    internal: Option<Internal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Test {
    /// Drain a resident ring; vs libbpf.
    T1,
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
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.internal {
        Some(Internal::Consumer { core, ring, readers, program }) => {
            return consumer::serve(core, ring, readers, program);
        }
        Some(Internal::Workload { core }) => return workload::serve(core),
        Some(Internal::Recorder { core }) => return recorder::serve(core),
        None => {}
    }
    ensure!(args.alternations > 0, "--alternations must be at least 1");
    let effort = Effort { alternations: if args.quick { 3 } else { args.alternations }, quick: args.quick };
    let wants = |test| args.tests.is_empty() || args.tests.contains(&test);
    let page = args.write.as_deref().map(Page::open).transpose()?;
    let needs_libbpf = wants(Test::T1) || wants(Test::T3);
    let libbpf = needs_libbpf.then(|| peer::build(args.offline)).transpose()?;
    let bpftrace =
        (wants(Test::T4) || wants(Test::T5)).then(|| Bpftrace::install(args.offline)).transpose()?;
    machine::take_precedence()?;
    machine::pin(machine::PRODUCER_CORE)?;

    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo run --release -p kprobe-benches -- {}", words.join(" "));
    let command = command.trim_end_matches(" -- ").to_owned();
    let mut report = Report { command, peers: Vec::new(), rows: Vec::new(), notes: Vec::new() };
    if let Some(libbpf) = &libbpf {
        if wants(Test::T1) {
            eprintln!("T1");
            let mut contest = Contest::new(resident::RING_BYTES, libbpf)?;
            report.peers.push(contest.peer_version()?);
            report.rows.push(resident::measure(&mut contest, effort)?);
        }
        if wants(Test::T3) {
            eprintln!("T3");
            let mut contest = Contest::new(sustained::RING_BYTES, libbpf)?;
            report.peers.push(contest.peer_version()?);
            let (rows, note) = sustained::measure_rate(&mut contest, effort)?;
            report.rows.extend(rows);
            report.notes.push(note);
            report.rows.extend(sustained::measure_delay(&mut contest, effort)?);
        }
    }
    if let Some(bpftrace) = &bpftrace {
        report.peers.push(bpftrace.version()?);
        if wants(Test::T4) {
            eprintln!("T4");
            report.add(summed::measure(bpftrace, effort)?);
        }
        if wants(Test::T5) {
            eprintln!("T5");
            report.add(emitted::measure(bpftrace, effort)?);
        }
    }
    if wants(Test::T6) {
        eprintln!("T6");
        report.rows.push(filtered::measure(effort)?);
    }
    if wants(Test::T7) {
        eprintln!("T7");
        report.rows.extend(switches::measure(effort)?);
    }
    report.peers.dedup();
    if effort.quick {
        report.notes.push("A smoke run: the figures mean nothing.".to_owned());
    }
    println!("{report}");
    page.map_or(Ok(()), |page| page.write(&report))
}

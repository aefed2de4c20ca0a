//! `cargo xtask test`: every test of the project behind one command, in tiers by what they need.

mod everywhere;
mod fuzz;
mod invariants;
mod live;
mod package;
mod sanitizers;
mod session;
pub(crate) mod soak;
mod targets;
mod vm;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow};
use clap::ValueEnum;

use crate::{
    sh,
    table::{self, Row},
};

/// What a group of tests needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Nothing but a Rust toolchain: formatting, lints, unit and doc tests, invariants, the object's bytes, packages
    Everywhere,
    /// Root on this kernel: attaches only to processes that the tests start themselves
    Live,
    /// An emulated machine: everything, system-wide, on each of Debian's kernels
    Vm,
    /// A nightly toolchain and cargo-fuzz
    Fuzz,
    /// Root on this kernel, a toolchain with the sanitizers' runtimes, as rustup's are, and one with the sources of the standard library
    Sanitizers,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Everywhere => "everywhere",
            Self::Live => "live",
            Self::Vm => "vm",
            Self::Fuzz => "fuzz",
            Self::Sanitizers => "sanitizers",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Everywhere => {
                "fmt, clippy, unit and doc tests, invariants I1 I3 I5 I7 I10, docs, packages; needs: apt or a nightly with rust-src"
            }
            Self::Live => {
                "test targets named `live` on this kernel, on the tests' own children; needs: root or sudo without password, strace git python3 curl"
            }
            Self::Vm => {
                "test targets named `live` and `vm` in Debian's 6.1, 6.12 and 7.2, and in 5.10 those of the families that are there; needs: qemu-system-x86 busybox-static, kernels from Debian"
            }
            Self::Fuzz => "every target of fuzz/; needs: a nightly toolchain, cargo-fuzz, a C++ compiler",
            Self::Sanitizers => {
                "the unit tests of kprobe-ebpf, the ring among them, and some of its live tests, under AddressSanitizer and ThreadSanitizer; needs: root, a toolchain of rustup's, apt or a nightly with rust-src"
            }
        }
    }

    /// A tier's own way of saying that something is missing here is a row; an error is a fault of the run itself.
    fn rows(self, args: &Args) -> Vec<Row> {
        self.run(args).unwrap_or_else(|error| self.failed(&error))
    }

    fn failed(self, error: &Error) -> Vec<Row> {
        eprintln!("   {}: FAILED: {error:#}", self.name());
        let counts = crate::libtest::Counts { failed: 1, ..Default::default() };
        vec![Row { name: self.name().to_owned(), counts, time: Duration::ZERO, skipped: None }]
    }

    fn run(self, args: &Args) -> Result<Vec<Row>> {
        match self {
            Self::Everywhere => everywhere::run(args),
            Self::Live => live::run(args),
            Self::Vm => vm::run(args),
            Self::Fuzz => fuzz::run(args),
            Self::Sanitizers => sanitizers::run(args),
        }
    }
}

/// The command line of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these tiers; repeat for several
    #[arg(long = "tier", value_enum)]
    tiers: Vec<Tier>,
    /// Install and download nothing but crates: a tier that lacks something else is skipped
    #[arg(long)]
    offline: bool,
    /// Fail when a tier was skipped, or a test ignored that runs in no other tier
    #[arg(long)]
    no_skips: bool,
    /// Say what there is, and run nothing
    #[arg(long)]
    list: bool,
    /// How long each fuzz target runs
    #[arg(long, default_value_t = 30)]
    fuzz_seconds: u64,
    /// How long the tests on one kernel may take, in seconds
    #[arg(long, default_value_t = 1800)]
    vm_timeout: u64,
}

/// Runs the tiers and prints the table; whether all is well. The sums are the last line of all output, whatever the result.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let tiers = if args.tiers.is_empty() { Tier::value_variants() } else { &args.tiers[..] };
    if args.list {
        for tier in tiers {
            println!("{:<10}  {}", tier.name(), tier.about());
        }
        return Ok(true);
    }
    let started = Instant::now();
    let rows = thread::scope(|scope| {
        // With the time of the processors that nobody else wants: what goes wrong there is seen again.
        let of = |tier, ahead: fn(&Args)| {
            tiers.contains(&tier).then(|| scope.spawn(move || at_leisure(|| ahead(args))))
        };
        let (mut for_vm, mut for_sanitizers) = (of(Tier::Vm, vm::ahead), None);
        let (mut rows, mut beside) = (Vec::new(), None);
        for tier in tiers {
            match tier {
                Tier::Vm => {
                    drop(for_vm.take().map(thread::ScopedJoinHandle::join));
                    for_sanitizers = of(Tier::Sanitizers, sanitizers::ahead);
                }
                // It keeps one processor, for so long as it is told.
                Tier::Fuzz if tiers.contains(&Tier::Sanitizers) => {
                    beside = Some(scope.spawn(|| Tier::Fuzz.rows(args)));
                    continue;
                }
                Tier::Sanitizers => drop(for_sanitizers.take().map(thread::ScopedJoinHandle::join)),
                _ => {}
            }
            rows.extend(tier.rows(args));
        }
        if let Some(beside) = beside {
            rows.extend(beside.join().unwrap_or_else(|_| Tier::Fuzz.failed(&anyhow!("it panicked"))));
        }
        rows
    });
    println!("\n{}in all {:.0} s\n", table::render(&rows), started.elapsed().as_secs_f64());
    for row in &rows {
        if let Some(why) = &row.skipped {
            println!("SKIPPED {}: {why}", row.name);
        }
    }
    let failed = rows.iter().any(|row| row.counts.failed > 0);
    // A tier that could not run, and a test that a harness ignored and no other tier runs.
    let forbidden = args.no_skips && rows.iter().any(|row| row.counts.skipped > 0);
    if forbidden {
        println!("FAILED: something was skipped or ignored, and --no-skips forbids it");
    }
    println!("{}", table::last_line(&rows));
    Ok(!failed && !forbidden)
}

/// Gives way to whoever else wants a processor: this thread, and what it starts.
fn at_leisure(run: impl FnOnce()) {
    let _unchanged = rustix::process::setpriority_process(None, 19);
    run();
}

/// The quick look before a commit: formatting, lints, unit tests.
pub(crate) fn check() -> Result<bool> {
    for mut cmd in [everywhere::fmt(None), everywhere::clippy(), everywhere::unit_tests()] {
        eprintln!("xtask: {}", sh::line(&cmd));
        sh::run(&mut cmd)?;
    }
    Ok(true)
}

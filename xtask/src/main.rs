//! Developer commands of kprobe: `cargo xtask help`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people: what it says is its output"
)]

mod cache;
mod debian;
mod devices;
mod ebpf;
mod facts;
mod initramfs;
mod install;
mod kernels;
mod libtest;
mod object;
mod repo;
mod sh;
mod table;
mod tiers;
mod toolchain;
mod vm;
mod vm_command;
mod wrapper;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::{
    cache::Cache,
    toolchain::{Choice, Toolchain},
};

/// Developer commands of kprobe
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Build the kernel programs into kprobe-ebpf/object
    BuildEbpf {
        /// Rebuild from nothing elsewhere and fail on one byte of difference
        #[arg(long)]
        check: bool,
        /// What compiles them
        #[arg(long, value_enum, default_value_t = Choice::Auto)]
        toolchain: Choice,
    },
    /// Formatting, lints and unit tests: the quick look before a commit
    Check,
    /// Run all tests; installs what a tier lacks, saying what and why
    Test(tiers::Args),
    /// Record a paced workload for minutes while destinations die, and see that nothing is lost and nothing grows
    Soak(tiers::soak::Args),
    /// Put what the tests in emulated machines found out about each kernel into docs/src/kernels.md
    Facts,
    /// Boot a Debian kernel in an emulated machine and run a command in it as root
    Vm(vm_command::Args),
}

fn main() -> ExitCode {
    if std::env::var_os(wrapper::MARK).is_some() {
        return wrapper::exec();
    }
    match run(&Command::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        // It has said why.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well; an error is what nobody has reported yet.
fn run(command: &Command) -> Result<bool> {
    match command {
        Command::BuildEbpf { check, toolchain } => {
            let toolchain = Toolchain::prepare(*toolchain, &Cache::open()?, false)?;
            if *check {
                ebpf::check(&toolchain)?;
            } else {
                ebpf::build(&toolchain)?;
            }
            Ok(true)
        }
        Command::Check => tiers::check(),
        Command::Test(args) => tiers::run(args),
        Command::Soak(args) => tiers::soak::run(args),
        Command::Facts => facts::write().map(|()| true),
        Command::Vm(args) => vm_command::run(args).map(|()| true),
    }
}

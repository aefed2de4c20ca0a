//! The soak: minutes of a paced workload while destinations die. `cargo xtask soak` builds and runs it, here or in an emulated
//! machine; a test of the target `live` runs the same for some seconds.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of system calls, pids and descriptors are small"
)]
#![expect(clippy::print_stdout, reason = "what it says is its output")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the tests share the support")]

#[path = "../support/mod.rs"]
mod support;

mod workloads {
    //! It has none of its own.

    pub fn run(name: &str, _: &[u64]) {
        panic!("no workload {name}");
    }
}

use std::{process::ExitCode, time::Duration};

use support::{child, fact, soak, workload};

/// `soak SECONDS RATE`
fn main() -> ExitCode {
    if let Ok(command) = std::env::var(child::WORKLOAD) {
        workload::run(&command);
    }
    let numbers: Vec<u64> = std::env::args().skip(1).map_while(|word| word.parse().ok()).collect();
    let [seconds, rate] = numbers[..] else {
        // As one of all test targets: it takes too long for that.
        println!("nothing done: `cargo xtask soak` runs it");
        return ExitCode::SUCCESS;
    };
    let outcome = soak::run(&soak::Soak {
        rate,
        length: Duration::from_secs(seconds),
        every: Duration::from_secs(20),
        away: Duration::from_secs(4),
        // Also the default: what comes in 2 s at 50,000 a second, so that it is full each time.
        queue_bytes: 16 << 20,
    });
    for figure in &outcome.figures {
        println!("{figure}");
    }
    let mut failed = 0;
    for check in outcome.books.iter().chain(&outcome.growth) {
        println!("{}: {}", if check.holds { "ok" } else { "FAILED" }, check.said);
        failed += u32::from(!check.holds);
    }
    if outcome.growth.is_empty() {
        println!("whether anything grows was not looked at: for that it has to run for 7 minutes at least");
    }
    fact(&outcome.fact);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

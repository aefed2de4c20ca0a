//! Tests that record a whole machine, or end a recorder by force: they run in emulated machines (`KPROBE_VM=1`).
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of system calls, pids and descriptors are small"
)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the test targets share the support")]

#[path = "../support/mod.rs"]
mod support;

mod block;
mod changes;
mod end;
mod irq;
mod ladders;
mod memory;
mod older;
mod path;
mod privacy;
mod privilege;
mod references;
mod secrets;
mod system;
mod wait;
mod workloads;

fn main() {
    let trials = [
        system::trials(),
        ladders::trials(),
        privilege::trials(),
        older::trials(),
        end::trials(),
        privacy::trials(),
        block::trials(),
        wait::trials(),
        path::trials(),
        irq::trials(),
        changes::trials(),
        memory::trials(),
        references::trials(),
    ];
    // Elsewhere there is nothing to run: recording a whole machine is for machines of our own.
    let trials = trials.into_iter().flatten().map(|trial| trial.with_ignored_flag(!support::in_vm()));
    support::main(trials.collect());
}

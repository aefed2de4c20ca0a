//! Tests on the running kernel, as root. Each records processes that it started itself, and nothing else.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of system calls, pids and descriptors are small"
)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the test targets share the support")]

#[path = "../support/mod.rs"]
mod support;

mod aggregates;
mod attaching;
mod block;
mod counts;
mod custom;
mod driving;
mod errors;
mod filters;
mod irq;
mod life;
mod lock;
mod losses;
mod memory;
mod path;
mod pipe;
mod pipeline;
mod retuning;
mod rungs;
mod sampling;
mod sched;
mod security;
mod soak;
mod syscalls;
mod tcp;
mod udp;
mod unix;
mod usage;
mod wait;
mod workloads;

fn main() {
    let trials = [
        counts::trials(),
        syscalls::trials(),
        life::trials(),
        sched::trials(),
        lock::trials(),
        security::trials(),
        memory::trials(),
        path::trials(),
        pipe::trials(),
        unix::trials(),
        wait::trials(),
        block::trials(),
        tcp::trials(),
        udp::trials(),
        irq::trials(),
        filters::trials(),
        sampling::trials(),
        retuning::trials(),
        aggregates::trials(),
        losses::trials(),
        driving::trials(),
        pipeline::trials(),
        soak::trials(),
        rungs::trials(),
        custom::trials(),
        attaching::trials(),
        usage::trials(),
        errors::trials(),
    ];
    support::main(trials.into_iter().flatten().collect());
}

use kprobe_core::{
    abi::{Kind, Lost},
    pipeline::BatchBuf,
};

use super::{
    counters::CpuStates,
    own::{Own, OwnRecords},
};

/// Puts a `meta.lost` record into the stream for every loss that is new, with the time of the last lost record, so that
/// it comes to stand where the records are missing.
pub(super) fn put(cpus: &CpuStates, own: &mut OwnRecords, out: &mut BatchBuf) {
    cpus.take_losses(|loss| {
        let body = Lost {
            count: loss.count,
            first_ns: loss.first_ns,
            last_ns: loss.last_ns,
            kind: loss.kind.0,
            cpu: loss.cpu,
            flags: 0,
        };
        own.push(&Own::new(Kind::META_LOST, loss.last_ns, body), out);
    });
}

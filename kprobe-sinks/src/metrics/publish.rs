use std::collections::BTreeMap;

use kprobe_core::pipeline::{Finished, Health, Ledger, ProbeRow, Seen, SinkRow, SinkStatus, StageRow};

use super::table::{self, METRICS, Metric};

/// Tells the recorder what each metric means. Once, before the first is published; a recorder that was installed later has
/// not heard it.
pub fn describe() {
    METRICS.iter().for_each(Metric::describe);
}

/// Publishes what a [`Monitor`](kprobe_core::pipeline::Monitor) has seen. With `None`, because the pipeline did not answer,
/// `kprobe_pipeline_up` is 0 and the rest stays as it was.
///
/// Probes are summed over their CPUs: with a label for them a machine with 128 would have thousands of series, and what a CPU
/// lost is in the stream and in the ledger.
pub fn publish(seen: Option<&Seen>) {
    table::UP.now([], f64::from(u8::from(seen.is_some())));
    if let Some(seen) = seen {
        table::COMPLETE_UNTIL.now([], seconds(seen.complete_until_ns));
        books(&seen.ledger, &seen.sinks);
    }
}

/// Publishes the last books of a pipeline, which nobody can look at any more.
pub fn publish_finished(done: &Finished) {
    table::UP.now([], 0.0);
    books(&done.ledger, &done.sinks);
}

fn books(ledger: &Ledger, sinks: &[SinkStatus]) {
    table::BALANCE.now([], float(ledger.balance));
    table::UNCOUNTED.total([], ledger.uncounted);
    probes(&ledger.probes);
    stages(&ledger.stages);
    ledger.sinks.iter().for_each(sink);
    sinks.iter().for_each(status);
}

fn probes(rows: &[ProbeRow]) {
    let mut sums: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry(&row.probe).or_default();
        let counts = [row.submitted, row.lost, row.sampled_out];
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    for (probe, [submitted, lost, sampled_out]) in sums {
        table::SUBMITTED.total([probe], submitted);
        table::LOST.total([probe], lost);
        table::SAMPLED_OUT.total([probe], sampled_out);
    }
}

fn stages(rows: &[StageRow]) {
    for (at, row) in rows.iter().enumerate() {
        // Two of one name are told apart as two sinks are.
        let before = rows[..at].iter().filter(|other| other.stage == row.stage).count();
        match before {
            0 => stage(&row.stage, row),
            _ => stage(&format!("{}#{}", row.stage, before + 1), row),
        }
    }
}

fn stage(name: &str, row: &StageRow) {
    table::STAGE_RECEIVED.total([name], row.received);
    table::STAGE_ADDED.total([name], row.added);
    table::STAGE_DELIVERED.total([name], row.delivered);
    table::STAGE_UNDECODABLE.total([name], row.undecodable);
    table::STAGE_HELD.now([name], float(row.held));
    row.dropped.iter().for_each(|(reason, count)| table::STAGE_DROPPED.total([name, reason], *count));
    row.counts.iter().for_each(|(what, count)| table::STAGE_COUNTED.total([name, what], *count));
}

fn sink(row: &SinkRow) {
    let name = row.sink.as_str();
    table::SINK_RECEIVED.total([name], row.received);
    table::SINK_RECOVERED.total([name], row.recovered);
    table::SINK_DELIVERED.total([name], row.delivered);
    table::SINK_HELD.now([name], float(row.held));
    // A series that begins with its first drop shows no increase.
    for reason in SinkRow::REASONS {
        table::SINK_DROPPED.total([name, reason], 0);
    }
    row.dropped.iter().for_each(|(reason, count)| table::SINK_DROPPED.total([name, reason], *count));
}

fn status(status: &SinkStatus) {
    let name = status.sink.as_str();
    table::SINK_BATCHES.total([name], status.batches);
    table::SINK_QUEUE.now([name], float(status.waiting_bytes as u64));
    table::SINK_SPILL.now([name], float(status.spilled_bytes));
    table::SINK_LAG.now([name], seconds(status.lag_ns));
    let state = match status.health {
        Health::Good => "good",
        Health::Failing(_) => "failing",
        // There is no way back from what is not known here.
        _ => "ended",
    };
    for other in ["good", "failing", "ended"] {
        table::SINK_HEALTH.now([name, other], f64::from(u8::from(other == state)));
    }
}

/// Exact up to 2^53, and the nearest beyond.
fn float(count: u64) -> f64 {
    count as f64
}

fn seconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

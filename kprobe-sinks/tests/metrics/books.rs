//! What is scraped is what the books say, to the record.

use std::collections::BTreeMap;

use kprobe_core::{
    pipeline::{Enriched, Filter, Health, Ledger, Policy, Seen, SinkRow, SinkStatus},
    process::ProcessTable,
};

use super::{
    exposition,
    support::{BOOT, Feeding, Mood, any_port, endpoint, get, moody, quick, running, until},
};

/// Each series by its name and labels.
type Page = BTreeMap<String, f64>;

fn series(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    format!("{name} {labels:?}")
}

fn scraped(text: &str) -> Page {
    let families = exposition::read(text);
    let all = families.iter().flat_map(|(name, family)| {
        family.series.iter().map(move |(labels, value)| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            (series(name, &labels), *value)
        })
    });
    all.collect()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn float(count: u64) -> f64 {
    count as f64
}

/// What the page has to show of this: nothing more, nothing less.
fn expected(ledger: &Ledger, sinks: &[SinkStatus], until_ns: u64, up: f64) -> Page {
    let mut page = Page::new();
    let mut put = |name: &str, labels: &[(&str, &str)], value: f64| {
        *page.entry(series(name, labels)).or_default() += value;
    };
    put("kprobe_pipeline_up", &[], up);
    put("kprobe_source_complete_until_seconds", &[], float(until_ns) / 1e9);
    put("kprobe_ledger_balance_records", &[], float(ledger.balance));
    put("kprobe_events_uncounted_total", &[], float(ledger.uncounted));
    for row in &ledger.probes {
        let probe = [("probe", row.probe.as_str())];
        put("kprobe_probe_records_submitted_total", &probe, float(row.submitted));
        put("kprobe_probe_records_lost_total", &probe, float(row.lost));
        put("kprobe_probe_records_sampled_out_total", &probe, float(row.sampled_out));
    }
    for (at, row) in ledger.stages.iter().enumerate() {
        // The last two have one name.
        let name = if at + 1 == ledger.stages.len() { "picky#2" } else { row.stage.as_str() };
        let stage = ("stage", name);
        put("kprobe_stage_records_received_total", &[stage], float(row.received));
        put("kprobe_stage_records_added_total", &[stage], float(row.added));
        put("kprobe_stage_records_delivered_total", &[stage], float(row.delivered));
        put("kprobe_stage_records_undecodable_total", &[stage], float(row.undecodable));
        put("kprobe_stage_records_held", &[stage], float(row.held));
        for (reason, count) in &row.dropped {
            put("kprobe_stage_records_dropped_total", &[stage, ("reason", reason)], float(*count));
        }
        for (what, count) in &row.counts {
            put("kprobe_stage_counted_total", &[stage, ("what", what)], float(*count));
        }
    }
    for row in &ledger.sinks {
        let sink = ("sink", row.sink.as_str());
        put("kprobe_sink_records_received_total", &[sink], float(row.received));
        put("kprobe_sink_records_recovered_total", &[sink], float(row.recovered));
        put("kprobe_sink_records_delivered_total", &[sink], float(row.delivered));
        put("kprobe_sink_records_held", &[sink], float(row.held));
        for reason in SinkRow::REASONS {
            put("kprobe_sink_records_dropped_total", &[sink, ("reason", reason)], 0.0);
        }
        for (reason, count) in &row.dropped {
            put("kprobe_sink_records_dropped_total", &[sink, ("reason", reason)], float(*count));
        }
    }
    for status in sinks {
        let sink = ("sink", status.sink.as_str());
        put("kprobe_sink_batches_delivered_total", &[sink], float(status.batches));
        put("kprobe_sink_queue_bytes", &[sink], float(status.waiting_bytes as u64));
        put("kprobe_sink_spill_bytes", &[sink], float(status.spilled_bytes));
        put("kprobe_sink_lag_seconds", &[sink], float(status.lag_ns) / 1e9);
        let health = match status.health {
            Health::Good => [1.0, 0.0, 0.0],
            Health::Failing(_) => [0.0, 1.0, 0.0],
            _ => [0.0, 0.0, 1.0],
        };
        for (state, is) in ["good", "failing", "ended"].into_iter().zip(health) {
            put("kprobe_sink_health", &[sink, ("state", state)], is);
        }
    }
    page
}

/// A sink that takes everything, one that is gone for now and drops, one that is gone for now and spills, one that has failed.
#[test]
fn what_is_scraped_is_what_the_books_say() {
    const ODD: &str = "odd \"sink\"\n";
    let folder = tempfile::tempdir().unwrap();
    let takes = moody(ODD, Mood::Takes);
    let drops = moody("drops", Mood::Refuses("not now"));
    let spills = moody("spills", Mood::Refuses("not there"));
    let fails = moody("fails", Mood::Fails);
    let spill = Policy::Spill { dir: folder.path().to_owned(), max_bytes: 8 << 20 };
    let (small, spilled) = (quick().queue_bytes(1 << 10), spills.clone());
    let run = running(|builder| {
        let picky = |one: &Enriched<'_>| one.record.header().tgid % 4 != 1;
        let pickier = |one: &Enriched<'_>| one.record.header().tgid % 4 != 2;
        builder
            .stage(ProcessTable::new(BOOT))
            .stage(Filter::by("picky", picky))
            .stage(Filter::by("picky", pickier).drops_as("not liked"))
            .raw_sink_with(drops.clone(), small.policy(Policy::DropNewest))
            .sink_with(takes, quick())
            .sink_with(spilled, quick().policy(spill))
            .sink_with(fails, quick())
    });
    let server = endpoint(&run).start(any_port()).unwrap();

    // More than a spilling sink has read ahead of it, so that some are on disk. Batches that neighbours in time do not share: each has its own place in a queue.
    for (records, all) in
        [(7, 7), (5, 12), (100, 112), (1, 113), (40, 153), (4, 157), (4, 161), (4, 165), (4, 169), (4, 173)]
    {
        run.give(records);
        run.until(|seen| seen.complete_until_ns == all);
    }
    run.feed.send(Feeding::Damaged(3)).unwrap();
    let row = |seen: &Seen, name| seen.ledger.sinks.iter().find(|row| row.sink == name).cloned().unwrap();
    let status = |seen: &Seen, name| seen.sinks.iter().find(|sink| sink.sink == name).cloned().unwrap();
    run.until(|seen| {
        seen.complete_until_ns == 176
            && row(seen, ODD).held == 0
            && row(seen, "fails").held == 0
            && status(seen, "spills").spilled_bytes > 0
    });
    // Between two looks that are the same nothing has happened.
    let quiet = || {
        until("a quiet moment", || {
            let before = run.seen();
            let page = get(server.address(), "/metrics");
            (before == run.seen()).then_some((page, before))
        })
    };
    let (page, seen) = quiet();
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(scraped(&page.body), expected(&seen.ledger, &seen.sinks, seen.complete_until_ns, 1.0));
    // All that can happen has happened.
    assert_eq!(seen.ledger.balance, 0);
    assert_eq!((seen.ledger.submitted(), seen.ledger.lost()), (2 * 173 + 3, 173));
    assert_eq!(seen.ledger.undecodable, 3);
    assert!(row(&seen, "drops").dropped["queue_full"] > 0 && row(&seen, "drops").held > 0);
    assert!(row(&seen, "spills").held > 0 && status(&seen, "spills").lag_ns > 0);
    assert!(row(&seen, "fails").dropped["failed"] > 0);
    assert_eq!(status(&seen, "fails").health, Health::Ended("never again".to_owned()));
    assert!(
        seen.ledger.stages[2].dropped["filtered_out"] > 0 && seen.ledger.stages[3].dropped["not liked"] > 0
    );
    assert_eq!(seen.sinks.iter().filter(|sink| matches!(sink.health, Health::Failing(_))).count(), 2);

    // They are back: what waited has come, and the page says so.
    drops.becomes(Mood::Takes);
    spills.becomes(Mood::Takes);
    run.until(|seen| seen.ledger.sinks.iter().all(|row| row.held == 0));
    let (page, seen) = quiet();
    assert_eq!(scraped(&page.body), expected(&seen.ledger, &seen.sinks, seen.complete_until_ns, 1.0));
    assert_eq!(row(&seen, "spills").delivered, row(&seen, ODD).delivered);

    // The end, with what was dropped there.
    drops.becomes(Mood::Refuses("gone for good"));
    run.give(2);
    run.until(|seen| row(seen, "drops").held == 2 && row(seen, ODD).held == 0);
    let until_ns = quiet().1.complete_until_ns;
    let done = run.finish();
    server.finished(&done);
    assert_eq!(done.ledger.sinks[0].dropped["shutdown"], 2);
    for _ in 0..2 {
        let page = get(server.address(), "/metrics");
        assert_eq!(scraped(&page.body), expected(&done.ledger, &done.sinks, until_ns, 0.0));
    }
}

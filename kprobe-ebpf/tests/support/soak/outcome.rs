//! Whether what arrived is what was recorded, and what it took.

use std::collections::{BTreeMap, BTreeSet};

use kprobe_core::pipeline::{Finished, GapReport};
use kprobe_ebpf::host::{self, Usage};
use serde_json::json;

use super::{
    Seen, Soak,
    sinks::Numbers,
    store::Received,
    watch::{Most, Watch},
};

/// What is left of a soak.
pub(super) struct Evidence {
    pub(super) soak: Soak,
    /// The last words of the workload.
    pub(super) paced: String,
    pub(super) done: Finished,
    pub(super) numbers: BTreeMap<u16, Numbers>,
    pub(super) troubles: BTreeSet<String>,
    pub(super) seen: Seen,
    pub(super) watch: Watch,
    pub(super) usage: Usage,
    pub(super) idle_percent: u64,
    /// By the healthy sink, and by the servers of the spilling and the dropping one.
    pub(super) received: [Received; 3],
}

/// Something that must hold, and whether it does.
#[derive(Clone, Debug)]
pub struct Check {
    pub holds: bool,
    pub said: String,
}

/// The result.
#[derive(Debug)]
pub struct Outcome {
    /// What holds for every soak.
    pub books: Vec<Check>,
    /// What only a long one can show: that nothing grows. Nothing in a shorter one.
    pub growth: Vec<Check>,
    pub fact: serde_json::Value,
    /// For people.
    pub figures: Vec<String>,
}

/// What the workload did.
struct Paced {
    calls: u64,
    elapsed_ns: u64,
    in_calls_ns: u64,
    cpu_ns: u64,
}

impl Paced {
    fn of(line: &str) -> Self {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [calls, elapsed_ns, in_calls_ns, cpu_ns] = numbers[..] else { panic!("{line}") };
        Self { calls, elapsed_ns, in_calls_ns, cpu_ns }
    }

    fn rate(&self) -> u64 {
        self.calls * 1000 / (self.elapsed_ns / 1_000_000).max(1)
    }
}

/// With fewer the most that waited is still a matter of chance: with 12 the halves differed by 2.4 MiB once.
const ENOUGH_DEATHS: u64 = 20;
const MIB: u64 = 1 << 20;

impl Evidence {
    pub(super) fn judge(self) -> Outcome {
        let paced = Paced::of(&self.paced);
        let books = self.books(&paced);
        let growth = self.growth();
        let [first, second] = self.watch.halves();
        let [healthy, spilled, kept] = &self.received;
        let ledger = &self.done.ledger;
        let missing_batches = healthy.batches.len() - kept.batches.len();
        let release = host::kernel_release().map(|release| release.to_string()).unwrap_or_default();
        let fact = json!({
            "fact": "soak", "kernel": release, "emulated": super::super::in_vm(),
            "seconds": self.soak.length.as_secs(), "dies_every_s": self.soak.every.as_secs_f64(),
            "away_s": self.soak.away.as_secs_f64(), "deaths": self.seen.deaths,
            "rate_asked": self.soak.rate, "rate_made": paced.rate(), "calls": paced.calls,
            "ns_per_call": paced.in_calls_ns / paced.calls.max(1), "idle_percent": self.idle_percent,
            "records": healthy.records(), "batches": healthy.batches.len(),
            "lost": ledger.lost(), "balance": ledger.balance,
            "spilled_most_bytes": self.seen.most_spilled_bytes, "spilling_again": spilled.again,
            "dropped": healthy.records() - kept.records(), "dropped_batches": missing_batches,
            "dropping_again": kept.again,
            "rss_bytes": [first.rss_bytes, second.rss_bytes], "peak_rss_bytes": self.usage.peak_rss_bytes,
            "threads": [first.threads, second.threads], "descriptors": [first.descriptors, second.descriptors],
            "cpu_ns": self.usage.cpu_ns, "workload_cpu_ns": paced.cpu_ns,
            "failed": books.iter().chain(&growth).filter(|check| !check.holds).count(),
        });
        let seconds = |ns: u64| ns as f64 / 1e9;
        let figures = vec![
            format!("kernel {release}{}", if super::super::in_vm() { ", emulated" } else { "" }),
            format!(
                "{} calls in {:.1} s: {} a second, {} asked for; a call took {} ns, and the processors had nothing to do for {} % of the time",
                paced.calls,
                seconds(paced.elapsed_ns),
                paced.rate(),
                self.soak.rate,
                paced.in_calls_ns / paced.calls.max(1),
                self.idle_percent
            ),
            format!(
                "{} deaths; at most {} KiB on disk; {} batches came twice to the server of the spilling sink and {} to that of the dropping one",
                self.seen.deaths,
                self.seen.most_spilled_bytes >> 10,
                spilled.again,
                kept.again
            ),
            format!("this process: {}; the workload: {:.1} s of CPU time", self.usage, seconds(paced.cpu_ns)),
        ];
        Outcome { books, growth, fact, figures }
    }

    fn books(&self, paced: &Paced) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut check = |holds: bool, said: String| checks.push(Check { holds, said });
        let ledger = &self.done.ledger;
        let [of_healthy, of_spilling, of_dropping] = &ledger.sinks[..] else {
            panic!("three sinks: {ledger}")
        };
        let [healthy, spilled, kept] = &self.received;
        let records = healthy.records();

        check(ledger.balance == 0, format!("the balance is {}", ledger.balance));
        check(ledger.lost() == 0, format!("the kernel lost {}", ledger.lost()));
        let agree = self.done.gaps.iter().all(GapReport::agrees);
        check(agree, format!("no gap in the record numbers of {} CPUs", self.done.gaps.len()));
        check(paced.calls > 0 && healthy.calls() == paced.calls, {
            format!("{} calls were made, and the healthy sink has {}", paced.calls, healthy.calls())
        });
        let whole = !self.numbers.is_empty() && self.numbers.values().all(|numbers| numbers.are_whole());
        check(whole, format!("it has each record number once: {:?}", self.numbers));
        let all = (of_healthy.delivered, of_healthy.held, of_healthy.dropped.len()) == (records, 0, 0);
        check(
            all && of_healthy.received == records,
            format!("{records} records, as its books say: {of_healthy:?}"),
        );
        let places = healthy.batches.keys().copied().eq(0..healthy.batches.len() as u64);
        let well = places && healthy.again == 0 && healthy.wrong.is_empty();
        check(well, format!("in {} batches, none of them missing or twice", healthy.batches.len()));

        check(self.seen.deaths > 0 && self.seen.most_spilled_bytes > 0, {
            format!("the servers died {} times, and there was a spill", self.seen.deaths)
        });
        let same = spilled.batches == healthy.batches && spilled.wrong.is_empty();
        check(same, {
            format!(
                "the server of the spilling sink has the same {} batches, once by their ids",
                spilled.batches.len()
            )
        });
        let all = (of_spilling.delivered, of_spilling.held, of_spilling.dropped.len()) == (records, 0, 0);
        check(all, format!("as its books say: {of_spilling:?}"));

        // Each that arrived is one that was given, and what did not arrive is what the books say.
        let same = kept.batches.iter().all(|(place, batch)| healthy.batches.get(place) == Some(batch));
        let missing = records - kept.records();
        let dropped = of_dropping.dropped.get("queue_full").copied().unwrap_or(0);
        check(same && kept.wrong.is_empty(), {
            format!(
                "the server of the dropping sink has {} of these batches, once by their ids",
                kept.batches.len()
            )
        });
        check(missing > 0 && missing == dropped && of_dropping.dropped.len() == 1, {
            format!("it lacks {missing} records, and the books say that {dropped} were dropped")
        });
        let rest = (of_dropping.delivered, of_dropping.held) == (kept.records(), 0);
        check(rest, format!("and that the others were delivered: {of_dropping:?}"));
        check(spilled.again > 0 && kept.again > 0, {
            format!("batches came again, {} and {}, as they had come before", spilled.again, kept.again)
        });
        let told = |name: &str| self.troubles.iter().any(|trouble| trouble.starts_with(name));
        let known = self
            .troubles
            .iter()
            .all(|trouble| trouble.starts_with("spilling: ") || trouble.starts_with("dropping: "));
        check(
            known && told("spilling: ") && told("dropping: "),
            format!("what was told: {:?}", self.troubles),
        );
        checks
    }

    /// How much may be between the two halves: each has the same deaths, so the most that waits is the same, and of what is
    /// always there nothing depends on time. What is left is the allocator, and the kernel's own count of pages, which is off by some
    /// hundred KiB for each CPU. 3 % and 1 MiB are a few bytes for each batch: what is kept of each is far more in ten minutes.
    fn growth(&self) -> Vec<Check> {
        let [first, second] = self.watch.halves();
        let Most { rss_bytes, threads, descriptors } = first;
        let bound = rss_bytes + rss_bytes * 3 / 100 + MIB;
        if self.seen.deaths < ENOUGH_DEATHS {
            return Vec::new();
        }
        vec![
            Check {
                holds: second.rss_bytes <= bound,
                said: format!(
                    "at most {} KiB were resident in the first half and {} in the second, of which {} may be",
                    rss_bytes >> 10,
                    second.rss_bytes >> 10,
                    bound >> 10
                ),
            },
            Check {
                holds: second.threads <= threads,
                said: format!(
                    "at most {threads} threads in the first half and {} in the second",
                    second.threads
                ),
            },
            // A file of the spill more or less; a descriptor for each death would be a dozen.
            Check {
                holds: second.descriptors <= descriptors + 3,
                said: format!(
                    "at most {descriptors} descriptors in the first half and {} in the second",
                    second.descriptors
                ),
            },
        ]
    }
}

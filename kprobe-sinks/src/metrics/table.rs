use ::metrics::{Key, KeyName, Label, Level, Metadata, Unit, with_recorder};

/// A metric that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, which ends with its unit; that of a counter with `_total`.
    pub name: &'static str,
    /// Whether it can go down.
    pub kind: MetricKind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
    unit: Unit,
}

/// What kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Since the pipeline began; never goes down.
    Counter,
    /// At this moment.
    Gauge,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, help, unit: Unit::Count }
}

const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, help, unit }
}

pub(super) const UP: Metric = gauge(
    "kprobe_pipeline_up",
    Unit::Count,
    &[],
    "1 if the pipeline answers; 0 if it is over or stuck, and then everything else is as it was last seen",
);
pub(super) const COMPLETE_UNTIL: Metric = gauge(
    "kprobe_source_complete_until_seconds",
    Unit::Seconds,
    &[],
    "every record up to this time has come from the source, by the monotonic clock of its host",
);
pub(super) const BALANCE: Metric = gauge(
    "kprobe_ledger_balance_records",
    Unit::Count,
    &[],
    "sum of all differences in the books; anything but 0 is a bug",
);
pub(super) const UNCOUNTED: Metric = counter(
    "kprobe_events_uncounted_total",
    &[],
    "events that should have been summed up in the kernel and are in no sum, for want of room",
);

pub(super) const SUBMITTED: Metric = counter(
    "kprobe_probe_records_submitted_total",
    &["probe"],
    "records that passed every filter, over all CPUs, those that were then lost among them",
);
pub(super) const LOST: Metric = counter(
    "kprobe_probe_records_lost_total",
    &["probe"],
    "records that the kernel had no room for, over all CPUs",
);
pub(super) const SAMPLED_OUT: Metric = counter(
    "kprobe_probe_records_sampled_out_total",
    &["probe"],
    "records that sampling left out, over all CPUs; not among those submitted",
);

pub(super) const STAGE_RECEIVED: Metric =
    counter("kprobe_stage_records_received_total", &["stage"], "records that the stage was given");
pub(super) const STAGE_ADDED: Metric =
    counter("kprobe_stage_records_added_total", &["stage"], "records that the stage made itself");
pub(super) const STAGE_DELIVERED: Metric =
    counter("kprobe_stage_records_delivered_total", &["stage"], "records that the stage passed on");
pub(super) const STAGE_DROPPED: Metric = counter(
    "kprobe_stage_records_dropped_total",
    &["stage", "reason"],
    "records that the stage dropped, by reason",
);
pub(super) const STAGE_UNDECODABLE: Metric = counter(
    "kprobe_stage_records_undecodable_total",
    &["stage"],
    "records whose bytes were not what their kind says, and which the stage took out",
);
pub(super) const STAGE_HELD: Metric =
    gauge("kprobe_stage_records_held", Unit::Count, &["stage"], "records that the stage keeps for now");
pub(super) const STAGE_COUNTED: Metric = counter(
    "kprobe_stage_counted_total",
    &["stage", "what"],
    "what else the stage counted; no part of the balance",
);

pub(super) const SINK_RECEIVED: Metric = counter(
    "kprobe_sink_records_received_total",
    &["sink"],
    "records that the sink was to get, whether or not its queue had room for them",
);
pub(super) const SINK_RECOVERED: Metric = counter(
    "kprobe_sink_records_recovered_total",
    &["sink"],
    "records that an earlier run left on disk for the sink; not among those received",
);
pub(super) const SINK_DELIVERED: Metric =
    counter("kprobe_sink_records_delivered_total", &["sink"], "records that reached the sink's destination");
pub(super) const SINK_DROPPED: Metric = counter(
    "kprobe_sink_records_dropped_total",
    &["sink", "reason"],
    "records dropped by the sink or in front of it, by reason",
);
pub(super) const SINK_HELD: Metric = gauge(
    "kprobe_sink_records_held",
    Unit::Count,
    &["sink"],
    "records that wait for the sink, in memory and on disk, or that it has not brought to their destination yet",
);
pub(super) const SINK_BATCHES: Metric =
    counter("kprobe_sink_batches_delivered_total", &["sink"], "batches that the sink has flushed");
pub(super) const SINK_QUEUE: Metric = gauge(
    "kprobe_sink_queue_bytes",
    Unit::Bytes,
    &["sink"],
    "bytes of records and contexts in the sink's queue, and of the batch it works on",
);
pub(super) const SINK_SPILL: Metric = gauge(
    "kprobe_sink_spill_bytes",
    Unit::Bytes,
    &["sink"],
    "bytes of all files of the sink's spill; 0 without one",
);
pub(super) const SINK_LAG: Metric = gauge(
    "kprobe_sink_lag_seconds",
    Unit::Seconds,
    &["sink"],
    "how far the sink is behind the source; 0 if everything that it was given is delivered",
);
pub(super) const SINK_HEALTH: Metric = gauge(
    "kprobe_sink_health",
    Unit::Count,
    &["sink", "state"],
    "1 for the state that the sink is in, 0 for the others: good, failing (it is tried again) or ended (it gets nothing more)",
);

/// All that is published, in the order of the documentation.
pub const METRICS: &[Metric] = &[
    UP,
    COMPLETE_UNTIL,
    BALANCE,
    UNCOUNTED,
    SUBMITTED,
    LOST,
    SAMPLED_OUT,
    STAGE_RECEIVED,
    STAGE_ADDED,
    STAGE_DELIVERED,
    STAGE_DROPPED,
    STAGE_UNDECODABLE,
    STAGE_HELD,
    STAGE_COUNTED,
    SINK_RECEIVED,
    SINK_RECOVERED,
    SINK_DELIVERED,
    SINK_DROPPED,
    SINK_HELD,
    SINK_BATCHES,
    SINK_QUEUE,
    SINK_SPILL,
    SINK_LAG,
    SINK_HEALTH,
];

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Metric {
    pub(super) fn describe(&self) {
        let name = KeyName::from_const_str(self.name);
        let unit = Some(self.unit);
        with_recorder(|recorder| match self.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, self.help.into()),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, self.help.into()),
        });
    }

    /// So many since the beginning.
    pub(super) fn total<const N: usize>(&self, labels: [&str; N], total: u64) {
        debug_assert_eq!(self.kind, MetricKind::Counter);
        let key = self.key(labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA).absolute(total));
    }

    /// So much now.
    pub(super) fn now<const N: usize>(&self, labels: [&str; N], value: f64) {
        debug_assert_eq!(self.kind, MetricKind::Gauge);
        let key = self.key(labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA).set(value));
    }

    fn key<const N: usize>(&self, values: [&str; N]) -> Key {
        debug_assert_eq!(self.labels.len(), N);
        let labels = self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_owned()));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}

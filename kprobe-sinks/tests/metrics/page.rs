//! What is documented is what is published.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use kprobe_core::{
    pipeline::{Filter, Policy, SinkRow},
    process::ProcessTable,
};
use kprobe_sinks::metrics::{self, METRICS, MetricKind};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::{
    exposition::{self, Family},
    support::{BOOT, Mood, any_port, endpoint, get, moody, quick, running},
};

fn read(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join(page)).unwrap()
}

/// Name, kind, labels and meaning of each metric.
type Described = BTreeMap<String, (String, Vec<String>, String)>;

fn in_the_code() -> Described {
    let all = METRICS.iter().map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        (metric.name.to_owned(), (kind.to_owned(), labels, metric.help.to_owned()))
    });
    all.collect()
}

fn on_the_page() -> Described {
    let page = read("metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `kprobe_"));
    let all = rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("{row}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels, meaning.to_owned()))
    });
    all.collect()
}

fn published(families: &BTreeMap<String, Family>) -> Described {
    let all = families.iter().map(|(name, family)| {
        let labels: BTreeSet<Vec<String>> =
            family.series.keys().map(|labels| labels.keys().cloned().collect()).collect();
        let [labels] = &labels.iter().collect::<Vec<_>>()[..] else { panic!("{name}: {labels:?}") };
        (name.clone(), (family.kind.clone(), (*labels).clone(), family.help.clone()))
    });
    all.collect()
}

/// The order of labels means nothing.
fn sorted(described: Described) -> Described {
    let sort = |(name, (kind, mut labels, help)): (_, (_, Vec<String>, _))| {
        labels.sort();
        (name, (kind, labels, help))
    };
    described.into_iter().map(sort).collect()
}

#[test]
fn the_page_the_code_and_what_is_served_name_the_same() {
    let run = running(|builder| {
        builder
            .stage(ProcessTable::new(BOOT))
            .stage(Filter::by("picky", |one| one.record.header().tgid != 1))
            .sink_with(moody("sink", Mood::Takes), quick().policy(Policy::DropNewest))
    });
    run.give(5);
    run.until(|seen| seen.ledger.sinks[0].delivered == 4);
    let server = endpoint(&run).start(any_port()).unwrap();
    let families = exposition::read(&get(server.address(), "/metrics").body);
    assert_eq!(published(&families), sorted(in_the_code()));
    assert_eq!(on_the_page(), in_the_code());
    assert_eq!(in_the_code().len(), METRICS.len(), "two of one name");
    drop(run.finish());

    // Names end as those who look for them expect.
    for metric in METRICS {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
    }
    // Every metric that the rules on the page ask for is there.
    let page = read("metrics.md");
    let names = page.match_indices("kprobe_").map(|(at, _)| {
        let rest = &page[at..];
        &rest[..rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap()]
    });
    let modules = ["kprobe_core", "kprobe_sinks", "kprobe_ebpf"];
    let unknown: BTreeSet<_> = names
        .filter(|name| !modules.contains(name) && METRICS.iter().all(|metric| metric.name != *name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The program on the page is the one that the doc tests run, but for what only they need.
#[test]
fn the_program_on_the_page() {
    let page = read("metrics.md");
    let programs = page.split("\n```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let [shown] = programs.filter(|text| text.contains("fn main()")).collect::<Vec<_>>()[..] else {
        panic!()
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/prometheus/mod.rs");
    let source = fs::read_to_string(source).unwrap();
    let source = source.split("shows this very program:\n").nth(1).unwrap();
    let lines = source.lines().skip_while(|line| *line != "//! ```").skip(1);
    let lines = lines.take_while(|line| *line != "//! ```").map(|line| line.trim_start_matches("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let run: Vec<_> = lines.filter(|line| !line.starts_with("# ")).collect();
    assert_eq!(shown, run.join("\n"));
}

/// The reasons that begin at 0 are those of the page on back-pressure.
#[test]
fn the_reasons_of_the_pipeline() {
    let page = read("back-pressure.md");
    let section = page.split("\n## Reasons\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let table = section.lines().take_while(|line| !line.starts_with("A sink"));
    let reasons: BTreeSet<_> = table.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(reasons, BTreeSet::from(SinkRow::REASONS));
}

/// The recorder of the thread, else the one that the program has installed.
#[test]
fn for_any_recorder() {
    let installed = PrometheusBuilder::new().build_recorder();
    let (local, page) = (PrometheusBuilder::new().build_recorder(), installed.handle());
    metrics::facade::set_global_recorder(installed).map_err(|_| "one is installed").unwrap();
    let run = running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()));
    run.give(5);
    let seen = run.until(|seen| seen.ledger.sinks[0].delivered == 5);
    let five = "kprobe_sink_records_delivered_total{sink=\"sink\"} 5\n";

    metrics::facade::with_local_recorder(&local, || metrics::publish(Some(&seen)));
    assert!(local.handle().render().contains(five));
    assert_eq!(page.render(), "");

    metrics::describe();
    metrics::publish(Some(&seen));
    assert!(page.render().contains(five) && page.render().contains("# HELP kprobe_pipeline_up 1 if"));
    metrics::publish(None);
    assert!(page.render().contains(five) && page.render().contains("kprobe_pipeline_up 0\n"));
    drop(run.finish());
}

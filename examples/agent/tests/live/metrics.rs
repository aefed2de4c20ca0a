//! What the agent tells of itself while it runs, and at the end.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    gate::Gate,
    support::{Running, agent, events, run},
};

crate::trials!(metrics_while_it_runs, a_port_that_is_taken, what_it_took);

/// What the book says of the metrics of recording itself, but for those that depend on the kernel and its programs.
const PAGE: &str = include_str!("../../../../docs/src/self-observation.md");

fn get(address: &str, path: &str) -> String {
    let mut asks = TcpStream::connect(address).unwrap();
    write!(asks, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    answer
}

/// The value behind a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

fn metrics_while_it_runs() {
    let mut gate = Gate::closed("exit 0");
    let pid = gate.tgid().to_string();
    let mut command = agent(["--metrics", "127.0.0.1:0", "--count-runs", "--stats=json", "--pid", &pid]);
    let mut running = Running::start(&mut command).wait_until_running();
    let said = running.wait_for_error("metrics on").to_owned();
    let address = said.trim().strip_prefix("kprobe-agent: metrics on http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap().to_owned();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(gate.open().success());
    running.wait_for("process.exit");
    let page = get(&address, "/metrics");
    assert_eq!(value(&page, "kprobe_pipeline_up"), 1.0);
    assert_eq!(value(&page, "kprobe_ledger_balance_records"), 0.0);
    assert_eq!(value(&page, "kprobe_probe_records_submitted_total{probe=\"process.exit\"}"), 1.0);
    assert_eq!(value(&page, "kprobe_program_counting"), 1.0);
    // Of every table of that page the first cell.
    let named: BTreeSet<_> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| `kprobe_")?.split('`').next()).collect();
    let of_cost = |name: &&str| name.starts_with("process_") || name.starts_with("program_");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE kprobe_")?.split(' ').next());
    assert_eq!(types.filter(of_cost).collect::<BTreeSet<_>>(), named);
    running.signal(Signal::TERM);
    let output = running.finish().exits(0);
    events::lossless(&output.stdout);
    assert!(TcpStream::connect(&address).is_err());
    let stats: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&stats["balance"], &stats["programs"]["counting"]), (&0.into(), &"on".into()));
    assert_eq!(stats["programs"]["over"], true);
    let programs = stats["programs"]["programs"].as_array().unwrap();
    assert!(
        programs.iter().any(|program| program["run_count"].as_u64().is_some_and(|runs| runs > 0)),
        "{stats}"
    );
    assert!(stats["usage"]["cpu_ns"].as_u64().unwrap() > 0, "{stats}");
}

/// Said before the command begins.
fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&mut agent(["--metrics", &address, "--", "sh", "-c", "echo it ran"])).exits(125);
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains(&format!("cannot serve metrics on {address}: ")), "{}", output.stderr);
}

/// For people, and what to do about what nobody counts.
fn what_it_took() {
    let output = run(&mut agent(["--stats", "--output", "none", "--", "true"])).exits(0);
    assert!(output.stderr.contains("\nthis process: "), "{}", output.stderr);
    assert!(output.stderr.contains("resident") && output.stderr.contains("threads"), "{}", output.stderr);
    let counted = output.stderr.contains("mean in ns");
    assert!(counted || output.stderr.contains("kernel.bpf_stats_enabled=1"), "{}", output.stderr);
}

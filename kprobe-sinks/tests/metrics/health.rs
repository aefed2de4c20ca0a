//! Whether the pipeline lives, and whether it is ready; also when it hangs and when it is over.

use std::{sync::mpsc::channel, time::Duration};

use kprobe_core::pipeline::Health;
use kprobe_sinks::metrics::facade;

use super::{
    exposition,
    support::{Feeding, Mood, any_port, endpoint, get, moody, quick, running, until},
};

fn value(page: &str, name: &str) -> f64 {
    let families = exposition::read(page);
    let [value] = families[name].series.values().copied().collect::<Vec<_>>()[..] else { panic!("{page}") };
    value
}

#[test]
fn ready_while_all_sinks_are_well() {
    let (one, other) = (moody("one", Mood::Takes), moody("other", Mood::Takes));
    let run = running(|builder| builder.sink_with(one.clone(), quick()).sink_with(other.clone(), quick()));
    let server = endpoint(&run).start(any_port()).unwrap();
    let ask = |path| {
        let response = get(server.address(), path);
        (response.status, response.body)
    };
    let ok = (200, "ok\n".to_owned());
    assert_eq!((ask("/healthz"), ask("/readyz")), (ok.clone(), ok.clone()));

    // A message that would be two lines is one.
    one.becomes(Mood::Refuses("no answer\nfrom there"));
    run.give(1);
    run.until(|seen| matches!(seen.sinks[0].health, Health::Failing(_)));
    assert_eq!(ask("/readyz"), (503, "one: failing: no answer from there\n".to_owned()));
    assert_eq!(ask("/healthz"), ok);
    other.becomes(Mood::Fails);
    run.give(1);
    run.until(|seen| matches!(seen.sinks[1].health, Health::Ended(_)));
    let both = "one: failing: no answer from there\nother: ended: never again\n";
    assert_eq!(ask("/readyz"), (503, both.to_owned()));

    one.becomes(Mood::Takes);
    run.until(|seen| seen.sinks[0].health == Health::Good);
    assert_eq!(ask("/readyz"), (503, "other: ended: never again\n".to_owned()));
    assert_eq!(ask("/healthz"), ok);
    drop(run.finish());
}

#[test]
fn a_pipeline_that_hangs_is_not_alive_but_shows_what_was() {
    let run = running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()));
    let within = Duration::from_millis(50);
    let server = endpoint(&run).answer_within(within).start(any_port()).unwrap();
    run.give(12);
    run.until(|seen| seen.ledger.sinks[0].delivered == 12);
    let delivered = |page: &str| value(page, "kprobe_sink_records_delivered_total");
    let page = || get(server.address(), "/metrics").body;
    // A machine that is busy may make it look stuck for a moment.
    let up = until("an answer", || Some(page()).filter(|page| value(page, "kprobe_pipeline_up") > 0.0));
    assert_eq!(delivered(&up), 12.0);

    let (go_on, gate) = channel();
    run.give(3);
    run.feed.send(Feeding::Hang(gate)).unwrap();
    until("the pipeline to hang", || run.monitor.look(within).is_none().then_some(()));
    let why = "the pipeline is over, or it is stuck: no answer within 50ms\n";
    for path in ["/healthz", "/readyz"] {
        let response = get(server.address(), path);
        assert_eq!((response.status, response.body.as_str()), (503, why), "{path}");
    }
    let stuck = page();
    assert_eq!(value(&stuck, "kprobe_pipeline_up"), 0.0);
    assert_eq!(delivered(&stuck), 12.0);

    drop(go_on);
    run.until(|seen| seen.ledger.sinks[0].delivered == 15);
    until("a sign of life", || (get(server.address(), "/healthz").status == 200).then_some(()));

    // Over, and nobody has told the server what was last.
    let done = run.finish();
    assert_eq!(done.ledger.sinks[0].delivered, 15);
    assert_eq!(get(server.address(), "/healthz").status, 503);
    assert_eq!(get(server.address(), "/readyz").status, 503);
    assert_eq!(value(&page(), "kprobe_pipeline_up"), 0.0);
    server.finished(&done);
    assert_eq!((value(&page(), "kprobe_pipeline_up"), delivered(&page())), (0.0, 15.0));
}

#[test]
fn what_the_program_adds() {
    let run = running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()));
    let mut calls = 0;
    let (hang, hangs) = channel::<()>();
    let server = endpoint(&run)
        .before_each_scrape(move || {
            calls += 1;
            match calls {
                2 => panic!("it was told to"),
                4 => drop(hangs.recv()),
                _ => {}
            }
            facade::describe_gauge!("test_calls", "how often it was called");
            facade::gauge!("test_calls").set(calls);
        })
        .start(any_port())
        .unwrap();
    let page = || get(server.address(), "/metrics");
    let families = exposition::read(&page().body);
    assert_eq!(families["test_calls"].help, "how often it was called");
    let broken = page();
    assert_eq!((broken.status, broken.body.contains("panicked")), (500, true));
    assert_eq!(get(server.address(), "/healthz").status, 200);
    assert_eq!(value(&page().body, "test_calls"), 3.0);
    // One that hangs keeps scrapes, but not who asks for health.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(page);
        let health = get(server.address(), "/healthz").status;
        drop(hang);
        (health, waiting.join().unwrap())
    });
    assert_eq!((waiting.0, value(&waiting.1.body, "test_calls")), (200, 4.0));
    drop(run.finish());
}

//! Where it listens, and that it ends.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use kprobe_sinks::prometheus::{Server, StartError};

use super::support::{
    Feeding, Mood, Running, any_port, connect, endpoint, get, moody, quick, running, until,
};

fn pipeline() -> Running {
    running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()))
}

fn start(run: &Running, address: &str) -> Result<Server, StartError> {
    endpoint(run).start(address.parse().unwrap())
}

#[test]
fn others_only_if_it_is_said() {
    let run = pipeline();
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "[::ffff:192.0.2.1]:9464"] {
        let error = start(&run, address).unwrap_err();
        assert!(matches!(error, StartError::NotLoopback(_)), "{error}");
        let message = error.to_string();
        assert!(message.contains("127.0.0.1:9464") && message.contains("allow_remote"), "{message}");
    }
    assert_eq!(get(start(&run, "127.0.0.2:0").unwrap().address(), "/healthz").status, 200);
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let server = endpoint(&run).allow_remote().start(everywhere).unwrap();
    let port = server.address().port();
    assert_eq!(get(([127, 0, 0, 1], port).into(), "/healthz").status, 200);
    drop(run.finish());
}

#[test]
fn a_port_that_is_taken() {
    let run = pipeline();
    let other = TcpListener::bind(any_port()).unwrap();
    let taken = other.local_addr().unwrap();
    let error = start(&run, &taken.to_string()).unwrap_err();
    assert!(matches!(error, StartError::Listen { address, .. } if address == taken), "{error}");
    let message = error.to_string();
    assert!(message.contains(&taken.to_string()) && message.contains("another program"), "{message}");
    drop(run.finish());
}

#[test]
fn the_port_is_free_when_it_is_dropped() {
    let run = pipeline();
    let server = start(&run, "127.0.0.1:0").unwrap();
    let address = server.address();
    assert_eq!(get(address, "/metrics").status, 200);
    // Some are connected and say nothing.
    let silent = [connect(address), connect(address)];
    drop(server);
    let again = start(&run, &address.to_string()).unwrap();
    assert_eq!(get(again.address(), "/metrics").status, 200);
    drop(silent);
    drop(run.finish());
}

/// Also while somebody waits for a pipeline that hangs.
#[test]
fn the_end_does_not_wait_for_a_pipeline_that_hangs() {
    let run = pipeline();
    let (go_on, gate) = channel();
    run.feed.send(Feeding::Hang(gate)).unwrap();
    until("the pipeline to hang", || run.monitor.look(Duration::from_millis(50)).is_none().then_some(()));
    let patient = endpoint(&run).answer_within(Duration::from_secs(60));
    let server = patient.start(any_port()).unwrap();
    let mut asks = connect(server.address());
    asks.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    let _reset = asks.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
    drop(go_on);
    drop(run.finish());
}

/// In a program that has a runtime of its own.
#[test]
fn within_another_runtime() {
    let run = pipeline();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = runtime.block_on(async {
        let server = start(&run, "127.0.0.1:0").unwrap();
        get(server.address(), "/healthz").status
    });
    assert_eq!(status, 200);
    drop(run.finish());
}

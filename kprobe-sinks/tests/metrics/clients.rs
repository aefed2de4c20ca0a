//! What comes over the wire costs a bounded amount, and hurts nobody else.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use kprobe_sinks::prometheus::{Endpoint, Server};

use super::support::{Mood, Running, answer, any_port, connect, endpoint, get, moody, quick, running, send};

fn served() -> (Running, Server) {
    let run = running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()));
    let server = endpoint(&run).start(any_port()).unwrap();
    (run, server)
}

#[test]
fn three_paths_and_one_method() {
    let (_run, server) = served();
    let to = server.address();
    for path in ["/", "/metrics/", "/metric", "/readyz/all", "//metrics"] {
        assert_eq!(get(to, path).status, 404, "{path}");
    }
    assert_eq!(get(to, "/metrics?debug=1").status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let response =
            send(to, &format!("{method} /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((response.status, response.headers["allow"].as_str()), (405, "GET"), "{method}");
    }
    // The length is that of what is not sent.
    let mut stream = connect(to);
    stream.write_all(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    assert!(head.starts_with("HTTP/1.1 405 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(send(to, "GET /healthz HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn nonsense_and_heads_without_an_end() {
    let (_run, server) = served();
    let to = server.address();
    assert_eq!(send(to, "nonsense\r\n\r\n").status, 400);
    // More than is kept of a request. It may be cut off while it still sends.
    let mut stream = connect(to);
    let _sent = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
    let (piece, mut sent) = ([b'x'; 4096], 0);
    while sent < 64 << 20 && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "it takes whatever comes");
    let many: String = (0..200).map(|n| format!("X{n}: 1\r\n")).collect();
    assert_eq!(send(to, &format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).status, 431);
    assert_eq!(get(to, "/healthz").status, 200);
}

/// Connects and asks nothing.
fn silent(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(to)).collect()
}

/// As many as there are places, and more, say nothing or not enough.
#[test]
fn those_that_are_silent_keep_nobody_else() {
    let run = running(|builder| builder.sink_with(moody("sink", Mood::Takes), quick()));
    let server = Endpoint::new(run.monitor.clone()).start(any_port()).unwrap();
    let to = server.address();
    let mut all = silent(to, 100);
    for stream in &mut all {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    }
    all.extend(silent(to, 100));
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(get(to, "/metrics").status, 200);
    }
    // Not when the time of the silent ones is over, but as soon as they have to make room.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // The time of each is over at some time.
    for mut stream in all {
        let mut rest = Vec::new();
        // A connection that is cut may be reset.
        let _closed = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn three_hundred_at_once() {
    let (run, server) = served();
    run.give(5);
    run.until(|seen| seen.ledger.sinks[0].delivered == 5);
    let paths = ["/metrics", "/healthz", "/readyz"];
    let asked = (0..300).map(|n| {
        let mut stream = connect(server.address());
        write!(stream, "GET {} HTTP/1.1\r\nHost: a\r\n\r\n", paths[n % 3]).unwrap();
        stream
    });
    let asked: Vec<_> = asked.collect();
    for (n, mut stream) in asked.into_iter().enumerate() {
        let response = answer(&mut stream);
        assert_eq!(response.status, 200, "{n}");
        let is_page = response.body.contains("kprobe_sink_records_delivered_total{sink=\"sink\"} 5\n");
        assert_eq!(is_page, n % 3 == 0, "{n}: {}", response.body);
    }
    drop(run.finish());
}

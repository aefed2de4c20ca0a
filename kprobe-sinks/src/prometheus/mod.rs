//! The metrics of a pipeline as Prometheus text over HTTP, and whether it lives and is ready.
//!
//! ```text
//!  GET /metrics   Prometheus text, version 0.0.4
//!  GET /healthz   200 if the pipeline answers, else 503: what a liveness probe asks
//!  GET /readyz    200 if besides all sinks are well, else 503 and a line for each that is not
//! ```
//!
//! What this is not: a web server. There is no TLS, no password and nothing to choose but these three, so it listens to the
//! machine itself unless it is told otherwise. It answers each connection once.
//!
//! One thread, `kp-metrics`, serves all connections; what may have to wait for the pipeline is done on at most two more, which
//! end when nobody has asked for a while. Whoever connects, and whatever they send, costs no more than a bound: 128
//! connections of 16 KiB each, for 10 seconds beside what the pipeline takes to answer, and one page. When all are taken, those that have asked nothing yet make room first.
//!
//! The page [metrics](https://github.com/kprobe/kprobe/blob/main/docs/src/metrics.md) shows this very program:
//!
//! ```
//! use kprobe_core::{
//!     capture::CaptureReader,
//!     event::Registry,
//!     pipeline::{Pipeline, Source},
//!     process::ProcessTable,
//! };
//! use kprobe_sinks::{metrics::facade, prometheus::Endpoint, stdout::JsonSink};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let folder = tempfile::tempdir()?;
//! #     std::fs::copy("../kprobe-core/tests/data/v1.kcap", folder.path().join("service.kcap"))?;
//! #     std::env::set_current_dir(&folder)?;
//!     let capture = CaptureReader::open("service.kcap")?;
//!     let info = capture.info().clone();
//!     let lines = JsonSink::new(std::io::stdout(), &info, &Registry::builtin());
//!     let mut pipeline = Pipeline::builder(capture).stage(ProcessTable::new(info.boot)).sink(lines).build()?;
//!     let server = Endpoint::new(pipeline.monitor())
//!         .before_each_scrape(|| facade::gauge!("my_agent_rules").set(3))
//!         .start("127.0.0.1:0".parse()?)?;
//!     eprintln!("http://{}/metrics", server.address());
//!     pipeline.drive(|_| false, |trouble| eprintln!("{trouble}"))?;
//!     server.finished(&pipeline.finish());
//! #     use std::io::{Read, Write};
//! #     let mut asks = std::net::TcpStream::connect(server.address())?;
//! #     asks.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")?;
//! #     let mut page = String::new();
//! #     asks.read_to_string(&mut page)?;
//! #     assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("\nmy_agent_rules 3\n"), "{page}");
//! #     assert!(page.contains("\nkprobe_stage_records_delivered_total{stage=\"process\"} 17\n"), "{page}");
//!     Ok(())
//! }
//! ```

mod answer;
mod crowd;
mod endpoint;
mod flight;
mod scrape;

pub use endpoint::{Endpoint, Server, StartError};

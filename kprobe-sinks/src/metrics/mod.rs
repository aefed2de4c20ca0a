//! The books and the state of a pipeline as metrics.
//!
//! What is published goes to the recorder of the thread, else to the one that the program has installed, as with every user of
//! the crate [`metrics`](facade). Nothing is published by itself: whoever collects calls [`publish`] before.
//!
//! ```
//! use std::time::Duration;
//!
//! use kprobe_core::pipeline::Monitor;
//! use kprobe_sinks::metrics;
//!
//! /// Every so often, on a thread of its own.
//! fn collect(monitor: &Monitor) {
//!     metrics::publish(monitor.look(Duration::from_secs(1)).as_ref());
//! }
//! # let _ = collect;
//! metrics::describe();
//! ```
//!
//! One process publishes one pipeline to one recorder. For a second one install no recorder but give each pipeline its own
//! with [`facade::with_local_recorder`].
//!
//! What each means is on the page [metrics](https://github.com/kprobe/kprobe/blob/main/docs/src/metrics.md).

/// The crate `metrics`, in the version that is published to. Its macros need nothing else:
/// `facade::gauge!("my_threads").set(4)`.
pub use ::metrics as facade;

mod publish;
mod table;

pub use publish::{describe, publish, publish_finished};
pub use table::{METRICS, Metric, MetricKind};

//! Where events go.
//!
//! What this crate does not do: it makes no events, starts no thread for a sink (a [`Pipeline`](kprobe_core::pipeline::Pipeline)
//! calls each on one of its own) and keeps no books but its own. A sink takes [`Batch`](kprobe_core::pipeline::Batch)es, brings their
//! records somewhere, and counts each as delivered or as dropped for a reason.
//!
//! ```text
//!  Batch --> [stdout]   lines on a descriptor: JSON for programs, text for people
//!
//!  Monitor --> [metrics]      the books, for any recorder (feature `metrics`)
//!              [prometheus]   the same as text over HTTP, /healthz and /readyz (feature `prometheus`)
//! ```
//!
//! Later destinations are features of this crate; `stdout` is always there.

#![forbid(unsafe_code)]

pub mod stdout;

#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "prometheus")]
pub mod prometheus;

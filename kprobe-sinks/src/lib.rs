//! Where events go.
//!
//! What this crate does not do: it makes no events, starts no thread (a [`Pipeline`](kprobe_core::pipeline::Pipeline) calls each
//! sink on one of its own) and keeps no books but its own. A sink takes [`Batch`](kprobe_core::pipeline::Batch)es, brings their
//! records somewhere, and counts each as delivered or as dropped for a reason.
//!
//! ```text
//!  Batch --> [stdout]   lines on a descriptor: JSON for programs, text for people
//! ```
//!
//! Later destinations are features of this crate; `stdout` is always there.

#![forbid(unsafe_code)]

pub mod stdout;

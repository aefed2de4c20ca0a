//! The agent's command line as far as it needs no privilege: what it refuses and how it says so, what it plays.
//!
//! The same whoever runs it: as root what must be unprivileged is run as `nobody`.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "two test targets share the support")]

#[path = "../support/mod.rs"]
mod support;

mod captures;
mod config;
mod ends;
mod files;
mod play;
mod refusals;

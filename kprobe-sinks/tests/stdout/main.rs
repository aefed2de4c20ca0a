//! The sinks that write lines, from outside.

mod delivery;
mod human;
mod json;
mod schema;
mod support;

#[path = "../json_support/mod.rs"]
mod json_support;

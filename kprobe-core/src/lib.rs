//! Core of kprobe: typed kernel events, and the accounting for every one of them.
//!
//! What this crate does not do: it attaches nothing, opens no socket, reads no clock, starts no runtime, and no thread but
//! one for each sink of a [`Pipeline`](pipeline::Pipeline). Give it bytes and it gives events; `kprobe-ebpf` has the bytes, `kprobe-sinks` takes the events.
//!
//! ```text
//!  bytes of a ring buffer or a capture
//!        |
//!     [decode]   frames -> records, total, zero-copy
//!        |
//!     [event]    records -> typed events
//!        |
//!    [pipeline]  batches, sources, stages, sinks with a queue and a thread each, the ledger
//!        |
//!    [process]   who was that: comm, parent, container of every event
//!        |
//!    [capture]   the same stream as a file, and back
//!     [spill]    batches that wait on disk for their sink
//! ```
//!
//! Without the default feature `std` only [`abi`] is there, `no_std` and without allocation: kernel programs compile it.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod abi;
#[cfg(feature = "std")]
pub mod decode;
#[cfg(feature = "std")]
pub mod event;
#[cfg(feature = "std")]
pub mod pipeline;
#[cfg(feature = "std")]
pub mod process;

#[cfg(feature = "std")]
mod file;

#[cfg(feature = "std")]
pub mod capture;
#[cfg(all(feature = "std", unix))]
pub mod spill;

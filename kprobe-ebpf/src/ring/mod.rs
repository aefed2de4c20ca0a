//! Reading the ring buffers that the kernel programs write.
//!
//! Reads and paces; it does not decode, does not know a kind of record, does not start a thread.
//!
//! ```text
//!  kernel program                                  Reader
//!  reserve · count · idle? · submit --> Ring --copy_into--> BytesMut   (one memcpy and one store a batch)
//!            |            ^                 --consume-----> &[u8]      (in place)
//!            |            |
//!            |            +-- ReaderState::idle <-- pace(): nap while records come, else arm and block
//!            +-- wake-up only if idle or filling up --> epoll, edge-triggered
//! ```
//!
//! A reader that is woken for every record is woken by an interrupt, on another CPU, for every record. So the programs
//! submit without waking and the reader naps between drains; only a reader that found nothing asks to be woken. The
//! handshake that makes this safe is in `handshake.rs`, how long to nap is decided in `pacing.rs`.

mod buffer;
mod handshake;
mod mapping;
mod pacing;
mod poll;
mod reader;
mod state;
mod sync {
    //! The atomics of `handshake.rs`. `handshake_loom.rs`, a test of the benches' package, compiles it over loom's.
    pub(super) use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
}

pub(crate) use mapping::Mapping;

pub use buffer::{Drained, Ring, RingError, Stop};
pub use pacing::{Next, Pacing};
pub use poll::{Waker, Woken};
pub use reader::{Reader, precise_naps};
pub use state::ReaderStates;

#[cfg(test)]
mod buffer_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod reader_tests;

//! The stream as a file, and back: [`CaptureWriter`] is a sink, [`CaptureReader`] a source.
//!
//! ```text
//!  Batch -> [writer]  records -> blocks -> chunks -> Medium (a file)
//!  Batch <- [reader]  records <- blocks <- chunks <- Window <- any io::Read
//!              |
//!              +-- damage: which bytes, how many records
//! ```
//!
//! The bytes are specified in `docs/src/capture-format.md`. Memory is bounded both ways, whatever the file says. Damage
//! costs the block it is in, and is reported; a recording that was cut off loses at most its last block.

#![forbid(unsafe_code)]

mod format;
mod index;
mod trailer;

mod medium;
mod writer;

mod check;
mod damage;
mod error;
mod reader;
mod tally;
mod window;

pub use damage::{Cause, Damage};
pub use error::{OpenError, Problem};
pub use format::{FORMAT_VERSION, MAX_BLOCK};
pub use index::IndexEntry;
pub use medium::Medium;
pub use reader::CaptureReader;
pub use trailer::Trailer;
pub use writer::CaptureWriter;

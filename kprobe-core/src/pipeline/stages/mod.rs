//! Stages that take records out, or sum them up.

#![forbid(unsafe_code)]

mod aggregate;
mod filter;
mod interval;
mod made;
mod only;
mod passing;
mod sample;
mod sums;

pub use aggregate::{Aggregate, CannotSumUp};
pub use filter::Filter;
pub use only::Only;
pub use sample::{Sample, SampleRate};

use super::StageRow;

/// Counts records as dropped. The reason is copied once, not for each batch.
fn drop_records(row: &mut StageRow, reason: &str, count: u64) {
    match row.dropped.get_mut(reason) {
        Some(dropped) => *dropped += count,
        None if count > 0 => drop(row.dropped.insert(reason.to_owned(), count)),
        None => {}
    }
}

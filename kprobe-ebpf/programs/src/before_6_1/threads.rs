//! Nothing is remembered of what was decided about a thread: that needs the place of its registers in a typed pointer
//! (Linux 5.15).

use crate::{
    memory::{Direct, Object},
    task::Task,
};

/// Where a decision would be remembered. There is none.
#[derive(Clone, Copy)]
pub enum Place {}

impl Place {
    /// That of the current thread.
    #[inline(always)]
    pub fn of(_: Object<Direct>) -> Option<Self> {
        None
    }

    /// What was decided.
    #[inline(always)]
    pub fn recall(self) -> Option<bool> {
        match self {}
    }

    /// A decision begins.
    #[inline(always)]
    pub fn begin(self) {
        match self {}
    }

    /// A decision was made.
    #[inline(always)]
    pub fn remember(self, _: bool) {
        match self {}
    }
}

/// There is no epoch that could end.
#[inline(always)]
pub fn begin_epoch() {}

/// Nothing is known of any thread.
#[inline(always)]
pub fn forget(_: Task<Direct>) {}

use super::Filter;
use crate::{abi::Kind, pipeline::Enriched};

/// [`Filter::kinds`] by another name, which reads well where a pipeline is put together.
#[derive(Clone, Copy, Debug)]
pub struct Only;

impl Only {
    /// See [`Filter::kinds`].
    #[expect(clippy::new_ret_no_self, reason = "a filter by kind is a filter like others")]
    pub fn new(wanted: impl FnMut(Kind) -> bool) -> Filter<impl FnMut(&Enriched<'_>) -> bool> {
        Filter::kinds(wanted)
    }
}

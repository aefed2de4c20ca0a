//! The budget of a sink's queue over loom; it lives beside the budget.
#[path = "../../kprobe-core/src/pipeline/delivery/budget_loom.rs"]
mod budget_loom;

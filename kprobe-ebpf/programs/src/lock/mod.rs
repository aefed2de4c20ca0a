//! Lock family: waits for futexes and who ends them, waits for locks of the kernel.

pub mod contention;
pub mod futex;

//! Lock family: waits for futexes and who ends them, waits for locks of the kernel.

#[cfg(not(feature = "before-6.1"))]
pub mod contention;
pub mod futex;

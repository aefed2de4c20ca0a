//! The kernel's side of the benches: maps, programs that `BPF_PROG_TEST_RUN` runs, and programs that do nothing.

mod asm;
mod call;
mod empty;
mod producer;
mod syscall;

pub(crate) use call::Call;
pub(crate) use empty::{CALLS, EmptyPair, SWITCHES};
pub(crate) use producer::{KIND_END, MANY, Producer, RECORD, Rings, Wakeups};
pub(crate) use syscall::Program;

//! What crosses from the kernel to user space: the records, and the memory both sides share.
//!
//! The kernel programs and the decoder compile these very files, so there is nothing to keep in step. A test compares
//! every size and offset with the BTF inside the built object.
//!
//! Rules of ABI version 1:
//!
//! - A record is a [`Header`] and the body of its [`Kind`], both of fixed size, multiples of 8 bytes.
//! - No padding: every byte of a record is a named field (`IntoBytes` refuses a struct with holes), so no byte of kernel
//!   memory leaves by accident.
//! - All integers are little-endian. Big-endian machines are refused at compile time.
//! - What a kernel cannot supply is absent: its presence bit in the body's `flags` is clear and the field is zero.
//! - A [`Kind`] is never renumbered and the layout of its body never changes. A new layout is a new kind.

#[cfg(target_endian = "big")]
compile_error!("kprobe records are little-endian; big-endian machines are not supported");

mod aggregate;
mod block;
mod control;
mod header;
mod irq;
mod kind;
mod lock;
mod memory;
mod meta;
mod path;
mod pipe;
mod process;
mod sched;
mod security;
pub mod sequence;
mod syscall;
mod tcp;
mod udp;
mod unix;
mod wait;

pub use aggregate::*;
pub use block::*;
pub use control::*;
pub use header::*;
pub use irq::*;
pub use kind::*;
pub use lock::*;
pub use memory::*;
pub use meta::*;
pub use path::*;
pub use pipe::*;
pub use process::*;
pub use sched::*;
pub use security::*;
pub use syscall::*;
pub use tcp::*;
pub use udp::*;
pub use unix::*;
pub use wait::*;

/// Version of the record layouts in this module. Captures carry it.
pub const ABI_VERSION: u16 = 1;

//! What the running kernel's structs look like: a reader of BTF, the type information that the kernel carries.
//!
//! ```text
//! bytes --parse--> Btf --member_offset("task_struct", "thread_info.status")--> Member { byte_offset, size, .. }
//!   (blob, section)  |                                                      \-> MissingMember (which part is missing)
//!                    +--func_proto_params, var_id, enum_value, members
//! ```
//!
//! It reads what programs and tests ask for and no more: no writing, no relocation, no split BTF of modules. Parsing checks every
//! offset and every type number once, so that a question to a parsed [`Btf`] cannot meet a bad one. No input makes it
//! panic or run for long.
#![forbid(unsafe_code)]

mod blob;
mod error;
mod kernel;
mod layout;
mod names;
mod section;
mod types;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;

pub use error::{BtfError, MissingMember, MissingType};
pub use layout::{Bitfield, Field, Member};
pub use names::Param;
pub use section::elf_section;
pub use types::{Btf, TypeId};

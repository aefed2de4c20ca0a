//! Facts about the machine that decide what can be attached and how records are to be read.
//!
//! Each is one small function with a typed answer; nothing is cached and nothing is changed. What reads a file takes
//! its format apart in a function of its own, which is what the tests check.

mod cgroup;
mod clocks;
pub mod command;
mod cpus;
mod error;
mod kernel;
mod mounts;
mod namespace;
mod privilege;
mod symbols;
mod usage;

pub(crate) use cgroup::ROOT_INODE;
pub use cgroup::{CgroupMount, cgroup2_mount};
pub use clocks::clocks;
pub(crate) use clocks::reading;
pub use cpus::{CpuList, possible_cpus};
pub use error::HostError;
pub use kernel::{KernelRelease, boot_id, host_name, kernel_release};
pub use mounts::{Mount, mounts};
pub use namespace::{children_in_initial_pid_namespace, in_initial_pid_namespace, in_initial_user_namespace};
pub use privilege::{Capabilities, Lockdown, UnprivilegedBpf, lockdown, unprivileged_bpf};
pub use symbols::has_kernel_symbol;
pub use usage::{Usage, usage};

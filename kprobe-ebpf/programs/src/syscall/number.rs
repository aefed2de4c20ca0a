//! What a system call number stands for, and whether it is wanted.

use kprobe_core::abi::{SYSCALL_COMPAT, SYSCALL_NR_INVALID, SYSCALL_TABLE, SYSCALL_X32, SyscallShape};

use crate::frozen::{SYSCALL_OTHER, SYSCALL_RENUMBERED, SYSCALL_SET, SYSCALL_SHAPE};

/// x86, `TS_COMPAT`: the thread is in a system call of the 32-bit ABI.
const TS_COMPAT: u32 = 2;
/// x86: set in the numbers of the x32 ABI.
const X32_BIT: i32 = 0x4000_0000;

/// A system call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) nr: u16,
    /// `SYSCALL_COMPAT`, `SYSCALL_X32`, or none.
    pub(super) flags: u16,
    pub(super) shape: SyscallShape,
    pub(super) is_recorded: bool,
}

impl Call {
    /// The call with number `id` by a thread whose x86 `status` is given, which is `None` on other machines.
    #[inline(always)]
    pub(super) fn of(id: i32, status: Option<u32>) -> Self {
        let index = id as usize;
        if let Some(status) = status {
            if status & TS_COMPAT != 0 {
                return Self::other(id, SYSCALL_COMPAT);
            }
            if id >= X32_BIT {
                return Self::other(id & !X32_BIT, SYSCALL_X32);
            }
        }
        if index >= SYSCALL_TABLE {
            return Self::other(id, 0);
        }
        Self {
            nr: index as u16,
            flags: 0,
            shape: SyscallShape(SYSCALL_SHAPE.at(index)),
            is_recorded: SYSCALL_SET.bit(index),
        }
    }

    #[inline(always)]
    fn other(nr: i32, flags: u16) -> Self {
        Self {
            nr: if nr >= 0 && nr < i32::from(SYSCALL_NR_INVALID) { nr as u16 } else { SYSCALL_NR_INVALID },
            flags,
            shape: SyscallShape::PLAIN,
            is_recorded: SYSCALL_OTHER.get() != 0,
        }
    }
}

/// Whether a call entered with this number returns with it.
#[inline(always)]
pub(super) fn keeps_its_number(id: i32) -> bool {
    let index = id as usize;
    index < SYSCALL_TABLE && !SYSCALL_RENUMBERED.bit(index)
}

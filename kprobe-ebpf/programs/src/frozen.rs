//! Globals that the loader sets before the load and nobody changes afterwards.

use core::{arch::asm, ptr};

use kprobe_core::abi::{FAMILIES, SYSCALL_TABLE, aggregate_by};

/// A value in the object's `.rodata`.
///
/// The map behind it is frozen before the programs are verified, so that the verifier knows the value: a branch on it
/// costs nothing, and an offset taken from it is as good as one written in the code.
#[repr(transparent)]
pub struct Frozen<T>(T);

impl<T: Copy> Frozen<T> {
    /// What it is if the loader does not set it.
    pub const fn new(unset: T) -> Self {
        Self(unset)
    }

    /// The value that the loader set.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: a reference is valid for a read. It is volatile because the compiler, which cannot know of the
        // loader, would otherwise put the value of this file in its place.
        unsafe { ptr::read_volatile(&raw const self.0) }
    }
}

impl<T: Copy, const N: usize> Frozen<[T; N]> {
    /// One element of a table; `index` counts modulo the length of the table, which is a power of two.
    #[inline(always)]
    pub fn at(&self, index: usize) -> T {
        let element = (&raw const self.0).cast::<T>().wrapping_add(masked::<N>(index));
        // SAFETY: the index is within the table. Volatile as in `get`.
        unsafe { ptr::read_volatile(element) }
    }
}

/// The index modulo the length of a table, as an instruction that the compiler cannot drop: where it has proved from some
/// other register that the index is in bounds, the verifier, which follows each register by itself, has not.
#[inline(always)]
pub(crate) fn masked<const N: usize>(mut index: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{0} &= {mask}", inout(reg) index, mask = const N - 1, options(pure, nomem, nostack, preserves_flags));
    }
    index
}

impl<const N: usize> Frozen<[u64; N]> {
    /// One bit of a bit set.
    #[inline(always)]
    pub fn bit(&self, index: usize) -> bool {
        self.at(index / 64) >> (index % 64) & 1 != 0
    }
}

/// Which selectors are on: bits of [`kprobe_core::abi::select`].
#[unsafe(no_mangle)]
pub static SELECT: Frozen<u32> = Frozen::new(0);

/// The agent's own process, whose events are never wanted; 0 for none.
#[unsafe(no_mangle)]
pub static SELF_TGID: Frozen<u32> = Frozen::new(0);

/// Number of rings minus one. The ring of a CPU is its number and'ed with this.
#[unsafe(no_mangle)]
pub static SHARD_MASK: Frozen<u32> = Frozen::new(0);

/// [`kprobe_core::abi::SyscallShape`] by native system call number.
#[unsafe(no_mangle)]
pub static SYSCALL_SHAPE: Frozen<[u8; SYSCALL_TABLE]> =
    Frozen::new([kprobe_core::abi::SyscallShape::PLAIN.0; SYSCALL_TABLE]);

/// Native system call numbers that are recorded, as a bit set.
#[unsafe(no_mangle)]
pub static SYSCALL_SET: Frozen<[u64; SYSCALL_TABLE / 64]> = Frozen::new([0; SYSCALL_TABLE / 64]);

/// Native system calls at whose return the registers may hold another number, as a bit set: `execve` and `execveat` on
/// x86. All other returns are checked to belong to the entry that is remembered. Unset, none is checked.
#[unsafe(no_mangle)]
pub static SYSCALL_RENUMBERED: Frozen<[u64; SYSCALL_TABLE / 64]> =
    Frozen::new([u64::MAX; SYSCALL_TABLE / 64]);

/// 1: also calls that no native table has (numbers of 512 and above, 32-bit programs, x32) are recorded.
#[unsafe(no_mangle)]
pub static SYSCALL_OTHER: Frozen<u8> = Frozen::new(0);

/// 1: [`threads`](crate::threads) may remember decisions. `follow_fork_btf` is attached before any program for system
/// calls, threads are selected by the process they belong to, and whoever changes the set of processes counts that in
/// `Config::changes`.
#[unsafe(no_mangle)]
pub static REMEMBERS: Frozen<u8> = Frozen::new(0);

/// 1: programs at raw tracepoints can be preempted (Linux 7.0).
#[unsafe(no_mangle)]
pub static PREEMPTIBLE: Frozen<u8> = Frozen::new(1);

/// The process that loads this object.
#[unsafe(no_mangle)]
pub static LOADER_TGID: Frozen<u32> = Frozen::new(0);

/// 1: `sched_process_exit` has the argument `group_dead` (Linux 6.16 and later).
#[unsafe(no_mangle)]
pub static HAS_GROUP_DEAD: Frozen<u8> = Frozen::new(0);

/// One of so many minor page faults is recorded; 0: none, they are only counted.
#[unsafe(no_mangle)]
pub static MINOR_FAULTS_ONE_IN: Frozen<u32> = Frozen::new(0);

/// [`kprobe_core::abi::PipeCall`] by native system call number.
#[unsafe(no_mangle)]
pub static PIPE_CALLS: Frozen<[u8; SYSCALL_TABLE]> = Frozen::new([0; SYSCALL_TABLE]);

/// Native system calls that open a file by its name, as a bit set.
#[unsafe(no_mangle)]
pub static PATH_CALLS: Frozen<[u64; SYSCALL_TABLE / 64]> = Frozen::new([0; SYSCALL_TABLE / 64]);

/// The number of the system call `futex`; no call has the unset one.
#[unsafe(no_mangle)]
pub static LOCK_FUTEX_NR: Frozen<u32> = Frozen::new(u32::MAX);

/// The number of the system call `restart_syscall`, likewise.
#[unsafe(no_mangle)]
pub static LOCK_RESTART_NR: Frozen<u32> = Frozen::new(u32::MAX);

/// By how many bits the number of a page is shifted to get its place.
#[unsafe(no_mangle)]
pub static PAGE_SHIFT: Frozen<u32> = Frozen::new(12);

/// What the numbers of the kernel's locks are made with.
#[unsafe(no_mangle)]
pub static LOCK_SECRET: Frozen<[u64; 2]> = Frozen::new([0; 2]);

/// [`kprobe_core::abi::WaitCall`] by native system call number.
#[unsafe(no_mangle)]
pub static WAIT_CALLS: Frozen<[u8; SYSCALL_TABLE]> = Frozen::new([0; SYSCALL_TABLE]);

/// The number of the system call `epoll_ctl`; no call has the unset one.
#[unsafe(no_mangle)]
pub static WAIT_EPOLL_CTL_NR: Frozen<u32> = Frozen::new(u32::MAX);

/// What the numbers of things that threads wait for are made with.
#[unsafe(no_mangle)]
pub static WAIT_SECRET: Frozen<[u64; 2]> = Frozen::new([0; 2]);

/// 1: the tracepoints for reclaim pass the cgroup (Linux 7.0), and their other arguments in another order.
#[unsafe(no_mangle)]
pub static RECLAIM_HAS_MEMCG: Frozen<u8> = Frozen::new(0);

/// Where the waker's context comes from: one of [`kprobe_core::abi::context_source`].
#[unsafe(no_mangle)]
pub static CONTEXT_SOURCE: Frozen<u32> = Frozen::new(0);

/// By family: what its durations are told apart by when they are summed up in the kernel; one of
/// [`kprobe_core::abi::aggregate_by`].
#[unsafe(no_mangle)]
pub static AGGREGATE: Frozen<[u8; FAMILIES]> = Frozen::new([aggregate_by::NOTHING; FAMILIES]);

/// Histograms that each of a CPU's two tables has room for: a power of two.
#[unsafe(no_mangle)]
pub static HISTOGRAM_SLOTS: Frozen<u32> = Frozen::new(1);

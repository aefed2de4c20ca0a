//! Where the entry of a call is kept until it returns.
//!
//! In both places it is overwritten by the next call of the same thread and never deleted in between: deleting and
//! inserting again would cost several times what the rest of the program does.

use aya_ebpf::{
    bindings::task_struct, btf_maps::HashMap, helpers::generated::bpf_get_current_task, macros::btf_map,
};

use crate::{
    memory::{Direct, Memory, Object, Probed},
    storage::{self, TaskStorage},
    task::Task,
};

/// A call that has been entered.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    /// When; 0 if no call is pending.
    pub enter_ns: u64,
    /// See [`kprobe_core::abi::Syscall`].
    pub requested: u64,
    /// Likewise.
    pub fd: i32,
    /// The number as it was in the register.
    pub id: i32,
    /// See [`kprobe_core::abi::Syscall`].
    pub nr: u16,
    /// Likewise.
    pub flags: u16,
    /// 0.
    pub reserved: u32,
}

/// Entries in the storage of each task: found by a pointer in the `task_struct`, freed with it.
#[btf_map]
pub static TASKS: TaskStorage<Entry> = TaskStorage::new();

/// Entries by the address of the `task_struct`, which stays the same when an exec changes the thread's id.
#[btf_map]
pub static ENTERS: HashMap<u64, Entry, 1> = HashMap::new();

/// A place for entries.
pub trait Entries {
    /// How the current thread is named there.
    type Owner: Copy;
    /// The current thread.
    fn owner() -> Self::Owner;
    /// How its `task_struct` can be read there.
    type Memory: Memory;
    /// Its `task_struct`.
    fn task(owner: Self::Owner) -> Task<Self::Memory>;
    /// Its entry, if it has one.
    fn find(owner: Self::Owner) -> Option<*mut Entry>;
    /// Its entry, made if need be; `None` if there is no memory for it.
    fn make(owner: Self::Owner) -> Option<*mut Entry>;
}

/// In task storage.
pub struct InTask;

impl Entries for InTask {
    type Owner = *mut task_struct;
    type Memory = Direct;

    #[inline(always)]
    fn owner() -> Self::Owner {
        storage::current()
    }

    #[inline(always)]
    fn task(owner: Self::Owner) -> Task<Direct> {
        Task::new(Object::new(owner))
    }

    #[inline(always)]
    fn find(owner: Self::Owner) -> Option<*mut Entry> {
        TASKS.find(owner)
    }

    #[inline(always)]
    fn make(owner: Self::Owner) -> Option<*mut Entry> {
        TASKS.make(owner)
    }
}

/// In the hash map.
pub struct InHash;

impl InHash {
    /// `sched_process_exit`: the thread will not return from the call it exits in.
    #[inline(always)]
    pub fn forget_current() {
        // That there was none is fine.
        let _ = ENTERS.remove(Self::owner());
    }
}

impl Entries for InHash {
    type Owner = u64;
    type Memory = Probed;

    #[inline(always)]
    fn owner() -> Self::Owner {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_current_task() }
    }

    #[inline(always)]
    fn task(owner: Self::Owner) -> Task<Probed> {
        Task::new(Object::new(owner as *const u8))
    }

    #[inline(always)]
    fn find(owner: Self::Owner) -> Option<*mut Entry> {
        ENTERS.get_ptr_mut(owner)
    }

    #[inline(always)]
    fn make(owner: Self::Owner) -> Option<*mut Entry> {
        if let Some(entry) = Self::find(owner) {
            return Some(entry);
        }
        let none = Entry { enter_ns: 0, requested: 0, fd: 0, id: 0, nr: 0, flags: 0, reserved: 0 };
        ENTERS.insert(owner, none, 0).ok()?;
        Self::find(owner)
    }
}

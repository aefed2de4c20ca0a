//! Task storage: a value for each thread, found by a pointer in its `task_struct` and freed with it (Linux 5.11).

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
        task_struct,
    },
    helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
};

use crate::{
    memory::{Direct, Object},
    task::Task,
};

/// A map of task storage, which aya has no type for: the definition that loaders understand. In a static with
/// `#[btf_map]`.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers stand for types; nobody reads them.
unsafe impl<T> Sync for TaskStorage<T> {}

/// The `task_struct` of the current thread, as the helpers for task storage take it.
#[inline(always)]
pub fn current() -> *mut task_struct {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }
}

/// The current thread, for families that read its `task_struct`.
#[inline(always)]
pub fn current_task() -> Task<Direct> {
    Task::new(Object::new(current()))
}

impl<T> TaskStorage<T> {
    /// For the static.
    #[expect(clippy::new_without_default, reason = "in a static only")]
    pub const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The thread's value, if it has one.
    #[inline(always)]
    pub fn find(&'static self, task: *mut task_struct) -> Option<*mut T> {
        self.get(task, 0)
    }

    /// The thread's value, all bytes 0 if it is new; `None` if there is no memory for it.
    #[inline(always)]
    pub fn make(&'static self, task: *mut task_struct) -> Option<*mut T> {
        self.get(task, BPF_LOCAL_STORAGE_GET_F_CREATE.into())
    }

    #[inline(always)]
    fn get(&'static self, task: *mut task_struct, flags: u64) -> Option<*mut T> {
        let map = (&raw const *self).cast_mut().cast();
        // SAFETY: the helper takes a map, a task that the verifier knows to be one, and no initial value.
        let value = unsafe { bpf_task_storage_get(map, task, core::ptr::null_mut(), flags) };
        (!value.is_null()).then_some(value.cast())
    }
}

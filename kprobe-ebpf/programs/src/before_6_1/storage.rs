//! A value for each thread in a hash, where there is no task storage: by the address of the `task_struct`.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{bpf_map_type::BPF_MAP_TYPE_HASH, task_struct},
    helpers::generated::{
        bpf_get_current_task, bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem,
    },
};

use crate::{
    fault, functions,
    lock::futex,
    memory::{Direct, Object},
    oom, pipe, reclaim, security, syscall,
    task::Task,
    tcp, udp,
};

/// A map of values: the definition that loaders understand. It has room for one unless the loader gives it more.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_HASH as usize],
    key: *const u64,
    value: *const T,
    max_entries: *const [i32; 1],
    map_flags: *const [i32; 0],
}

// SAFETY: the pointers stand for types; nobody reads them.
unsafe impl<T> Sync for TaskStorage<T> {}

/// The `task_struct` of the current thread. Only its address: the verifier knows no type of it.
#[inline(always)]
pub fn current() -> *mut task_struct {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() as *mut task_struct }
}

/// The current thread, for families that read its `task_struct`.
#[inline(always)]
pub fn current_task() -> Task<Direct> {
    Task::new(Object::new(current()))
}

impl<T: Copy> TaskStorage<T> {
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
        let key = task as u64;
        // SAFETY: the helper takes a map and a key of its size.
        let value = unsafe { bpf_map_lookup_elem(self.map(), (&raw const key).cast()) };
        (!value.is_null()).then_some(value.cast())
    }

    /// The thread's value, all bytes 0 if it is new; `None` if there is no room for it.
    #[inline(always)]
    pub fn make(&'static self, task: *mut task_struct) -> Option<*mut T> {
        if let Some(value) = self.find(task) {
            return Some(value);
        }
        let key = task as u64;
        let none = MaybeUninit::<T>::zeroed();
        // SAFETY: the helper takes a map, a key and a value of its sizes.
        unsafe { bpf_map_update_elem(self.map(), (&raw const key).cast(), none.as_ptr().cast(), 0) };
        self.find(task)
    }

    /// Takes the thread's value away, if it has one.
    #[inline(always)]
    pub(crate) fn remove(&'static self, task: *mut task_struct) {
        let key = task as u64;
        // SAFETY: the helper takes a map and a key of its size.
        unsafe { bpf_map_delete_elem(self.map(), (&raw const key).cast()) };
    }

    #[inline(always)]
    fn map(&'static self) -> *mut core::ffi::c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// `sched_process_exit`: the current thread needs its values no longer. The kernel frees task storage by itself.
#[inline(always)]
pub fn forget_current() {
    let task = current();
    syscall::TASKS.remove(task);
    security::CHECKS.remove(task);
    fault::FAULTS.remove(task);
    reclaim::RECLAIMS.remove(task);
    reclaim::COMPACTIONS.remove(task);
    functions::COMPACTING.remove(task);
    oom::OOM_CAUSES.remove(task);
    pipe::MOVING.remove(task);
    futex::FUTEXES.remove(task);
    tcp::SENDING.remove(task);
    udp::UDP_SENDING.remove(task);
    udp::UDP_RECEIVING.remove(task);
}

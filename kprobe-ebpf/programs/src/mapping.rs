//! The mapping of a process that an address is in.

use core::ffi::c_void;

use aya_ebpf::{bindings::task_struct, helpers::generated::bpf_find_vma};

use crate::{
    memory::{Object, Probed},
    place::Place,
};

/// Where an address of the current thread is. Not 0 if it is in no mapping, or if the kernel is changing them.
#[inline(always)]
pub fn find(task: *mut task_struct, address: u64, place: &mut Place) -> i64 {
    // SAFETY: the verifier looks at the function as the helper will call it: with the place, which is alive.
    unsafe { bpf_find_vma(task, address, look_at as *mut c_void, (&raw mut *place).cast(), 0) }
}

extern "C" fn look_at(_: *mut task_struct, mapping: *const u8, place: *mut Place) -> i64 {
    // SAFETY: the helper passes the place that it was given.
    unsafe { Place::look_at(place, Object::<Probed>::new(mapping)) };
    0
}

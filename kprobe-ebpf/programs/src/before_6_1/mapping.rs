//! The mapping of a process that an address is in, where there is no helper that finds it (Linux 5.17): a search in the
//! kernel's tree of mappings.
//!
//! Without the lock that the helper takes: another thread may be changing the tree. So a mapping counts only if it is one
//! of this process and the address is in it, before its file is looked at and afterwards, and what is not found is not known.

use aya_ebpf::bindings::task_struct;

use crate::{
    memory::{Memory, Object, Probed},
    offsets::{
        OFF_MM_STRUCT_MM_RB, OFF_RB_NODE_RB_LEFT, OFF_RB_NODE_RB_RIGHT, OFF_TASK_STRUCT_MM,
        OFF_VM_AREA_STRUCT_VM_END, OFF_VM_AREA_STRUCT_VM_MM, OFF_VM_AREA_STRUCT_VM_RB,
        OFF_VM_AREA_STRUCT_VM_START,
    },
    place::Place,
};

/// The tree has at most twice as many levels as the number of mappings has bits, and there are at most 65,530 unless the
/// administrator allows more.
const LEVELS: u32 = 34;

/// Where an address of the current thread is. Not 0 if it is not found.
#[inline(always)]
pub fn find(task: *mut task_struct, address: u64, place: &mut Place) -> i64 {
    let mapping = mapping_of(task as u64, address);
    if mapping == 0 {
        return -1;
    }
    let mapping = Object::<Probed>::new(mapping as *const u8);
    let before = Shape::of(mapping);
    // SAFETY: a reference is valid.
    unsafe { Place::look_at(&raw mut *place, mapping) };
    let space: u64 = Object::<Probed>::new(task as *const u8).load(&OFF_TASK_STRUCT_MM);
    if before != Shape::of(mapping) || !before.has(space, address) {
        // It was changed, or given back and made into another one.
        *place = Place::of(address);
        return -1;
    }
    0
}

/// What a mapping is of: what was read in between is of the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    space: u64,
    start: u64,
    end: u64,
}

impl Shape {
    #[inline(always)]
    fn of(mapping: Object<Probed>) -> Self {
        Self {
            space: mapping.load(&OFF_VM_AREA_STRUCT_VM_MM),
            start: mapping.load(&OFF_VM_AREA_STRUCT_VM_START),
            end: mapping.load(&OFF_VM_AREA_STRUCT_VM_END),
        }
    }

    #[inline(always)]
    fn has(self, space: u64, address: u64) -> bool {
        self.space == space && self.start <= address && address < self.end
    }
}

/// The address of its `struct vm_area_struct`; 0 if it is not found. A function of its own, so that the verifier follows
/// the loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mapping_of(task: u64, address: u64) -> u64 {
    let space = Object::<Probed>::new(task as *const u8).follow(&OFF_TASK_STRUCT_MM);
    let mut node: u64 = space.load(&OFF_MM_STRUCT_MM_RB);
    let mut level = 0;
    while level < LEVELS && node != 0 {
        let at = Object::<Probed>::new(node as *const u8);
        let mapping = Object::<Probed>::new(node.wrapping_sub(OFF_VM_AREA_STRUCT_VM_RB.get()) as *const u8);
        let child = if address >= mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_END) {
            OFF_RB_NODE_RB_RIGHT.get()
        } else if address < mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_START) {
            OFF_RB_NODE_RB_LEFT.get()
        } else {
            let is_own = mapping.load::<u64>(&OFF_VM_AREA_STRUCT_VM_MM) == space.address() as u64;
            return if is_own { mapping.address() as u64 } else { 0 };
        };
        // SAFETY: see `Memory::load`.
        node = unsafe { Probed::load(at.address().wrapping_add(child as usize)) };
        level += 1;
    }
    0
}

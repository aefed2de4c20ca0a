//! What tracepoints do not pass yet, taken from the function of the kernel that a thread is in when it comes to one.

use aya_ebpf::macros::btf_map;
use kprobe_core::abi::Family;

use crate::{
    cpu,
    current::{Current, Who as _},
    filter,
    storage::{self, TaskStorage},
};

/// The first argument of the function that each thread was in last.
pub type FirstArgument = TaskStorage<u64>;

impl FirstArgument {
    /// That of the current thread.
    #[inline(always)]
    pub fn current(&'static self) -> Option<*const u8> {
        // SAFETY: the map gave the pointer to the thread's own value, which only programs that the thread itself runs
        // access: one at a time.
        self.find(storage::current()).map(|argument| unsafe { argument.read() } as *const u8)
    }

    #[inline(always)]
    fn begin(&'static self, argument: u64) {
        match self.make(storage::current()) {
            // SAFETY: see `current`.
            Some(place) => unsafe { place.write(argument) },
            None => cpu::count_unstored(Family::Memory),
        }
    }
}

/// `compact_zone(cc, capc)`.
#[btf_map]
pub static COMPACTING: FirstArgument = FirstArgument::new();

/// A selected thread enters `compact_zone`.
#[inline(always)]
pub fn compacts(control: u64) {
    if filter::selects_current(Current.thread()) {
        COMPACTING.begin(control);
    }
}

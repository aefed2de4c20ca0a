//! The arguments of a tracepoint.

use core::ptr;

use aya_ebpf::EbpfContext;

use crate::memory::{Memory, Object};

/// The context of a raw or BTF tracepoint program: an array with a 64-bit word for each argument.
#[derive(Clone, Copy)]
pub struct Args(*const u64);

impl Args {
    /// The arguments in a program's context.
    #[inline(always)]
    pub fn of(context: &impl EbpfContext) -> Self {
        Self(context.as_ptr().cast_const().cast())
    }

    /// An integer argument.
    #[inline(always)]
    pub fn word(self, index: usize) -> u64 {
        // SAFETY: the verifier refuses an index beyond the tracepoint's arguments. Volatile, so that the compiler does
        // not load only a part of the word, which the verifier refuses as well.
        unsafe { ptr::read_volatile(self.0.wrapping_add(index)) }
    }

    /// A pointer argument.
    #[inline(always)]
    pub fn object<M: Memory>(self, index: usize) -> Object<M> {
        Object::new(self.address(index))
    }

    /// A pointer argument, untyped.
    #[inline(always)]
    pub fn address(self, index: usize) -> *const u8 {
        // SAFETY: as in `word`. Read as a pointer, so that the verifier's type of it survives.
        unsafe { ptr::read_volatile(self.0.wrapping_add(index).cast()) }
    }
}

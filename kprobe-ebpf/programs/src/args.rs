//! The arguments of tracepoints and functions.

use core::ptr;

use aya_ebpf::EbpfContext;

use crate::{
    frozen::Frozen,
    memory::{Memory, Object, Probed},
    offsets::{
        OFF_FUNCTION_ARG_0, OFF_FUNCTION_ARG_1, OFF_FUNCTION_ARG_2, OFF_FUNCTION_ARG_3, OFF_FUNCTION_ARG_4,
        OFF_FUNCTION_ARG_5, OFF_FUNCTION_RET,
    },
};

/// The context of a program at a raw or BTF tracepoint, or at the entry of a function: an array with a 64-bit word for each
/// argument. At the return of a function the result follows behind all of them.
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

/// The context of a program at a breakpoint: the registers, as they are at the entry of a function or at its return.
#[derive(Clone, Copy)]
pub struct Frame(Object<Probed>);

impl Frame {
    /// The registers in a program's context.
    #[inline(always)]
    pub fn of(context: &impl EbpfContext) -> Self {
        Self(Object::new(context.as_ptr()))
    }

    /// At the entry: an argument.
    #[inline(always)]
    pub fn word(self, index: u8) -> u64 {
        let offset: &Frozen<u64> = match index {
            0 => &OFF_FUNCTION_ARG_0,
            1 => &OFF_FUNCTION_ARG_1,
            2 => &OFF_FUNCTION_ARG_2,
            3 => &OFF_FUNCTION_ARG_3,
            4 => &OFF_FUNCTION_ARG_4,
            _ => &OFF_FUNCTION_ARG_5,
        };
        self.0.load(offset)
    }

    /// At the return: the result.
    #[inline(always)]
    pub fn ret(self) -> u64 {
        self.0.load(&OFF_FUNCTION_RET)
    }
}

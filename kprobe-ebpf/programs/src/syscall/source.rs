//! What the kernel tells a program about a system call, in the two forms that there are.

use core::{marker::PhantomData, ptr};

use aya_ebpf::EbpfContext;

use crate::{
    args::Args,
    current::{Current, CurrentTask, Thread, Who as _},
    frozen::Frozen,
    memory::{Direct, Memory, Object},
    offsets::{OFF_ARG_0, OFF_ARG_1, OFF_ARG_2, OFF_ARG_3, OFF_ARG_4, OFF_ARG_5, OFF_SYSCALL_NR},
    threads::Place,
};

/// The entry of a system call, or its return.
pub trait Source: Copy {
    /// Where decisions about the current thread are remembered, if they are.
    fn place(self) -> Option<Place>;
    /// Ids of the current thread.
    fn thread(self) -> Thread;
    /// At the entry: the number of the call.
    fn entered(self) -> i32;
    /// At the entry: argument 0..=5.
    fn argument(self, index: u8) -> u64;
    /// At the return: the number in the registers.
    fn left(self) -> i32;
    /// At the return: what the call returns.
    fn ret(self) -> i64;
}

/// The raw tracepoints `sys_enter(regs, id)` and `sys_exit(regs, ret)`.
#[derive(Clone, Copy)]
pub struct Registers<M> {
    args: Args,
    memory: PhantomData<M>,
}

impl<M: Memory> Registers<M> {
    /// The arguments of the tracepoint.
    #[inline(always)]
    pub fn new(args: Args) -> Self {
        Self { args, memory: PhantomData }
    }

    /// Taken from the arguments each time: most programs end before a second, and so need no register to keep it.
    #[inline(always)]
    fn regs(self) -> Object<M> {
        self.args.object(0)
    }
}

impl<M: Memory> Source for Registers<M> {
    #[inline(always)]
    fn place(self) -> Option<Place> {
        if M::IS_DIRECT { Place::of(Object::new(self.regs().address())) } else { None }
    }

    #[inline(always)]
    fn thread(self) -> Thread {
        Current.thread()
    }

    #[inline(always)]
    fn entered(self) -> i32 {
        self.args.word(1) as i32
    }

    #[inline(always)]
    fn argument(self, index: u8) -> u64 {
        let offset: &Frozen<u64> = match index {
            0 => &OFF_ARG_0,
            1 => &OFF_ARG_1,
            2 => &OFF_ARG_2,
            3 => &OFF_ARG_3,
            4 => &OFF_ARG_4,
            _ => &OFF_ARG_5,
        };
        self.regs().load(offset)
    }

    #[inline(always)]
    fn left(self) -> i32 {
        self.regs().load(&OFF_SYSCALL_NR)
    }

    #[inline(always)]
    fn ret(self) -> i64 {
        self.args.word(1) as i64
    }
}

/// The events `raw_syscalls:sys_enter` and `raw_syscalls:sys_exit`, as programs for `tracepoint` see them: the common
/// header of 8 bytes, then the number, then six arguments or what is returned, 8 bytes each. Tools depend on it, so it
/// has been the same since these events exist.
#[derive(Clone, Copy)]
pub struct Event(*const u64);

impl Event {
    /// The event in a program's context.
    #[inline(always)]
    pub fn new(context: &impl EbpfContext) -> Self {
        Self(context.as_ptr().cast_const().cast())
    }

    #[inline(always)]
    fn word(self, index: usize) -> u64 {
        // SAFETY: the verifier knows the length of the event. Volatile, so that the offset stays in the instruction.
        unsafe { ptr::read_volatile(self.0.wrapping_add(index)) }
    }
}

impl Source for Event {
    #[inline(always)]
    fn place(self) -> Option<Place> {
        None
    }

    #[inline(always)]
    fn thread(self) -> Thread {
        CurrentTask::<Direct>::find().thread()
    }

    #[inline(always)]
    fn entered(self) -> i32 {
        self.word(1) as i32
    }

    #[inline(always)]
    fn argument(self, index: u8) -> u64 {
        // All are loaded, because the compiler makes one load with a variable offset from six, which the verifier refuses.
        let all = [self.word(2), self.word(3), self.word(4), self.word(5), self.word(6), self.word(7)];
        match index {
            0 => all[0],
            1 => all[1],
            2 => all[2],
            3 => all[3],
            4 => all[4],
            _ => all[5],
        }
    }

    #[inline(always)]
    fn left(self) -> i32 {
        self.word(1) as i32
    }

    #[inline(always)]
    fn ret(self) -> i64 {
        self.word(2) as i64
    }
}

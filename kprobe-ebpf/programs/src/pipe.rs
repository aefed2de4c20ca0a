//! Pipe family: which bytes of a pipe a thread put in or took out.
//!
//! The kernel does not count them, so the programs do: for every pipe that anybody uses, whoever is selected, or the
//! positions that a selected thread is told would be wrong. Only records are filtered.
//!
//! A pipe's own number of buffers that were ever filled (`head`) tells what address and inode cannot: a pipe that has none is
//! new, and one that has fewer than before is one with a name that was closed by all and opened again. So nothing has to be
//! forgotten when a pipe goes; what was not used for the longest time makes room.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    btf_maps::LruHashMap,
    macros::btf_map,
};
use kprobe_core::abi::{
    Family, PIPE_OVERLAPPED, PIPE_PEEK, PIPE_RELATIVE, PipeCall, PipeRead, PipeWrite, SYSCALL_TABLE,
};

use crate::{
    args::Args,
    atomic, cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    file::{File, Inode},
    filter,
    frozen::PIPE_CALLS,
    kernel,
    memory::{Direct, Object, Probed},
    offsets::{
        OFF_ARG_0, OFF_ARG_1, OFF_ARG_2, OFF_KIOCB_KI_FILP, OFF_PIPE_BUFFER_LEN, OFF_PIPE_BUFFER_PRIVATE,
        OFF_PIPE_INODE_INFO_BUFS, OFF_PIPE_INODE_INFO_HEAD, OFF_PIPE_INODE_INFO_RING_SIZE,
        OFF_PIPE_INODE_INFO_TAIL,
    },
    storage::{self, TaskStorage},
    syscall::Source,
    task::Task,
};

/// What is known of a pipe.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pipe {
    /// Bytes that were put in.
    written: u64,
    /// Bytes that were taken out.
    read: u64,
    /// Buffers that had ever been filled when it was last looked at, or fewer.
    head: u32,
    device: u32,
    /// It had been used when it was first seen.
    is_relative: u64,
}

/// What a pipe is known by. Not the address alone: of two threads that find another pipe there than was known, the later
/// would forget what the first has already counted.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PipeKey {
    /// Of its `struct pipe_inode_info`.
    address: u64,
    inode: u64,
}

/// What is known of each pipe.
#[btf_map]
pub static PIPES: LruHashMap<PipeKey, Pipe, 1> = LruHashMap::new();

/// One of the pipes of a call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct End {
    /// Address; 0 for none.
    pipe: u64,
    inode: u64,
    /// Bytes that had been moved on that side when the call began.
    moved: u64,
}

impl End {
    const NONE: Self = Self { pipe: 0, inode: 0, moved: 0 };
}

/// A call that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Moving {
    from: End,
    into: End,
    /// One of [`PipeCall`]; none if no pipe is concerned.
    call: u64,
}

/// The call that each thread is in.
#[btf_map]
pub static MOVING: TaskStorage<Moving> = TaskStorage::new();

/// `sys_enter`.
#[inline(always)]
pub fn enter(source: impl Source) {
    let id = source.entered();
    let Some(call) = call_of(id) else { return };
    let task = storage::current();
    if is_foreign(task) {
        return;
    }
    begin(task, call, When::Before, |index| source.argument(index));
}

/// `sys_exit`.
#[inline(always)]
pub fn exit(source: impl Source) {
    let Some(call) = call_of(source.left()) else { return };
    let task = storage::current();
    let ret = source.ret();
    match MOVING.find(task) {
        Some(moving) => end(moving, task, call, ret),
        // It was in the call when the programs were attached.
        None if ret > 0 && !is_foreign(task) => {
            let regs = kernel::registers(task);
            begin(task, call, When::Late, |index| match index {
                0 => regs.load(&OFF_ARG_0),
                1 => regs.load(&OFF_ARG_1),
                _ => regs.load(&OFF_ARG_2),
            });
            if let Some(moving) = MOVING.find(task) {
                end(moving, task, call, ret);
            }
        }
        None => {}
    }
}

/// What the native call with this number does to pipes, if anything.
#[inline(always)]
pub fn call_of(id: i32) -> Option<PipeCall> {
    let index = id as usize;
    if index >= SYSCALL_TABLE {
        return None;
    }
    let call = PipeCall(PIPE_CALLS.at(index));
    (call != PipeCall::NONE).then_some(call)
}

/// Whether the thread is in a call of another table: of a 32-bit program.
#[inline(always)]
pub fn is_foreign(task: *mut task_struct) -> bool {
    // x86: TS_COMPAT
    Task::<Direct>::new(Object::new(task)).status().is_some_and(|status| status & 2 != 0)
}

/// When a pipe is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the call does anything.
    Before,
    /// When it is over: what it did to a pipe that was not known before cannot be told.
    Late,
}

/// A side of a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Read,
    Written,
}

/// Looks at the pipes that the descriptors of a call stand for.
#[inline(always)]
fn begin(task: *mut task_struct, call: PipeCall, when: When, argument: impl Fn(u8) -> u64) {
    let open = |fd: u64| File::of(Task::<Direct>::new(Object::new(task)), fd as u32);
    let first = open(argument(0));
    let second = match call {
        PipeCall::SPLICE => open(argument(2)),
        PipeCall::TEE => open(argument(1)),
        _ => File::NONE,
    };
    let is_into = match call {
        PipeCall::WRITE | PipeCall::SENDFILE => true,
        PipeCall::VMSPLICE => first.is_writable(),
        _ => false,
    };
    let (from, into) = if is_into { (second, first) } else { (first, second) };
    start(task, call, when, from.inode(), into.inode());
}

/// Remembers how far the two pipes are, of which either may be none.
#[inline(always)]
fn start(task: *mut task_struct, call: PipeCall, when: When, from: Inode, into: Inode) {
    let Some(moving) = MOVING.make(task) else {
        cpu::count_unstored(Family::Pipe);
        return;
    };
    let from = look(from, when, Side::Read);
    let into = look(into, when, Side::Written);
    let is_any = from.pipe != 0 || into.pipe != 0;
    let call = if is_any { u64::from(call.0) } else { 0 };
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { moving.write(Moving { from, into, call }) };
}

/// Finds a pipe, or makes it known.
#[inline(always)]
fn look(inode: Inode, when: When, side: Side) -> End {
    if !inode.is_fifo() {
        return End::NONE;
    }
    let object = inode.pipe();
    let address = object.address() as u64;
    if address == 0 {
        return End::NONE;
    }
    let number = inode.number();
    let key = PipeKey { address, inode: number };
    let pipe = PIPES.get_ptr_mut(key);
    // What is known first, and with a barrier, or another thread may fill a buffer and say so in between. `head` is the
    // lower half of its word.
    // SAFETY: the pointer is to a map element, whose words others change only as a whole; no bit is set.
    let known = pipe.map(|pipe| unsafe { atomic::read((&raw mut (*pipe).head).cast()) } as u32);
    let head = object.load::<u32>(&OFF_PIPE_INODE_INFO_HEAD);
    if let (Some(pipe), Some(known)) = (pipe, known) {
        if head.wrapping_sub(known) as i32 >= 0 {
            // SAFETY: likewise. Of two threads the one that saw less may be the last, which is nothing to the comparison.
            unsafe { (&raw mut (*pipe).head).write_volatile(head) };
            return End { pipe: address, inode: number, moved: moved(pipe, side) };
        }
        // One with a name that all had closed.
        let _ = PIPES.remove(key);
    }
    let new = Pipe {
        written: if head == 0 { 0 } else { pipe_unread(address, head) },
        read: 0,
        head,
        device: inode.device(),
        is_relative: u64::from(head != 0),
    };
    // Another thread that is as early may have put it there: that one then.
    let _ = PIPES.insert(key, new, BPF_NOEXIST.into());
    let Some(pipe) = PIPES.get_ptr_mut(key) else {
        cpu::count_unstored(Family::Pipe);
        return End::NONE;
    };
    if when == When::Late {
        return End::NONE;
    }
    End { pipe: address, inode: number, moved: moved(pipe, side) }
}

/// Bytes in a pipe that was in use before it was seen: those that come next are behind them.
///
/// A function of its own, which the verifier looks at once instead of wherever a pipe may turn up: old ones would run out of
/// patience.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pipe_unread(address: u64, head: u32) -> u64 {
    /// A pipe has 16 buffers if nobody asked for more.
    const MOST: u32 = 64;
    let pipe = Object::<Probed>::new(address as *const u8);
    let tail: u32 = pipe.load(&OFF_PIPE_INODE_INFO_TAIL);
    let mask = pipe.load::<u32>(&OFF_PIPE_INODE_INFO_RING_SIZE).wrapping_sub(1);
    let buffers = pipe.follow(&OFF_PIPE_INODE_INFO_BUFS);
    // Its last member, 8 bytes.
    let size = OFF_PIPE_BUFFER_PRIVATE.get() + 8;
    let mut bytes = 0;
    let mut at = 0;
    while at < MOST && tail.wrapping_add(at) != head {
        let index = u64::from(tail.wrapping_add(at) & mask);
        let buffer = Object::<Probed>::new(buffers.address().wrapping_add((index * size) as usize));
        bytes += u64::from(buffer.load::<u32>(&OFF_PIPE_BUFFER_LEN));
        at += 1;
    }
    bytes
}

/// The call returned `ret`.
#[inline(always)]
fn end(moving: *mut Moving, task: *mut task_struct, call: PipeCall, ret: i64) {
    // SAFETY: see `start`.
    let Moving { from, into, call: begun } = unsafe { moving.read() };
    if begun != u64::from(call.0) {
        return;
    }
    // SAFETY: see `start`.
    unsafe { (&raw mut (*moving).call).write(0) };
    if ret <= 0 {
        return;
    }
    let caller = CurrentTask(Task::<Direct>::new(Object::new(task)));
    let is_selected = filter::selects_current(caller.thread());
    let (now, bytes, call) = (now(), ret as u64, call.0.into());
    // What goes from one pipe to another is taken out first.
    let took = if begun == PipeCall::TEE.0.into() { peek(from) } else { advance(from, Side::Read, bytes) };
    if let Some(Moved { start, device, flags }) = took
        && is_selected
    {
        let end = start + bytes;
        emit(caller, now, || PipeRead { inode: from.inode, start, end, device, call, flags });
    }
    if let Some(Moved { start, device, flags }) = advance(into, Side::Written, bytes)
        && is_selected
    {
        let end = start + bytes;
        emit(caller, now, || PipeWrite { inode: into.inode, start, end, device, call, flags });
    }
}

/// What a call did to one side of a pipe.
struct Moved {
    start: u64,
    device: u32,
    flags: u16,
}

/// Counts the bytes of a call, behind those of all that ended before it.
#[inline(always)]
fn advance(end: End, side: Side, bytes: u64) -> Option<Moved> {
    let pipe = known(end)?;
    // SAFETY: the pointer is to a map element.
    let counter =
        unsafe { if side == Side::Read { &raw mut (*pipe).read } else { &raw mut (*pipe).written } };
    // Pipes and sides: addresses are even.
    let of = end.pipe + u64::from(side == Side::Read);
    let start = atomic::take(counter, bytes, of, Family::Pipe)?;
    if side == Side::Written {
        // Now a buffer has been filled, whether it was this call or another: of a new pipe at this address none has.
        // SAFETY: likewise; see `look`.
        unsafe {
            let head = &raw mut (*pipe).head;
            if head.read_volatile() == 0 {
                head.write_volatile(1);
            }
        }
    }
    let overlapped = if start == end.moved { 0 } else { PIPE_OVERLAPPED };
    Some(Moved { start, device: device(pipe), flags: relative(pipe) | overlapped })
}

/// The bytes of a call that leaves them where they are: the next to be taken out.
#[inline(always)]
fn peek(end: End) -> Option<Moved> {
    let pipe = known(end)?;
    let overlapped = if moved(pipe, Side::Read) == end.moved { 0 } else { PIPE_OVERLAPPED };
    let flags = relative(pipe) | overlapped | PIPE_PEEK;
    Some(Moved { start: end.moved, device: device(pipe), flags })
}

/// What is known of a pipe, if it is still that pipe.
#[inline(always)]
fn known(end: End) -> Option<*mut Pipe> {
    if end.pipe == 0 {
        return None;
    }
    let pipe = PIPES.get_ptr_mut(PipeKey { address: end.pipe, inode: end.inode });
    if pipe.is_none() {
        cpu::count_unpaired(Family::Pipe);
    }
    pipe
}

#[inline(always)]
fn moved(pipe: *mut Pipe, side: Side) -> u64 {
    // SAFETY: the pointer is to a map element, whose words others change only as a whole.
    unsafe {
        match side {
            Side::Read => (&raw const (*pipe).read).read_volatile(),
            Side::Written => (&raw const (*pipe).written).read_volatile(),
        }
    }
}

#[inline(always)]
fn device(pipe: *mut Pipe) -> u32 {
    // SAFETY: the pointer is to a map element; nobody changes the member.
    unsafe { (*pipe).device }
}

#[inline(always)]
fn relative(pipe: *mut Pipe) -> u16 {
    // SAFETY: likewise.
    if unsafe { (*pipe).is_relative } != 0 { PIPE_RELATIVE } else { 0 }
}

/// The functions of the kernel that pipes have for themselves.
pub mod function {
    use super::*;

    /// The entry of `pipe_read(iocb, to)` or `pipe_write(iocb, from)`.
    #[inline(always)]
    pub fn entered(args: Args, call: PipeCall) {
        // Before 5.12 `sendfile` writes to a pipe with the function that `write` has. Another call is not under way, even if
        // its end was not seen.
        if kernel::SENDFILE_WRITES && call == PipeCall::WRITE && is_under_way(PipeCall::SENDFILE) {
            return;
        }
        let iocb = Object::<Probed>::new(args.word(0) as *const u8);
        let inode = File::new(iocb.load(&OFF_KIOCB_KI_FILP)).inode();
        let (from, into) = if call == PipeCall::WRITE { (Inode::NONE, inode) } else { (inode, Inode::NONE) };
        start(storage::current(), call, When::Before, from, into);
    }

    /// Whether the current thread is in such a call, which has begun.
    #[inline(always)]
    fn is_under_way(call: PipeCall) -> bool {
        // SAFETY: see `start`.
        MOVING.find(storage::current()).is_some_and(|moving| unsafe { (*moving).call } == call.0.into())
    }

    /// The entry of `do_splice(in, off_in, out, off_out, len, flags)`.
    #[inline(always)]
    pub fn splices(args: Args) {
        let (from, into) = (File::new(args.word(0)), File::new(args.word(2)));
        start(storage::current(), PipeCall::SPLICE, When::Before, from.inode(), into.inode());
    }

    /// The entry of `do_tee(in, out, len, flags)`.
    #[inline(always)]
    pub fn tees(args: Args) {
        let (from, into) = (File::new(args.word(0)), File::new(args.word(1)));
        start(storage::current(), PipeCall::TEE, When::Before, from.inode(), into.inode());
    }

    /// The entry of `do_sendfile(out_fd, in_fd, ppos, count, max)`.
    #[inline(always)]
    pub fn sends_file(args: Args) {
        begin(storage::current(), PipeCall::SENDFILE, When::Before, |_| args.word(0));
    }

    /// The entry of the system call `vmsplice`, as a function that takes the registers.
    #[inline(always)]
    pub fn vmsplices(args: Args) {
        let regs = args.object::<Direct>(0);
        begin(storage::current(), PipeCall::VMSPLICE, When::Before, |_| regs.load(&OFF_ARG_0));
    }

    /// The return of a function that has so many parameters.
    #[inline(always)]
    pub fn left(args: Args, call: PipeCall, params: usize) {
        let task = storage::current();
        if let Some(moving) = MOVING.find(task) {
            end(moving, task, call, args.word(params) as i64);
        }
    }
}

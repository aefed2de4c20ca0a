//! Memory family: page faults.
//!
//! What a fault counts as is the kernel's own rule (`mm_account_fault` in mm/memory.c): not while it has to be tried again,
//! not if it failed, and as a major one if it read from a device or had to be tried again.
//!
//! The kernel counts each fault of a thread in its `task_struct` right before its end. So a beginning belongs to an end if
//! the thread had counted one less then: no fault can be taken for another, whatever was not seen in between.

use core::arch::asm;

use aya_ebpf::{EbpfContext, bindings::task_struct, macros::btf_map};
use kprobe_core::abi::{
    FAULT_EXEC, FAULT_HAS_ACCESS, FAULT_HAS_BEGIN, FAULT_HAS_FILE, FAULT_PAGE, FAULT_REMOTE, FAULT_USER,
    FAULT_WRITE, Family, MemoryFaultMajor, MemoryFaultMinor,
};

use crate::{
    args::{Args, Frame},
    cpu,
    current::{CurrentTask, Who as _},
    emit::{self, emit, emit_one_in, now},
    file, filter,
    frozen::MINOR_FAULTS_ONE_IN,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_BPF_PERF_EVENT_DATA_ADDR, OFF_TASK_STRUCT_MAJ_FLT, OFF_TASK_STRUCT_MIN_FLT,
        OFF_VM_AREA_STRUCT_VM_FILE,
    },
    storage::{self, TaskStorage},
    task::Task,
};

// include/linux/mm_types.h: enum fault_flag
const WRITE: u32 = 0x1;
const TRIED: u32 = 0x20;
const USER: u32 = 0x40;
const REMOTE: u32 = 0x80;
const INSTRUCTION: u32 = 0x100;
/// Linux 6.4. The first attempt, which has only a lock on the mapping.
const VMA_LOCK: u32 = 0x1000;

// enum vm_fault_reason
const MAJOR: u32 = 0x4;
const RETRY: u32 = 0x400;
/// `VM_FAULT_ERROR`: out of memory, signals, broken memory, no huge page.
const ERROR: u32 = 0x1 | 0x2 | 0x10 | 0x20 | 0x40 | 0x800;

// arch/x86/include/asm/trap_pf.h
const X86_WRITE: u64 = 0x2;
const X86_USER: u64 = 0x4;
const X86_INSTRUCTION: u64 = 0x10;

/// A fault that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Fault {
    /// 0 if nothing has begun yet.
    begin_ns: u64,
    /// Faults that the thread had counted before.
    before: u64,
    address: u64,
    inode: u64,
    device: u32,
    /// `FAULT_*`.
    flags: u32,
    /// Flags of the latest attempt, of the kernel's.
    attempt: u32,
    reserved: u32,
}

/// The fault that each thread is in, or was in last.
#[btf_map]
pub static FAULTS: TaskStorage<Fault> = TaskStorage::new();

/// The current thread, as the programs here need it.
#[derive(Clone, Copy)]
struct Faulting {
    task: *mut task_struct,
    who: CurrentTask<Direct>,
}

impl Faulting {
    /// If it is selected.
    #[inline(always)]
    fn selected() -> Option<Self> {
        let task = storage::current();
        let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
        filter::selects_current(who.thread()).then_some(Self { task, who })
    }

    /// Faults of its that the kernel has counted.
    #[inline(always)]
    fn counted(self) -> u64 {
        let task = Object::<Direct>::new(self.task);
        let minor: u64 = task.load(&OFF_TASK_STRUCT_MIN_FLT);
        minor.wrapping_add(task.load(&OFF_TASK_STRUCT_MAJ_FLT))
    }

    /// The beginning of the fault that has just been counted, if it was seen.
    #[inline(always)]
    fn begun(self) -> Option<*const Fault> {
        let fault = FAULTS.find(self.task)?.cast_const();
        // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
        // access: one at a time.
        let Fault { begin_ns, before, .. } = unsafe { fault.read() };
        (begin_ns != 0 && before.wrapping_add(1) == self.counted()).then_some(fault)
    }

    /// Remembers a beginning.
    #[inline(always)]
    fn begin(self, fault: impl FnOnce(*mut Fault, u64) -> Fault) {
        let Some(place) = FAULTS.make(self.task) else {
            cpu::count_unstored(Family::Memory);
            return;
        };
        let fault = fault(place, self.counted());
        // SAFETY: as in `begun`.
        unsafe { place.write(fault) };
    }
}

/// The entry of `handle_mm_fault(vma, address, flags, regs)`.
#[inline(always)]
pub fn entered(args: Args) {
    begin::<Direct>(args.object(0), args.word(1), args.word(2) as u32);
}

/// A breakpoint there.
#[inline(always)]
pub fn entered_frame(frame: Frame) {
    begin::<Probed>(Object::new(frame.word(0) as *const u8), frame.word(1), frame.word(2) as u32);
}

#[inline(always)]
fn begin<M: Memory>(vma: Object<M>, address: u64, attempt: u32) {
    let Some(faulting) = Faulting::selected() else { return };
    faulting.begin(|last, before| {
        // SAFETY: as in `Faulting::begun`.
        let last = unsafe { last.read() };
        let address = page(address);
        // Another attempt: the kernel says so, or the first one had only the lock on the mapping. (The other reason to come
        // here again is a signal that was handled in between: that is a new fault.)
        let is_again = attempt & TRIED != 0 || last.attempt & VMA_LOCK != 0 && attempt & VMA_LOCK == 0;
        let is_same = last.begin_ns != 0 && last.before == before && last.address == address && is_again;
        let begin_ns = if is_same { last.begin_ns } else { now() };
        let file = vma.follow(&OFF_VM_AREA_STRUCT_VM_FILE);
        let file = if file.address().is_null() { None } else { file::identity(file) };
        let (inode, device) = file.unwrap_or_default();
        let flags = FAULT_HAS_BEGIN | access(attempt) | if file.is_some() { FAULT_HAS_FILE } else { 0 };
        Fault { begin_ns, before, address, inode, device, flags, attempt, reserved: 0 }
    });
}

/// The tracepoints `page_fault_user` and `page_fault_kernel(address, regs, error_code)` of x86: before the kernel has
/// looked at anything. Interrupts are off there.
#[inline(always)]
pub fn raised(args: Args) {
    let Some(faulting) = Faulting::selected() else { return };
    let error = args.word(2);
    let bit = |of, is| if error & of != 0 { is } else { 0 };
    let flags = FAULT_HAS_BEGIN
        | FAULT_HAS_ACCESS
        | bit(X86_WRITE, FAULT_WRITE)
        | bit(X86_INSTRUCTION, FAULT_EXEC)
        | bit(X86_USER, FAULT_USER);
    let address = page(args.word(0));
    faulting.begin(|_, before| Fault {
        begin_ns: now(),
        before,
        address,
        inode: 0,
        device: 0,
        flags,
        attempt: 0,
        reserved: 0,
    });
}

/// The return of the function: whether the fault is over, and was a major one.
#[inline(always)]
fn outcome(ret: u32, attempt: u32) -> Option<bool> {
    let is_over = ret & (RETRY | ERROR) == 0;
    is_over.then_some(ret & MAJOR != 0 || attempt & TRIED != 0)
}

/// The return of `handle_mm_fault`.
#[inline(always)]
pub fn major_returned(args: Args) {
    let attempt = args.word(2) as u32;
    if outcome(args.word(4) as u32, attempt) == Some(true)
        && let Some(faulting) = Faulting::selected()
    {
        major(faulting, args.word(1), access(attempt));
    }
}

/// The same, for minor faults.
#[inline(always)]
pub fn minor_returned(args: Args) {
    let attempt = args.word(2) as u32;
    if outcome(args.word(4) as u32, attempt) == Some(false)
        && let Some(faulting) = Faulting::selected()
    {
        minor(faulting, args.word(1), access(attempt));
    }
}

/// A breakpoint at the return.
#[inline(always)]
pub fn major_left(frame: Frame) {
    left(frame, true);
}

/// The same, for minor faults.
#[inline(always)]
pub fn minor_left(frame: Frame) {
    left(frame, false);
}

#[inline(always)]
fn left(frame: Frame, wanted: bool) {
    // Whether it was a major fault also depends on what only the beginning knows.
    let ret = frame.ret() as u32;
    if outcome(ret, 0).is_none() {
        return;
    }
    let Some(faulting) = Faulting::selected() else { return };
    let Some(begun) = faulting.begun() else {
        // Counted once, of the two programs that come here.
        if wanted {
            cpu::count_unpaired(Family::Memory);
        }
        return;
    };
    // SAFETY: as in `Faulting::begun`.
    let Fault { address, attempt, .. } = unsafe { begun.read() };
    if outcome(ret, attempt) == Some(wanted) {
        if wanted {
            major(faulting, address, access(attempt));
        } else {
            minor(faulting, address, access(attempt));
        }
    }
}

/// The software event for major faults: right behind the place where the kernel counts them.
#[inline(always)]
pub fn major_counted(context: &impl EbpfContext) {
    if let Some(faulting) = Faulting::selected() {
        major(faulting, sampled_address(context), 0);
    }
}

/// That for minor faults.
#[inline(always)]
pub fn minor_counted(context: &impl EbpfContext) {
    if let Some(faulting) = Faulting::selected() {
        minor(faulting, sampled_address(context), 0);
    }
}

/// `bpf_perf_event_data.addr`. It stands behind the registers, of which each architecture has others.
#[inline(always)]
fn sampled_address(context: &impl EbpfContext) -> u64 {
    const X86_64: usize = 21 * 8 + 8;
    const AARCH64: usize = 34 * 8 + 8;
    match OFF_BPF_PERF_EVENT_DATA_ADDR.get() as usize {
        X86_64 => word_of_context::<X86_64>(context),
        AARCH64 => word_of_context::<AARCH64>(context),
        _ => 0,
    }
}

/// Written out, because the verifier wants the offset in the instruction that loads, and the compiler would join the two.
#[inline(always)]
fn word_of_context<const AT: usize>(context: &impl EbpfContext) -> u64 {
    let word;
    // SAFETY: the verifier knows the members of the context and refuses anything else.
    unsafe {
        asm!(
            "{0} = *(u64 *)({1} + {at})",
            out(reg) word,
            in(reg) context.as_ptr(),
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    word
}

/// A major fault has come to its end. `known` is what is known of it at the end.
#[inline(always)]
fn major(faulting: Faulting, address: u64, known: u32) {
    let now = now();
    let begun = faulting.begun();
    let (mut begin_ns, mut inode, mut device, mut flags) = (0, 0, 0, known);
    if let Some(begun) = begun {
        // SAFETY: as in `Faulting::begun`.
        let fault = unsafe { begun.read() };
        (begin_ns, inode, device, flags) = (fault.begin_ns, fault.inode, fault.device, fault.flags);
        if now.saturating_sub(begin_ns) < emit::min_duration_ns(Family::Memory) {
            return;
        }
    } else {
        cpu::count_unpaired(Family::Memory);
    }
    let address = page(address);
    emit(faulting.who, now, || MemoryFaultMajor { begin_ns, address, inode, device, flags });
}

/// A minor fault has come to its end.
#[inline(always)]
fn minor(faulting: Faulting, address: u64, known: u32) {
    let one_in = MINOR_FAULTS_ONE_IN.get();
    if one_in == 0 {
        emit::count_only::<MemoryFaultMinor>();
        return;
    }
    emit_one_in(faulting.who, now(), one_in, || {
        // SAFETY: as in `Faulting::begun`.
        let begun = faulting.begun().map(|begun| unsafe { begun.read() });
        let (begin_ns, flags) = begun.map_or((0, known), |fault| (fault.begin_ns, fault.flags));
        MemoryFaultMinor { begin_ns, address: page(address), one_in, flags: flags & !FAULT_HAS_FILE }
    });
}

#[inline(always)]
fn page(address: u64) -> u64 {
    address & !(FAULT_PAGE - 1)
}

/// From the kernel's flags.
#[inline(always)]
fn access(attempt: u32) -> u32 {
    let bit = |of, is| if attempt & of != 0 { is } else { 0 };
    FAULT_HAS_ACCESS
        | bit(WRITE, FAULT_WRITE)
        | bit(INSTRUCTION, FAULT_EXEC)
        | bit(USER, FAULT_USER)
        | bit(REMOTE, FAULT_REMOTE)
}

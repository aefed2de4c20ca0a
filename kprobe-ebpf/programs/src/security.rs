//! Security family: capability checks.

use aya_ebpf::{EbpfContext, macros::btf_map};
use kprobe_core::abi::{
    CAPABILITY_HAS_OPTIONS, CAPABILITY_IN_SETID, CAPABILITY_NO_AUDIT, Family, SecurityCapability,
};

use crate::{
    args::{Args, Frame},
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    filter,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP, OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET,
        OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS, OFF_USER_NAMESPACE_LEVEL,
    },
    storage::{self, TaskStorage},
    task::Task,
};

// include/linux/security.h
const CAP_OPT_NOAUDIT: u32 = 2;
const CAP_OPT_INSETID: u32 = 4;

/// The tracepoint `cap_capable(cred, target_ns, capable_ns, cap, ret)`.
#[inline(always)]
pub fn checked<M: Memory>(args: Args) {
    check(CurrentTask::<M>::find(), || SecurityCapability {
        capability: args.word(3) as u32,
        result: args.word(4) as i32,
        user_ns_level: level(args.object::<M>(1)),
        flags: 0,
    });
}

/// The same for `tracepoint`.
#[inline(always)]
pub fn checked_event(context: &impl EbpfContext) {
    let event = Object::<Probed>::new(context.as_ptr());
    check(CurrentTask::<Direct>::find(), || SecurityCapability {
        capability: event.load::<u32>(&OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP),
        result: event.load::<i32>(&OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET),
        user_ns_level: level(event.follow(&OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS)),
        flags: 0,
    });
}

/// The return of the function `cap_capable(cred, targ_ns, cap, opts)`.
#[inline(always)]
pub fn returned(args: Args) {
    check(CurrentTask::<Direct>::find(), || SecurityCapability {
        capability: args.word(2) as u32,
        result: args.word(4) as i32,
        user_ns_level: level(args.object::<Direct>(1)),
        flags: options(args.word(3) as u32),
    });
}

/// A check whose result is not known yet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Check {
    /// 1 + the number of the capability; 0 if nothing is checked.
    pending: u32,
    level: u32,
    flags: u32,
    reserved: u32,
}

/// What a thread is being checked for.
#[btf_map]
pub static CHECKS: TaskStorage<Check> = TaskStorage::new();

/// A breakpoint at the function.
#[inline(always)]
pub fn entered(frame: Frame) {
    let task = storage::current();
    if !filter::selects_current(CurrentTask(Task::<Direct>::new(Object::new(task))).thread()) {
        return;
    }
    let Some(check) = CHECKS.make(task) else {
        cpu::count_unstored(Family::Security);
        return;
    };
    let level = level(Object::<Probed>::new(frame.word(1) as *const u8));
    let pending = (frame.word(2) as u32).wrapping_add(1);
    let flags = options(frame.word(3) as u32);
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { check.write(Check { pending, level, flags, reserved: 0 }) };
}

/// A breakpoint at its return.
#[inline(always)]
pub fn left(frame: Frame) {
    let task = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
    if !filter::selects_current(who.thread()) {
        return;
    }
    // SAFETY: see `entered`.
    let check = CHECKS.find(task).filter(|check| unsafe { (**check).pending } != 0);
    let Some(check) = check else {
        cpu::count_unpaired(Family::Security);
        return;
    };
    // SAFETY: see `entered`.
    let Check { pending, level, flags, .. } = unsafe { check.read() };
    emit(who, now(), || SecurityCapability {
        capability: pending.wrapping_sub(1),
        result: frame.ret() as i32,
        user_ns_level: level,
        flags,
    });
    // SAFETY: see `entered`.
    unsafe { (&raw mut (*check).pending).write(0) };
}

#[inline(always)]
fn check<M: Memory>(who: CurrentTask<M>, body: impl Fn() -> SecurityCapability) {
    if filter::selects_current(who.thread()) {
        emit(who, now(), body);
    }
}

#[inline(always)]
fn level<M: Memory>(user_ns: Object<M>) -> u32 {
    user_ns.load(&OFF_USER_NAMESPACE_LEVEL)
}

#[inline(always)]
fn options(options: u32) -> u32 {
    let no_audit = if options & CAP_OPT_NOAUDIT != 0 { CAPABILITY_NO_AUDIT } else { 0 };
    let in_setid = if options & CAP_OPT_INSETID != 0 { CAPABILITY_IN_SETID } else { 0 };
    CAPABILITY_HAS_OPTIONS | no_audit | in_setid
}

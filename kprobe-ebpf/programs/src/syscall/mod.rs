//! Syscall family: one record for each completed call, made at its return from what was remembered at its entry.

mod entries;
mod number;
mod source;

use kprobe_core::abi::{Family, SYSCALL_HAS_FD, SYSCALL_HAS_REQUESTED, SYSCALL_HAS_RET, Syscall};

pub use entries::{ENTERS, Entries, Entry, InHash, InTask, TASKS};
use number::Call;
pub use source::{Event, Registers, Source};

use crate::{
    cpu,
    current::CurrentTask,
    emit::{emit, min_duration_ns, now},
    filter,
};

/// `sys_enter`.
#[inline(always)]
pub fn enter<E: Entries>(source: impl Source) {
    // Not to be forgotten: that is for the return, which this call will have.
    if !filter::selects_caller(source.place(), || source.thread(), None::<fn()>) {
        return;
    }
    let owner = E::owner();
    let task = E::task(owner);
    let id = source.entered();
    let call = Call::of(id, task.status());
    if !call.is_recorded {
        return;
    }
    let (fd, fd_flag) = match call.shape.fd() {
        Some(arg) => (source.argument(arg) as i32, SYSCALL_HAS_FD),
        None => (0, 0),
    };
    let (requested, requested_flag) = match call.shape.requested() {
        Some(arg) => (source.argument(arg), SYSCALL_HAS_REQUESTED),
        None => (0, 0),
    };
    let flags = call.flags | fd_flag | requested_flag;
    if call.shape.is_no_return() {
        let now = now();
        emit(CurrentTask(task), now, || Syscall { enter_ns: now, ret: 0, requested, fd, nr: call.nr, flags });
        return;
    }
    let Some(entry) = E::make(owner) else {
        cpu::count_unstored(Family::Syscall);
        return;
    };
    // As late as can be: what comes before is ours, not the call's.
    let enter_ns = now();
    // SAFETY: the kernel gave the pointer to the thread's own entry, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { entry.write(Entry { enter_ns, requested, fd, id, nr: call.nr, flags, reserved: 0 }) };
}

/// `sys_exit`.
#[inline(always)]
pub fn exit<E: Entries>(source: impl Source) {
    if !filter::selects_caller(source.place(), || source.thread(), Some(forget::<E>)) {
        return;
    }
    // As early as can be.
    let now = now();
    let owner = E::owner();
    let task = E::task(owner);
    let id = source.left();
    let Some(entry) = pending::<E>(owner, id) else {
        unpaired(Call::of(id, task.status()), id, source.ret());
        return;
    };
    // SAFETY: see `enter`.
    let enter_ns = unsafe { (*entry).enter_ns };
    if now.wrapping_sub(enter_ns) >= min_duration_ns(Family::Syscall) {
        emit(CurrentTask(task), now, || {
            // SAFETY: see `enter`.
            let entry = unsafe { entry.read() };
            Syscall {
                enter_ns: entry.enter_ns,
                ret: source.ret(),
                requested: entry.requested,
                fd: entry.fd,
                nr: entry.nr,
                flags: entry.flags | SYSCALL_HAS_RET,
            }
        });
    }
    // SAFETY: see `enter`.
    unsafe { (&raw mut (*entry).enter_ns).write(0) };
}

/// The entry that the return of a call with number `id` belongs to.
#[inline(always)]
fn pending<E: Entries>(owner: E::Owner, id: i32) -> Option<*mut Entry> {
    let entry = E::find(owner)?;
    // SAFETY: see `enter`.
    let (enter_ns, of) = unsafe { ((*entry).enter_ns, (*entry).id) };
    if enter_ns == 0 {
        return None;
    }
    // An entry is left over if the return was not seen. `rt_sigreturn` shows -1 at its return.
    if id != of && id != -1 && number::keeps_its_number(of) {
        // SAFETY: see `enter`.
        unsafe { (&raw mut (*entry).enter_ns).write(0) };
        return None;
    }
    Some(entry)
}

/// The current thread returns from a call that is not recorded: what was remembered of it must not be taken for the entry
/// of a later one.
#[inline(always)]
fn forget<E: Entries>() {
    if let Some(entry) = E::find(E::owner()) {
        // SAFETY: see `enter`.
        unsafe { (&raw mut (*entry).enter_ns).write(0) };
    }
}

/// Counts a return whose entry is not known.
#[inline(always)]
fn unpaired(call: Call, id: i32, ret: i64) {
    if !call.is_recorded || id == -1 {
        return;
    }
    if call.shape.is_returns_twice() && ret == 0 {
        // SAFETY: the pointer is to a map element.
        cpu::count(|cpu| unsafe { &raw mut (*cpu).fork_returns });
    } else {
        cpu::count_unpaired(Family::Syscall);
    }
}

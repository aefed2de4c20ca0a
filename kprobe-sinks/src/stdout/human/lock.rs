use kprobe_core::event::{
    Comm, FutexKey, FutexOp, FutexPlace, LockContention, LockFutex, LockFutexWake, WakeContext, errno_name,
};

use super::{
    line::{FAILED, Line, Thread, WHO, WORD},
    text::Span,
};

/// `waited 1.23ms for futex 0x7f0012345678 (WAIT), woken by 1234/1240`
pub(super) fn put_futex(line: &mut Line<'_>, event: &LockFutex) {
    let what = if event.restarted { "waited on" } else { "waited" };
    line.styled(WORD, format_args!("{what} "));
    line.put(format_args!("{} for ", Span(event.duration_ns())));
    match &event.key {
        Some(key) => put_key(line, key),
        None => line.put(format_args!("{} futexes", event.futexes)),
    }
    put_op(line, event.op);
    if let Some(waker) = &event.waker {
        line.put(format_args!(", woken by "));
        let thread =
            Thread { comm: Comm::default(), tgid: waker.tgid, tid: waker.tid, cpu: event.origin.cpu };
        line.styled(WHO, format_args!("{thread}"));
    }
    put_error(line, event.ret);
}

/// `wakes 1 and requeues 2 at futex 0x7f0012345678 (CMP_REQUEUE)`
pub(super) fn put_wake(line: &mut Line<'_>, event: &LockFutexWake) {
    match event.woken() {
        Some(woken) => line.styled(WORD, format_args!("wakes {woken}")),
        None => line.styled(WORD, format_args!("wakes")),
    }
    if let Some(requeued) = event.requeued() {
        line.put(format_args!(" and requeues {requeued}"));
    }
    if let Some(key) = &event.key {
        line.put(format_args!(" at "));
        put_key(line, key);
    }
    put_op(line, event.op);
    put_error(line, event.ret);
}

/// `waited 1.23ms for a mutex of the kernel`
pub(super) fn put_contention(line: &mut Line<'_>, event: &LockContention) {
    // Outside of a task's own context the thread in front is only the one that was interrupted.
    match event.context {
        Some(WakeContext::Task) => {}
        Some(context) => line.put(format_args!("[{}] ", context.name())),
        None => line.put(format_args!("[?] ")),
    }
    line.styled(WORD, format_args!("waited "));
    line.put(format_args!("{} for the kernel's {}", Span(event.duration_ns()), event.how.class()));
    line.put(format_args!(" {:#018x}", event.lock));
    if let Some(access) = event.how.access() {
        line.put(format_args!(" to {access}"));
    }
    put_error(line, event.ret);
}

fn put_key(line: &mut Line<'_>, key: &FutexKey) {
    line.put(format_args!("futex {:#x}", key.address));
    if let FutexPlace::File { inode, device, offset, .. } = key.place {
        line.put(format_args!(" (byte {offset} of inode {inode} on {device})"));
    }
}

fn put_op(line: &mut Line<'_>, op: FutexOp) {
    match op.name() {
        Some(name) => line.put(format_args!(" ({name})")),
        None => line.put(format_args!(" (operation {})", op.0)),
    }
}

fn put_error(line: &mut Line<'_>, ret: i32) {
    if ret >= 0 {
        return;
    }
    match errno_name(ret.unsigned_abs()) {
        Some(name) => line.styled(FAILED, format_args!(": {name}")),
        None => line.styled(FAILED, format_args!(": {ret}")),
    }
}

//! Wait family: what a thread without a CPU waited for, who woke it, and for what.
//!
//! What a thread waits for is found out when it gives up its CPU: the registers of its call, with their arguments, are at the
//! top of its stack. So a call that does not sleep costs nothing. Who wakes it puts down, in the same way, what it is doing; of
//! an interrupt that is what it delivers. All of that becomes one record when the thread has a CPU again.
//!
//! Both happen where the scheduler holds its locks, so nothing is allocated: what is remembered of a thread is in a hash that
//! is allocated beforehand, and not in task storage, for which older kernels allocate memory there and then.

pub mod delivery;
pub mod epoll;
pub mod thing;
pub mod throttle;

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::{
    CONTEXT_ABSENT, CONTEXT_SOFTIRQ, CONTEXT_TASK, Family, WAIT_HAS_NR, WAIT_HAS_WAKER, WAIT_OF_WAKE,
    WAIT_OWN_LIMIT, WaitBlocked, wait_class,
};

use self::thing::{Doing, NO_CALL, Side, Thing};
use crate::{
    aggregate::Measured,
    args::Args,
    context, cpu,
    current::CurrentTask,
    emit::{emit_measured, min_duration_ns, now},
    filter, kernel,
    memory::Direct,
    storage,
    task::{TASK_DEAD, Task},
};

/// How much older than a wait its wake-up may be.
const EARLIEST_WAKE_NS: u64 = 1_000_000;

// include/linux/sched.h
const TASK_STOPPED: u32 = 4;
const TASK_TRACED: u32 = 8;

/// What is remembered of a thread.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Waiting {
    /// When the thread was created: another one may be at its address later.
    start_ns: u64,
    /// When it last got a CPU.
    arrived_ns: u64,
    /// When it gave up its CPU; 0 if it does not wait.
    begin_ns: u64,
    /// How often it had switched by then: if it has not since, this is still that wait. Nobody looks while it is not selected.
    switches: u64,
    /// What it waits for, or one of the two.
    waits: [Thing; 2],
    state: u32,
    nr: u32,
    /// Written by whoever wakes it, under the thread's own lock; the time last.
    woken_ns: u64,
    wakes: [Thing; 2],
    wake_nr: u32,
    waker_tgid: u32,
    waker_tid: u32,
    context: u32,
    own_limit: u64,
}

impl Waiting {
    #[inline(always)]
    const fn new(start_ns: u64) -> Self {
        Self {
            start_ns,
            arrived_ns: 0,
            begin_ns: 0,
            switches: 0,
            waits: [Thing::NONE; 2],
            state: 0,
            nr: 0,
            woken_ns: 0,
            wakes: [Thing::NONE; 2],
            wake_nr: 0,
            waker_tgid: 0,
            waker_tid: 0,
            context: 0,
            own_limit: 0,
        }
    }
}

/// By the address of the `task_struct`: when a thread begins another program it may get the id of the first one. Emptied when
/// the thread ends.
#[btf_map]
pub static WAITS: HashMap<u64, Waiting, 1> = HashMap::new();

/// Who asks for what is remembered of a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// The thread itself, when it leaves a CPU or comes to one.
    Itself,
    /// Who wakes it.
    Waker,
}

/// What is remembered of a thread, if anything.
#[inline(always)]
fn find(task: Task<Direct>, who: Asks) -> Option<*mut Waiting> {
    let waiting = WAITS.get_ptr_mut(task.address() as u64)?;
    let start_ns = task.start_ns();
    // SAFETY: the pointer is to a map element. Who wakes a thread and what the thread does itself write to different members
    // of it, but for the next lines; each at one time, since the one holds the lock of a CPU's queue and the other that of the
    // thread. A thread that wakes itself holds none, and is not looked at. Who waits or is woken has not ended.
    if unsafe { (&raw const (*waiting).start_ns).read_volatile() } != start_ns {
        // It was another thread's. Only the thread itself may say so: its waker may be late.
        if who == Asks::Waker {
            return None;
        }
        // SAFETY: likewise.
        unsafe {
            (&raw mut (*waiting).begin_ns).write_volatile(0);
            (&raw mut (*waiting).woken_ns).write_volatile(0);
            (&raw mut (*waiting).arrived_ns).write_volatile(0);
            (&raw mut (*waiting).start_ns).write_volatile(start_ns);
        }
    }
    Some(waiting)
}

#[inline(always)]
fn make(task: Task<Direct>, who: Asks) -> Option<*mut Waiting> {
    if let Some(waiting) = find(task, who) {
        return Some(waiting);
    }
    // The waker may be as early: that it is there then is fine.
    let _ = WAITS.insert(task.address() as u64, Waiting::new(task.start_ns()), BPF_NOEXIST.into());
    let waiting = find(task, who);
    if waiting.is_none() {
        cpu::count_unstored(Family::Wait);
    }
    waiting
}

/// `sched_switch(preempt, prev, next, prev_state)`.
#[inline(always)]
pub fn switch(args: Args) {
    let prev = Task::<Direct>::new(args.object(1));
    let next = Task::<Direct>::new(args.object(2));
    let (leaves, comes) = (prev.thread(), next.thread());
    let state = kernel::entered_state(args, prev);
    let is_preempted = args.word(0) & 1 != 0;
    if state & TASK_DEAD != 0 && !is_preempted {
        // That there is none is fine.
        let _ = WAITS.remove(prev.address() as u64);
    } else if state != 0 && !is_preempted && filter::selects_current(leaves) {
        leave(prev, state);
    }
    if filter::selects(next, comes) {
        arrive(next);
    }
}

/// A thread gives up its CPU. It is still the current one.
#[inline(always)]
fn leave(task: Task<Direct>, state: u32) {
    let Some(waiting) = make(task, Asks::Itself) else { return };
    let mut doing = Doing::of(storage::current(), Side::Waits);
    if state & (TASK_STOPPED | TASK_TRACED) != 0 {
        doing.things = [Thing::of_class(wait_class::STOP), Thing::NONE];
    }
    // SAFETY: see `find`.
    unsafe {
        (&raw mut (*waiting).waits).write(doing.things);
        (&raw mut (*waiting).nr).write(doing.nr);
        (&raw mut (*waiting).state).write(state);
        (&raw mut (*waiting).switches).write(task.switches());
    }
    // As late as can be: what comes before is ours.
    let now = now();
    // SAFETY: see `find`.
    unsafe { (&raw mut (*waiting).begin_ns).write(now) };
}

/// A thread has a CPU again.
#[inline(always)]
fn arrive(task: Task<Direct>) {
    let Some(waiting) = find(task, Asks::Itself) else { return };
    let now = now();
    // SAFETY: see `find`.
    let (begin_ns, arrived_ns, switches) = unsafe {
        (
            (&raw const (*waiting).begin_ns).read(),
            (&raw const (*waiting).arrived_ns).read(),
            (&raw const (*waiting).switches).read(),
        )
    };
    // Else it has come and gone unseen.
    let is_that = begin_ns != 0 && switches == task.switches();
    if is_that && now.wrapping_sub(begin_ns) >= min_duration_ns(Family::Wait) {
        // SAFETY: likewise, and nobody else writes: it did wait, whoever woke it did so before it was chosen to run, and it is
        // not woken once more before it runs. A reference, because a copy would take much of a program's small stack.
        let remembered = unsafe { &*waiting };
        let measure = || Measured {
            duration_ns: now.wrapping_sub(begin_ns),
            subject: matching(&remembered.waits, &remembered.wakes).0.class.into(),
            whose: None,
        };
        emit_measured(CurrentTask(task), now, measure, || record(remembered, arrived_ns));
    }
    // SAFETY: see `find`.
    unsafe {
        (&raw mut (*waiting).begin_ns).write(0);
        (&raw mut (*waiting).arrived_ns).write(now);
    }
}

#[inline(always)]
fn record(of: &Waiting, arrived_ns: u64) -> WaitBlocked {
    // The last wake-up is the one that counts, if it was since the thread last had a CPU. It may be a moment older than the
    // begin: who wakes a thread on another CPU does not wait until that has switched. One that is older than that did not end
    // this wait, and the one that did was not seen.
    let is_woken = of.woken_ns > arrived_ns && of.woken_ns.saturating_add(EARLIEST_WAKE_NS) >= of.begin_ns;
    let (wait, mut wake) = matching(&of.waits, &of.wakes);
    let is_foreign = of.context != CONTEXT_TASK && of.context != CONTEXT_ABSENT;
    if is_foreign
        && wake.class == wait_class::SOCKET.into()
        && !may_be_woken_by_socket(wait, wake, of.context)
    {
        // What the softirq worked on last was not what it woke the thread for.
        wake = &Thing::NONE;
    }
    let nr = |nr: u32| if nr == NO_CALL { 0 } else { WAIT_HAS_NR };
    let mut flags = wait.flags() | nr(of.nr);
    let none = WaitBlocked {
        begin_ns: of.begin_ns,
        woken_ns: 0,
        object: wait.number(),
        cookie: wait.cookie,
        wake_object: 0,
        wake_cookie: 0,
        device: wait.device,
        wake_device: 0,
        fd: wait.fd,
        wake_fd: 0,
        waker_tgid: 0,
        waker_tid: 0,
        state: of.state,
        flags,
        nr: if of.nr == NO_CALL { 0 } else { of.nr as u16 },
        wake_nr: 0,
        class: wait.class as u8,
        wake_class: 0,
        wake_context: 0,
        reserved: 0,
    };
    if !is_woken {
        return none;
    }
    flags |= WAIT_HAS_WAKER | (wake.flags() | nr(of.wake_nr)) << WAIT_OF_WAKE;
    if of.own_limit != 0 {
        flags |= WAIT_OWN_LIMIT << WAIT_OF_WAKE;
    }
    WaitBlocked {
        woken_ns: if of.woken_ns < of.begin_ns { of.begin_ns } else { of.woken_ns },
        wake_object: wake.number(),
        wake_cookie: wake.cookie,
        wake_device: wake.device,
        wake_fd: wake.fd,
        waker_tgid: of.waker_tgid,
        waker_tid: of.waker_tid,
        flags,
        wake_nr: if of.wake_nr == NO_CALL { 0 } else { of.wake_nr as u16 },
        wake_class: wake.class as u8,
        wake_context: of.context as u8,
        ..none
    }
}

/// Of what a thread may have waited for, and what the waker's call is about, the two that are the same.
#[inline(always)]
fn matching<'a>(waits: &'a [Thing; 2], wakes: &'a [Thing; 2]) -> (&'a Thing, &'a Thing) {
    for (wait, wake) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        if waits[wait].is(&wakes[wake]) {
            return (&waits[wait], &wakes[wake]);
        }
    }
    (&waits[0], &wakes[0])
}

/// What a softirq works on it says socket by socket, but not of every way to wake who waits for one. Whoever waits for another
/// socket was not woken for this one; who waits for several things may have been.
#[inline(always)]
fn may_be_woken_by_socket(wait: &Thing, wake: &Thing, context: u32) -> bool {
    const SEVERAL: [u8; 4] = [wait_class::EPOLL, wait_class::POLL, wait_class::IO_URING, wait_class::SIGNAL];
    context == CONTEXT_SOFTIRQ
        && (wait.is(wake) || SEVERAL.iter().any(|class| wait.class == u32::from(*class)))
}

/// `sched_waking(task)`: also of a thread that does not wait yet, since the switch away from it may come later.
#[inline(always)]
pub fn waking(args: Args) {
    let wakee = Task::<Direct>::new(args.object(0));
    let thread = wakee.thread();
    if !filter::selects(wakee, thread) {
        return;
    }
    let ids = storage::current_task().thread();
    if ids.tid == thread.tid {
        // It has not gone to sleep yet, nor will it now. Besides, nobody holds its lock.
        return;
    }
    let Some(waiting) = make(wakee, Asks::Waker) else { return };
    let context = context::current();
    let task = storage::current();
    let (doing, is_own) = if context == CONTEXT_TASK {
        (Doing::of(task, Side::Wakes), false)
    } else {
        let (thing, is_own) = delivery::of(context, wakee.address() as u64);
        (Doing { nr: NO_CALL, things: [thing, Thing::NONE] }, is_own)
    };
    // SAFETY: see `find`.
    unsafe {
        (&raw mut (*waiting).wakes).write(doing.things);
        (&raw mut (*waiting).wake_nr).write(doing.nr);
        (&raw mut (*waiting).waker_tgid).write(ids.tgid);
        (&raw mut (*waiting).waker_tid).write(ids.tid);
        (&raw mut (*waiting).context).write(context);
        (&raw mut (*waiting).own_limit).write(is_own.into());
        (&raw mut (*waiting).woken_ns).write_volatile(now());
    }
}

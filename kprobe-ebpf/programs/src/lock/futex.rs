//! Futexes: the calls that wait and those that wake, and which thread woke which.
//!
//! A call is remembered in the storage of its thread until it returns. A thread that wakes a waiter passes `sched_waking`
//! inside its own call; what it is goes into the storage of the waiter, which so knows its waker when it returns.

use aya_ebpf::{bindings::task_struct, macros::btf_map};
use kprobe_core::abi::{
    FUTEX_BLOCKED, FUTEX_HAS_ADDRESS, FUTEX_HAS_SECOND, FUTEX_HAS_SPACE, FUTEX_HAS_WAKER,
    FUTEX_HAS_WAKER_ADDRESS, FUTEX_PRIVATE, FUTEX_RESTARTED, FUTEX_SHARED, FUTEX_TIMED, FUTEX_UNRESOLVED,
    Family, FutexKey, LockFutex, LockFutexWake, futex_op,
};

use crate::{
    args::Args,
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, min_duration_ns, now},
    filter,
    frozen::{LOCK_FUTEX_NR, LOCK_RESTART_NR},
    kernel, mapping,
    memory::{Direct, Object},
    offsets::{OFF_ARG_0, OFF_SYSCALL_NR},
    place::Place,
    storage::{self, TaskStorage},
    syscall::Source,
    task::Task,
};

// These have the same numbers on every architecture.
const NR_FUTEX_WAITV: u32 = 449;
const NR_FUTEX_WAKE: u32 = 454;
const NR_FUTEX_WAIT: u32 = 455;
const NR_FUTEX_REQUEUE: u32 = 456;

// include/uapi/linux/futex.h
const COMMAND: u32 = 127;
const PRIVATE_FLAG: u32 = 128;

/// The kernel will have the wait go on by `restart_syscall`.
const ERESTART_RESTARTBLOCK: i32 = 516;

/// A call of a thread, or what is left of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    enter_ns: u64,
    key: FutexKey,
    second_address: u64,
    /// How often the thread had given up its CPU when it entered.
    switches: u64,
    /// Written by the waker, the time last; 0 if there was none.
    woken_ns: u64,
    waker_address: u64,
    waker_tgid: u32,
    waker_tid: u32,
    waker_flags: u32,
    futexes: u32,
    wanted: u32,
    wanted_second: u32,
    op: u32,
    flags: u32,
    /// One of `NONE` and the others.
    state: u32,
    reserved: u32,
}

/// No call is pending.
const NONE: u32 = 0;
/// One that neither waits nor wakes.
const OTHER: u32 = 1;
const WAIT: u32 = 2;
const WAKE: u32 = 3;
/// None is pending, but the kernel may have the last wait go on.
const INTERRUPTED: u32 = 4;

/// The call of each thread.
#[btf_map]
pub static FUTEXES: TaskStorage<Call> = TaskStorage::new();

/// Whether a system call is about futexes. This is all that other calls cost.
#[inline(always)]
fn is_futex(nr: u32) -> bool {
    nr == LOCK_FUTEX_NR.get()
        || nr == NR_FUTEX_WAITV
        || nr.wrapping_sub(NR_FUTEX_WAKE) <= NR_FUTEX_REQUEUE - NR_FUTEX_WAKE
}

/// `sys_enter`.
#[inline(always)]
pub fn enter(source: impl Source) {
    let nr = source.entered() as u32;
    let is_restart = nr == LOCK_RESTART_NR.get();
    if !is_futex(nr) && !is_restart {
        return;
    }
    let task = storage::current();
    let current = Task::<Direct>::new(Object::new(task));
    if current.is_compat() {
        return;
    }
    if !filter::selects_current(CurrentTask(current).thread()) {
        if let Some(call) = FUTEXES.find(task) {
            set_state(call, NONE);
        }
        return;
    }
    if is_restart {
        restart(task, current);
        return;
    }
    let asked = Asked::of(source, nr);
    let key = if asked.has_address {
        key(task, current, source.argument(0), asked.is_private)
    } else {
        FutexKey::default()
    };
    let Some(call) = FUTEXES.make(task) else {
        cpu::count_unstored(Family::Lock);
        return;
    };
    let remembered = Call {
        enter_ns: 0,
        key,
        second_address: asked.second_address,
        switches: current.voluntary_switches(),
        woken_ns: 0,
        waker_address: 0,
        waker_tgid: 0,
        waker_tid: 0,
        waker_flags: 0,
        futexes: asked.futexes,
        wanted: asked.wanted,
        wanted_second: asked.wanted_second,
        op: asked.op,
        flags: asked.flags,
        state: asked.state,
        reserved: 0,
    };
    // SAFETY: the kernel gave the pointer to the thread's own value. Of others only a waker writes to it, and only while
    // this thread waits.
    unsafe { call.write(remembered) };
    // As late as can be: what comes before is ours, not the call's.
    let now = now();
    // SAFETY: likewise.
    unsafe { (&raw mut (*call).enter_ns).write(now) };
}

/// The kernel makes the thread go on with a wait that was interrupted. Which it is it tells by the address: other calls
/// have something else at that place.
#[inline(always)]
fn restart(task: *mut task_struct, current: Task<Direct>) {
    let Some(call) = FUTEXES.find(task) else { return };
    // SAFETY: see `enter`.
    let (state, address) = unsafe { ((*call).state, (*call).key.address) };
    if state != INTERRUPTED || address != current.restarted_futex() {
        return;
    }
    // SAFETY: see `enter`.
    unsafe {
        (&raw mut (*call).flags).write((*call).flags | FUTEX_RESTARTED);
        (&raw mut (*call).switches).write(current.voluntary_switches());
        (&raw mut (*call).woken_ns).write(0);
        (&raw mut (*call).enter_ns).write(now());
    }
    set_state(call, WAIT);
}

/// `sys_exit`.
#[inline(always)]
pub fn exit(source: impl Source) {
    let nr = source.left() as u32;
    let is_restart = nr == LOCK_RESTART_NR.get();
    if !is_futex(nr) && !is_restart {
        return;
    }
    // As early as can be.
    let now = now();
    let task = storage::current();
    let current = Task::<Direct>::new(Object::new(task));
    if current.is_compat() {
        return;
    }
    let who = CurrentTask(current);
    let is_selected = filter::selects_current(who.thread());
    let call = FUTEXES.find(task);
    // SAFETY: see `enter`.
    let pending = call.filter(|call| matches!(unsafe { (**call).state }, OTHER | WAIT | WAKE));
    let Some(call) = pending else {
        if is_selected && !is_restart {
            cpu::count_unpaired(Family::Lock);
        }
        return;
    };
    let ret = source.ret() as i32;
    // SAFETY: see `enter`. A reference, because a copy would take much of a program's small stack.
    let remembered = unsafe { &*call };
    let state = remembered.state;
    if is_selected && state == WAIT && now.wrapping_sub(remembered.enter_ns) >= min_duration_ns(Family::Lock)
    {
        emit(who, now, || waited(remembered, ret, current));
    }
    if is_selected && state == WAKE {
        emit(who, now, || LockFutexWake {
            enter_ns: remembered.enter_ns,
            key: remembered.key,
            second_address: remembered.second_address,
            wanted: remembered.wanted,
            wanted_second: remembered.wanted_second,
            ret,
            op: remembered.op,
            flags: remembered.flags,
            reserved: 0,
        });
    }
    set_state(call, if state == WAIT && ret == -ERESTART_RESTARTBLOCK { INTERRUPTED } else { NONE });
}

#[inline(always)]
fn waited(call: &Call, ret: i32, current: Task<Direct>) -> LockFutex {
    // Who woke it in vain, while it returns for another reason, is not its waker.
    let has_waker = call.woken_ns != 0 && ret >= 0;
    let has_blocked = current.voluntary_switches() != call.switches;
    LockFutex {
        enter_ns: call.enter_ns,
        key: call.key,
        woken_ns: if has_waker { call.woken_ns } else { 0 },
        waker_address: if has_waker { call.waker_address } else { 0 },
        waker_tgid: if has_waker { call.waker_tgid } else { 0 },
        waker_tid: if has_waker { call.waker_tid } else { 0 },
        ret,
        futexes: call.futexes,
        op: call.op,
        flags: call.flags
            | if has_waker { call.waker_flags } else { 0 }
            | if has_blocked { FUTEX_BLOCKED } else { 0 },
    }
}

/// `sched_waking(task)`: if it waits for a futex, the current thread may be the one that ends that.
///
/// A thread that a signal or a timer wakes is not told of here, because those who send them are in no futex call. (An
/// interrupt may hit a thread that is in one. But then the wait ends by its time limit, and who ended it does not matter.)
#[inline(always)]
pub fn waking(args: Args) {
    let wakee = args.object::<Direct>(0).address().cast::<task_struct>().cast_mut();
    let Some(call) = FUTEXES.find(wakee) else { return };
    // SAFETY: the kernel gave the pointer to the value of a thread, which it keeps from being freed meanwhile.
    if unsafe { (&raw const (*call).state).read_volatile() } != WAIT {
        return;
    }
    let task = storage::current();
    let waker = Task::<Direct>::new(Object::new(task));
    let (flags, address) = if waker.is_exiting() {
        (FUTEX_HAS_WAKER, 0)
    } else {
        let regs = kernel::registers(task);
        let nr = regs.load::<u32>(&OFF_SYSCALL_NR);
        if !is_futex(nr) || waker.is_compat() {
            return;
        }
        if nr == NR_FUTEX_REQUEUE || nr == NR_FUTEX_WAITV {
            (FUTEX_HAS_WAKER, 0)
        } else {
            (FUTEX_HAS_WAKER | FUTEX_HAS_WAKER_ADDRESS, regs.load::<u64>(&OFF_ARG_0))
        }
    };
    let ids = waker.thread();
    // SAFETY: as above. The waiter reads them when it returns, which it does not before it was woken.
    unsafe {
        (&raw mut (*call).waker_tgid).write_volatile(ids.tgid);
        (&raw mut (*call).waker_tid).write_volatile(ids.tid);
        (&raw mut (*call).waker_address).write_volatile(address);
        (&raw mut (*call).waker_flags).write_volatile(flags);
        (&raw mut (*call).woken_ns).write_volatile(now());
    }
}

#[inline(always)]
fn set_state(call: *mut Call, state: u32) {
    // SAFETY: see `enter`.
    unsafe { (&raw mut (*call).state).write_volatile(state) };
}

/// What a call asks for.
#[derive(Clone, Copy)]
struct Asked {
    second_address: u64,
    wanted: u32,
    wanted_second: u32,
    futexes: u32,
    op: u32,
    flags: u32,
    state: u32,
    has_address: bool,
    is_private: bool,
}

impl Asked {
    #[inline(always)]
    fn of(source: impl Source, nr: u32) -> Self {
        let argument = |index| source.argument(index) as u32;
        let none = Self {
            second_address: 0,
            wanted: 0,
            wanted_second: 0,
            futexes: 1,
            op: 0,
            flags: 0,
            state: OTHER,
            has_address: true,
            is_private: false,
        };
        let timed = |limit| if source.argument(limit) != 0 { FUTEX_TIMED } else { 0 };
        match nr {
            // futex_waitv(waiters, nr_futexes, flags, timeout, clockid)
            NR_FUTEX_WAITV => Self {
                op: futex_op::FUTEX2_WAITV,
                state: WAIT,
                futexes: argument(1),
                flags: timed(3),
                has_address: false,
                ..none
            },
            // futex_wake(uaddr, mask, nr, flags)
            NR_FUTEX_WAKE => Self {
                op: futex_op::FUTEX2_WAKE,
                state: WAKE,
                wanted: argument(2),
                is_private: argument(3) & PRIVATE_FLAG != 0,
                ..none
            },
            // futex_wait(uaddr, val, mask, flags, timespec, clockid)
            NR_FUTEX_WAIT => Self {
                op: futex_op::FUTEX2_WAIT,
                state: WAIT,
                flags: timed(4),
                is_private: argument(3) & PRIVATE_FLAG != 0,
                ..none
            },
            // futex_requeue(waiters, flags, nr_wake, nr_requeue)
            NR_FUTEX_REQUEUE => Self {
                op: futex_op::FUTEX2_REQUEUE,
                state: WAKE,
                wanted: argument(2),
                wanted_second: argument(3),
                flags: FUTEX_HAS_SECOND,
                has_address: false,
                ..none
            },
            // futex(uaddr, op, val, timeout or val2, uaddr2, val3)
            _ => {
                let op = argument(1);
                let asked = Self { op: op & COMMAND, is_private: op & PRIVATE_FLAG != 0, ..none };
                match asked.op {
                    futex_op::WAIT
                    | futex_op::WAIT_BITSET
                    | futex_op::WAIT_REQUEUE_PI
                    | futex_op::LOCK_PI
                    | futex_op::LOCK_PI2 => Self { state: WAIT, flags: timed(3), ..asked },
                    futex_op::WAKE | futex_op::WAKE_BITSET => {
                        Self { state: WAKE, wanted: argument(2), ..asked }
                    }
                    futex_op::REQUEUE
                    | futex_op::CMP_REQUEUE
                    | futex_op::CMP_REQUEUE_PI
                    | futex_op::WAKE_OP => Self {
                        state: WAKE,
                        wanted: argument(2),
                        wanted_second: argument(3),
                        second_address: source.argument(4),
                        flags: FUTEX_HAS_SECOND,
                        ..asked
                    },
                    futex_op::UNLOCK_PI => Self { state: WAKE, wanted: 1, ..asked },
                    _ => asked,
                }
            }
        }
    }
}

/// What the futex at an address of the current thread is known by: as the kernel does it in `get_futex_key`.
#[inline(always)]
fn key(task: *mut task_struct, current: Task<Direct>, address: u64, is_private: bool) -> FutexKey {
    let private = if is_private { FUTEX_PRIVATE } else { 0 };
    let of_address =
        FutexKey { address, object: 0, offset: 0, device: 0, flags: FUTEX_HAS_ADDRESS | private };
    let in_space = || match current.address_space() {
        Some(space) => FutexKey { object: space, flags: of_address.flags | FUTEX_HAS_SPACE, ..of_address },
        None => of_address,
    };
    if is_private {
        return in_space();
    }
    let mut place = Place::of(address);
    let found = mapping::find(task, address, &mut place);
    // The function that looks at the mapping has written to it.
    // SAFETY: `place` is alive.
    let place = unsafe { (&raw const place).read_volatile() };
    if found != 0 {
        return FutexKey { flags: of_address.flags | FUTEX_UNRESOLVED, ..of_address };
    }
    if place.is_shared == 0 {
        return in_space();
    }
    FutexKey {
        object: place.inode,
        offset: place.offset,
        device: place.device,
        flags: of_address.flags | FUTEX_SHARED,
        ..of_address
    }
}

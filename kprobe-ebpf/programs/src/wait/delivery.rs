//! What is being delivered on this CPU, in an interrupt: a timer, a request to a block device, bytes to a socket.
//!
//! Whoever is woken in an interrupt is not woken by the thread that it hit. So what the kernel works on is kept by CPU and by
//! context, from when it says so until it says that this is over, or that the interrupt is.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use kprobe_core::abi::{CONTEXT_HARDIRQ, CONTEXT_SOFTIRQ, WAIT_HAS_DEVICE, WAIT_HAS_OBJECT, wait_class};

use super::thing::Thing;
use crate::{
    args::Args,
    block, context,
    frozen::Frozen,
    kernel,
    memory::{Direct, Object, Probed},
    offsets::{
        OFF_HRTIMER_SLEEPER_TASK, OFF_PROCESS_TIMER_TASK, OFF_REQUEST___SECTOR, OFF_TIMERFD_CTX_T_TMR,
    },
};

/// What an interrupt delivers.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Delivery {
    /// The address of a timer's descriptor or of a socket; a sector.
    object: u64,
    /// Of a timer: the address of the thread whose wait it limits, if it does.
    owner: u64,
    /// Of a request.
    device: u32,
    /// One of [`wait_class`].
    class: u32,
}

/// What a request has for its sector if it is for none.
const NO_SECTOR: u64 = u64::MAX;

/// Of each CPU.
#[btf_map]
pub static DELIVERIES: PerCpuArray<context::Each<Delivery>, 1> = PerCpuArray::new();

#[inline(always)]
fn slot(context: u32) -> Option<*mut Delivery> {
    Some(context::Each::at(DELIVERIES.get_ptr_mut(0)?, context))
}

/// Of a softirq or a hardware interrupt, if that is where the kernel is.
#[inline(always)]
fn here() -> Option<*mut Delivery> {
    let context = context::current();
    if context == CONTEXT_SOFTIRQ || context == CONTEXT_HARDIRQ { slot(context) } else { None }
}

/// What is being delivered in a context, and whether it is the timer that limits the wait of the thread at this address.
#[inline(always)]
pub fn of(context: u32, wakee: u64) -> (Thing, bool) {
    if context != CONTEXT_SOFTIRQ && context != CONTEXT_HARDIRQ {
        return (Thing::NONE, false);
    }
    let Some(slot) = slot(context) else { return (Thing::NONE, false) };
    // SAFETY: the pointer is to a map element of this CPU. What interrupts this context has another slot.
    let Delivery { object, owner, device, class } = unsafe { slot.read() };
    if class == wait_class::SOCKET.into() {
        return (Thing::of_sock(object), false);
    }
    if class == wait_class::REQUEST.into() {
        let of_class = Thing::of_class(wait_class::REQUEST);
        // A command for the disk itself has no sector, one for another device not even a disk.
        let thing = match (device, object) {
            (0, _) => of_class,
            (_, NO_SECTOR) => Thing { device, flags: WAIT_HAS_DEVICE, ..of_class },
            _ => Thing { object, device, flags: WAIT_HAS_OBJECT | WAIT_HAS_DEVICE, ..of_class },
        };
        return (thing, false);
    }
    if class != wait_class::TIMER.into() {
        return (Thing::NONE, false);
    }
    let is_own = owner != 0 && owner == wakee;
    let thing = if is_own || object == 0 {
        Thing::of_class(wait_class::TIMER)
    } else {
        Thing::of_number(wait_class::TIMER, object)
    };
    (thing, is_own)
}

#[inline(always)]
fn put(delivery: Delivery) {
    if let Some(slot) = here() {
        // SAFETY: see `of`.
        unsafe { slot.write(delivery) };
    }
}

#[inline(always)]
fn clear(slot: Option<*mut Delivery>) {
    if let Some(slot) = slot {
        // SAFETY: see `of`.
        unsafe { (&raw mut (*slot).class).write(0) };
    }
}

/// An interrupt begins or ends.
#[inline(always)]
pub fn hard(_: Args) {
    clear(slot(CONTEXT_HARDIRQ));
}

/// A softirq begins or ends.
#[inline(always)]
pub fn soft(_: Args) {
    clear(slot(CONTEXT_SOFTIRQ));
}

/// `hrtimer_expire_exit(timer)` or `timer_expire_exit(timer)`.
#[inline(always)]
pub fn timer_ended(_: Args) {
    clear(here());
}

/// The thread that a timer of this kind wakes, if it is one that limits a wait. Before the timer runs: it forgets.
#[inline(always)]
fn owner(timer: u64, member: &Frozen<u64>) -> u64 {
    Object::<Probed>::new(timer as *const u8).load_if_present(member).unwrap_or_default()
}

/// `hrtimer_expire_entry(timer, now)`.
#[inline(always)]
pub fn precise_timer_began(args: Args) {
    let timer = args.word(0);
    let object = match OFF_TIMERFD_CTX_T_TMR.get() {
        crate::offsets::ABSENT => 0,
        within => timer.wrapping_sub(within),
    };
    let owner = owner(timer, &OFF_HRTIMER_SLEEPER_TASK);
    put(Delivery { object, owner, device: 0, class: wait_class::TIMER.into() });
}

/// `timer_expire_entry(timer, baseclk)`.
#[inline(always)]
pub fn timer_began(args: Args) {
    let owner = owner(args.word(0), &OFF_PROCESS_TIMER_TASK);
    put(Delivery { object: 0, owner, device: 0, class: wait_class::TIMER.into() });
}

/// `block_rq_complete(rq, status, bytes)`: what it wakes it wakes after this.
#[inline(always)]
pub fn completed(args: Args) {
    let Some(slot) = here() else { return };
    let request = args.object::<Direct>(0);
    let delivery = Delivery {
        object: request.load(&OFF_REQUEST___SECTOR),
        owner: 0,
        // 0, which no disk has, if it is for none.
        device: block::device(kernel::block::disk_of_request(request)),
        class: wait_class::REQUEST.into(),
    };
    // SAFETY: see `of`.
    unsafe { slot.write(delivery) };
}

/// A socket is worked on: `sk_data_ready(sk)`, `tcp_probe(sk, skb)`, `inet_sock_set_state(sk, ..)`, or one of the functions
/// by which those are woken who wait for it.
#[inline(always)]
pub fn socket(args: Args) {
    put(Delivery { object: args.word(0), owner: 0, device: 0, class: wait_class::SOCKET.into() });
}

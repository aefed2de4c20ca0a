//! Which descriptors are in which set.

use kprobe_core::abi::{Family, WaitEpoll, wait_class};

use super::thing::Thing;
use crate::{
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    filter,
    frozen::WAIT_EPOLL_CTL_NR,
    kernel,
    memory::{Direct, Object},
    offsets::{OFF_ARG_0, OFF_ARG_1, OFF_ARG_2},
    storage,
    syscall::Source,
    task::Task,
};

/// `sys_exit`, of which all calls but one cost no more than the look at their number.
#[inline(always)]
pub fn controlled(source: impl Source) {
    if source.left() as u32 != WAIT_EPOLL_CTL_NR.get() || source.ret() != 0 {
        return;
    }
    let task = storage::current();
    let current = Task::<Direct>::new(Object::new(task));
    let who = CurrentTask(current);
    if current.is_compat() || !filter::selects_current(who.thread()) {
        return;
    }
    let regs = kernel::registers(task);
    let set = Thing::of_fd(current, regs.load(&OFF_ARG_0));
    if set.class != wait_class::EPOLL.into() {
        // Another thread has closed it meanwhile, and which set it was nobody can tell.
        cpu::count_unpaired(Family::Wait);
        return;
    }
    let member = Thing::of_fd(current, regs.load(&OFF_ARG_2));
    let op = regs.load::<u64>(&OFF_ARG_1);
    emit(who, now(), || WaitEpoll {
        epoll: set.number(),
        object: member.number(),
        cookie: member.cookie,
        epfd: set.fd,
        fd: member.fd,
        device: member.device,
        op: op as u16,
        class: member.class as u8,
        flags: member.flags() as u8,
    });
}

//! Who runs the program: the thread that the kernel works for, or that an interrupt happened to hit.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_task_btf},
};

use crate::{
    memory::{Memory, Object},
    task::Task,
};

/// The ids of a task in the initial pid namespace.
#[derive(Clone, Copy)]
pub struct Thread {
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
}

/// The current thread, as the header of a record names it.
pub trait Who: Copy {
    /// Its ids.
    fn thread(self) -> Thread;
    /// Its cgroup in the v2 hierarchy.
    fn cgroup_id(self) -> u64;
}

/// The current thread, asked for by helpers.
#[derive(Clone, Copy)]
pub struct Current;

impl Who for Current {
    #[inline(always)]
    fn thread(self) -> Thread {
        let ids = bpf_get_current_pid_tgid();
        Thread { tgid: (ids >> 32) as u32, tid: ids as u32 }
    }

    #[inline(always)]
    fn cgroup_id(self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_current_cgroup_id() }
    }
}

/// The current thread where its task is at hand: a few loads are cheaper than the call of a helper.
#[derive(Clone, Copy)]
pub struct CurrentTask<M>(pub Task<M>);

impl<M: Memory> CurrentTask<M> {
    /// Asks for the task, if it is of use.
    #[inline(always)]
    pub fn find() -> Self {
        // SAFETY: the helper has no preconditions.
        let task = if M::IS_DIRECT { unsafe { bpf_get_current_task_btf() } } else { core::ptr::null_mut() };
        Self(Task::new(Object::new(task)))
    }
}

/// A thread that need not be the current one, where it is taken for the one that something happens to.
#[derive(Clone, Copy)]
pub struct OtherTask<M>(pub Task<M>);

impl<M: Memory> Who for OtherTask<M> {
    #[inline(always)]
    fn thread(self) -> Thread {
        self.0.thread()
    }

    #[inline(always)]
    fn cgroup_id(self) -> u64 {
        self.0.cgroup_id()
    }
}

impl<M: Memory> Who for CurrentTask<M> {
    #[inline(always)]
    fn thread(self) -> Thread {
        if M::IS_DIRECT { self.0.thread() } else { Current.thread() }
    }

    #[inline(always)]
    fn cgroup_id(self) -> u64 {
        if M::IS_DIRECT { self.0.cgroup_id() } else { Current.cgroup_id() }
    }
}

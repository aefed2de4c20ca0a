use std::{str::FromStr as _, time::Duration};

use kprobe_core::{
    abi::{Family, Kind, SYSCALL_TABLE, WaitCall},
    event::{WaitBlocked, WaitEpoll, WaitThrottle},
};
use syscalls::Sysno;

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan,
    TRACE_EVENT, When, Yields,
    plan::{call_number, sealed, secret},
};

/// Waits: one [`WaitBlocked`] for each time that a thread gave up its CPU because it could not go on, with what it waited for,
/// who woke it and for what; one [`WaitEpoll`] for each change of an epoll set; and one [`WaitThrottle`] for each time that a
/// cgroup had to stop because its time was used up (`cpu.max`).
///
/// Targets: the tracepoints `sched_switch` and `sched_waking`, those that say what an interrupt delivers, and `sys_exit`; for
/// throttling, functions of the scheduler. Kernel 6.1 or later. Where a kernel lets nobody attach to functions there is no
/// [`WaitThrottle`], also if the probe is required: the report says why.
#[derive(Clone, Debug)]
pub struct Wait {
    epoll: bool,
    throttle: bool,
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Wait {
    /// Every wait, not sampled.
    fn default() -> Self {
        Self { epoll: true, throttle: true, min_duration: Duration::ZERO, sample_one_in: 1 }
    }
}

impl Wait {
    /// Leaves out what comes into epoll sets.
    #[must_use]
    pub fn without_epoll(self) -> Self {
        Self { epoll: false, ..self }
    }

    /// Leaves out cgroups that have to stop.
    #[must_use]
    pub fn without_throttle(self) -> Self {
        Self { throttle: false, ..self }
    }

    /// Leaves out what took less, from its begin to its end. Changes of epoll sets are recorded all the same.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event by itself; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

/// Threads that are remembered at a time.
const MOST_THREADS: u32 = 16_384;
/// Cgroups that have to stop at a time, each on each CPU by itself; and cgroups that selected threads were seen in.
const MOST_CGROUPS: u32 = 4_096;

/// Calls of which the arguments tell what they wait for, or what they wake for. A call with a descriptor of a directory to
/// start from is not here: that is not what it waits for.
const CALLS: &[(WaitCall, &[&str])] = &[
    (
        WaitCall::FD,
        &[
            "accept",
            "accept4",
            "close",
            "connect",
            "epoll_pwait",
            "epoll_pwait2",
            "epoll_wait",
            "fallocate",
            "fcntl",
            "fdatasync",
            "flock",
            "fsync",
            "ftruncate",
            "getdents",
            "getdents64",
            "io_uring_enter",
            "ioctl",
            "mq_timedreceive",
            "mq_timedsend",
            "pread64",
            "preadv",
            "preadv2",
            "pwrite64",
            "pwritev",
            "pwritev2",
            "read",
            "readahead",
            "readv",
            "recvfrom",
            "recvmmsg",
            "recvmsg",
            "sendmmsg",
            "sendmsg",
            "sendto",
            "shutdown",
            "sync_file_range",
            "syncfs",
            "timerfd_settime",
            "vmsplice",
            "write",
            "writev",
        ],
    ),
    (WaitCall::SPLICE, &["splice", "copy_file_range"]),
    (WaitCall::TEE, &["tee"]),
    (WaitCall::SENDFILE, &["sendfile"]),
    (WaitCall::FUTEX, &["futex"]),
    (WaitCall::FUTEX_ONE, &["futex_wait", "futex_wake"]),
    (WaitCall::FUTEX_LIST, &["futex_requeue", "futex_waitv"]),
    (WaitCall::WAIT4, &["wait4"]),
    (WaitCall::WAITID, &["waitid"]),
    (WaitCall::SLEEP, &["clock_nanosleep", "nanosleep"]),
    (WaitCall::SIGNAL, &["pause", "rt_sigsuspend", "rt_sigtimedwait"]),
    (WaitCall::POLL, &["poll", "ppoll"]),
    (WaitCall::SELECT, &["pselect6", "select"]),
    (WaitCall::FORK, &["clone", "clone3", "fork", "vfork"]),
    (WaitCall::QUEUE, &["msgrcv", "msgsnd", "semop", "semtimedop"]),
    (
        WaitCall::KILL,
        &["kill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill"],
    ),
    (WaitCall::EXIT, &["exit", "exit_group"]),
];

/// By number.
fn calls() -> Vec<u8> {
    let mut calls = vec![WaitCall::OTHER.0; SYSCALL_TABLE];
    for (does, names) in CALLS {
        for name in *names {
            // An architecture need not have all of them.
            let number = Sysno::from_str(name).ok().and_then(|call| usize::try_from(call.id()).ok());
            if let Some(call) = number.and_then(|number| calls.get_mut(number)) {
                *call = does.0;
            }
        }
    }
    calls
}

/// What a descriptor stands for.
const DESCRIPTORS: Needs = Needs(
    When::Always,
    &[
        "OFF_TASK_STRUCT_FILES",
        "OFF_FILES_STRUCT_FDT",
        "OFF_FDTABLE_MAX_FDS",
        "OFF_FDTABLE_FD",
        "OFF_FILE_F_INODE",
        "OFF_FILE_PRIVATE_DATA",
        "OFF_FILE_F_PATH_DENTRY",
        "OFF_DENTRY_D_NAME_NAME",
        "OFF_INODE_I_MODE",
        "OFF_INODE_I_INO",
        "OFF_INODE_I_SB",
        "OFF_SUPER_BLOCK_S_DEV",
        "OFF_SUPER_BLOCK_S_MAGIC",
        "OFF_SOCKET_SK",
        "OFF_SOCK_COMMON_SKC_COOKIE",
    ],
);
const ARGUMENTS: Needs = Needs(When::Always, &["OFF_ARG_0", "OFF_ARG_1", "OFF_ARG_2"]);
const NUMBER: Needs = Needs(When::Always, &["OFF_SYSCALL_NR"]);

fn blocked() -> Vec<RungPlan> {
    const TASK: Needs = Needs(
        When::Always,
        &[
            "OFF_TASK_STRUCT___STATE",
            "OFF_TASK_STRUCT_FLAGS",
            "OFF_TASK_STRUCT_START_BOOTTIME",
            "OFF_TASK_STRUCT_NVCSW",
            "OFF_TASK_STRUCT_NIVCSW",
        ],
    );
    const CALL: Needs = Needs(When::Always, &["OFF_ARG_4", "OFF_USER_IP"]);
    const SOCKET: Needs =
        Needs(When::Always, &["OFF_SOCK_COMMON_SKC_FAMILY", "OFF_SOCK_SK_SOCKET", "OFF_SOCKET_FILE"]);
    const REQUEST: Needs = Needs(
        When::Always,
        &[
            "OFF_REQUEST___SECTOR",
            "OFF_REQUEST_Q",
            "OFF_REQUEST_QUEUE_DISK",
            "OFF_GENDISK_MAJOR",
            "OFF_GENDISK_FIRST_MINOR",
        ],
    );
    // Whose timer it is: without that any timer would be one that limits nothing.
    const SLEEPER: Needs = Needs(When::Always, &["OFF_HRTIMER_SLEEPER_TASK"]);
    const PROCESS_TIMER: Needs = Needs(When::Always, &["OFF_PROCESS_TIMER_TASK"]);
    const HARD: &str = "wait_hard_exit_btf";
    const SOFT: &str = "wait_soft_exit_btf";
    let end = |program, tracepoint| ProgramPlan::btf(program, tracepoint).optional();
    let delivery = |program, tracepoint, ends| ProgramPlan::btf(program, tracepoint).optional_with(ends);
    let function = |program, function| ProgramPlan::fentry(program, function).optional_with(&[SOFT, HARD]);
    vec![RungPlan {
        name: "tp_btf",
        programs: vec![
            // Ends before beginnings, and no beginning without its end, or what is over would still be said to be delivered.
            end(HARD, "irq_handler_exit"),
            delivery("wait_hard_enter_btf", "irq_handler_entry", &[HARD]),
            end(SOFT, "softirq_exit"),
            delivery("wait_soft_enter_btf", "softirq_entry", &[SOFT]),
            end("wait_hrtimer_exit_btf", "hrtimer_expire_exit"),
            delivery("wait_hrtimer_enter_btf", "hrtimer_expire_entry", &["wait_hrtimer_exit_btf"])
                .needing(&[SLEEPER]),
            end("wait_timer_exit_btf", "timer_expire_exit"),
            delivery("wait_timer_enter_btf", "timer_expire_entry", &["wait_timer_exit_btf"])
                .needing(&[PROCESS_TIMER]),
            delivery("wait_request_btf", "block_rq_complete", &[SOFT, HARD]).needing(&[REQUEST]),
            delivery("wait_ready_btf", "sk_data_ready", &[SOFT, HARD]),
            delivery("wait_tcp_btf", "tcp_probe", &[SOFT, HARD]),
            delivery("wait_state_btf", "inet_sock_set_state", &[SOFT, HARD]),
            function("wait_ready_entry", "sock_def_readable"),
            function("wait_stream_space_entry", "sk_stream_write_space"),
            function("wait_space_entry", "sock_def_write_space"),
            ProgramPlan::btf("wait_waking_btf", "sched_waking"),
            ProgramPlan::btf("wait_switch_btf", "sched_switch"),
        ],
        needs: [
            Needs::IDS,
            Needs::CGROUP_ID,
            Needs::ANCESTORS,
            TASK,
            DESCRIPTORS,
            ARGUMENTS,
            NUMBER,
            CALL,
            SOCKET,
        ]
        .to_vec(),
        storage: &[],
    }]
}

fn epoll() -> Vec<RungPlan> {
    const ALL: [Needs; 4] = [Needs::IDS, Needs::CGROUP_ID, DESCRIPTORS, ARGUMENTS];
    let rung = |name, program, needs: &[Needs]| RungPlan {
        name,
        programs: vec![program],
        needs: [&ALL, needs].concat(),
        storage: &[],
    };
    vec![
        rung("tp_btf", ProgramPlan::btf("wait_epoll_btf", "sys_exit"), &[NUMBER]),
        rung("raw_tp", ProgramPlan::raw("wait_epoll_raw", "sys_exit"), &[NUMBER]),
        rung(TRACE_EVENT, ProgramPlan::event("wait_epoll_tp", "raw_syscalls", "sys_exit"), &[]),
    ]
}

fn throttle() -> Vec<RungPlan> {
    const CGROUP: Needs = Needs(
        When::Always,
        &[
            "OFF_CFS_RQ_TG",
            "OFF_CFS_RQ_RQ",
            "OFF_CFS_RQ_RUNTIME_ENABLED",
            "OFF_CFS_RQ_RUNTIME_REMAINING",
            "OFF_RQ_CPU",
            "OFF_TASK_GROUP_CSS_CGROUP",
            "OFF_CGROUP_ROOT",
            "OFF_CGROUP_ROOT_HIERARCHY_ID",
            "OFF_CGROUP_LEVEL",
            "OFF_CGROUP_ANCESTORS",
        ],
    );
    const FRAME: Needs = Needs(When::Always, &["OFF_FUNCTION_ARG_0"]);
    let rung = |name, begin, end, needs: &[Needs]| RungPlan {
        name,
        programs: vec![ProgramPlan::btf("wait_seen_btf", "sched_switch").shared(), begin, end],
        needs: [&[Needs::IDS, Needs::CGROUP_ID, Needs::ANCESTORS, CGROUP], needs].concat(),
        storage: &[],
    };
    let (begin, end) = ("throttle_cfs_rq", "unthrottle_cfs_rq");
    vec![
        rung(
            FUNCTION,
            ProgramPlan::fentry("wait_throttle_entry", begin),
            ProgramPlan::fentry("wait_unthrottle_entry", end),
            &[],
        ),
        rung(
            KPROBE,
            ProgramPlan::kprobe("wait_throttle_kprobe", begin),
            ProgramPlan::kprobe("wait_unthrottle_kprobe", end),
            &[FRAME],
        ),
    ]
}

impl sealed::Sealed for Wait {}

impl ProbeFamily for Wait {
    fn plan(self) -> sealed::Plan {
        let mut events = vec![EventPlan::new(Kind::WAIT_BLOCKED, "wait.blocked", blocked())];
        if self.epoll {
            events.push(EventPlan::new(Kind::WAIT_EPOLL, "wait.epoll", epoll()));
        }
        if self.throttle {
            events.push(EventPlan {
                may_be_off: true,
                ..EventPlan::new(Kind::WAIT_THROTTLE, "wait.throttle", throttle())
            });
        }
        let cgroups = if self.throttle { MOST_CGROUPS } else { 1 };
        sealed::Plan(FamilyPlan {
            family: Family::Wait,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: vec![
                ("WAIT_CALLS", calls()),
                ("WAIT_EPOLL_CTL_NR", call_number(libc::SYS_epoll_ctl)),
                ("WAIT_SECRET", secret()),
            ],
            maps: vec![("WAITS", MOST_THREADS), ("THROTTLED", cgroups), ("CONCERNED", cgroups)],
            allowed: Vec::new(),
        })
    }
}

impl Yields<WaitBlocked> for Wait {}
impl Yields<WaitEpoll> for Wait {}
impl Yields<WaitThrottle> for Wait {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::filter::shapes;

    #[test]
    fn every_call_exists_and_is_there_once() {
        let names: Vec<_> = CALLS.iter().flat_map(|(_, names)| *names).copied().collect();
        let once: BTreeSet<_> = names.iter().copied().collect();
        assert_eq!(once.len(), names.len());
        for name in names {
            let is_known = syscalls::x86_64::Sysno::from_str(name).is_ok();
            assert!(is_known || syscalls::aarch64::Sysno::from_str(name).is_ok(), "{name}");
        }
    }

    /// As the table of shapes, which was compared with the kernel, has it.
    #[test]
    fn a_descriptor_is_where_it_is_said_to_be() {
        let (shapes, calls) = (shapes(), calls());
        let first = [WaitCall::FD.0, WaitCall::SPLICE.0, WaitCall::TEE.0, WaitCall::SENDFILE.0];
        let mut count = 0;
        for (nr, call) in calls.iter().enumerate().filter(|(_, call)| first.contains(call)) {
            assert_eq!(shapes[nr].fd(), Some(0), "{nr} {call}");
            count += 1;
        }
        assert!(count > 40, "{count}");
    }
}

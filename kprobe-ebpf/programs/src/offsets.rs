//! Where the members of kernel structs are: the one place that names them.
//!
//! A symbol is `OFF_` and the path of the member, upper case, with `_` for the dots: `OFF_TASK_STRUCT_THREAD_INFO_CPU` is
//! the offset of `thread_info.cpu` in `struct task_struct`. The loader finds the members in the running kernel's BTF (also
//! those inside unnamed structs and unions) and sets the symbols; a test compares its list with the symbols in the object.

use crate::frozen::Frozen;

/// The value of an offset that the loader did not set: the kernel has no such member.
pub const ABSENT: u64 = u64::MAX;

macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $symbol:ident = $in:ident $(. $member:ident)+;)+) => {
        $(
            #[doc = concat!("`", stringify!($in), $(".", stringify!($member),)+ "`.")]
            $(#[doc = $doc])*
            #[unsafe(no_mangle)]
            pub static $symbol: Frozen<u64> = Frozen::new(ABSENT);
        )+
    };
}

offsets! {
    OFF_TASK_STRUCT_PID = task_struct.pid;
    OFF_TASK_STRUCT_TGID = task_struct.tgid;
    OFF_TASK_STRUCT_COMM = task_struct.comm;
    OFF_TASK_STRUCT_PRIO = task_struct.prio;
    OFF_TASK_STRUCT_START_BOOTTIME = task_struct.start_boottime;
    OFF_TASK_STRUCT_REAL_PARENT = task_struct.real_parent;
    OFF_TASK_STRUCT_GROUP_LEADER = task_struct.group_leader;
    OFF_TASK_STRUCT_EXIT_CODE = task_struct.exit_code;
    OFF_TASK_STRUCT_SIGNAL = task_struct.signal;
    OFF_TASK_STRUCT_CGROUPS = task_struct.cgroups;
    OFF_TASK_STRUCT_MM = task_struct.mm;
    /// Some architectures and kernels before 5.16 have it as `task_struct.cpu`. May be absent.
    OFF_TASK_STRUCT_THREAD_INFO_CPU = task_struct.thread_info.cpu;
    /// x86 only: with it, system calls of 32-bit programs and of the x32 ABI are told apart. May be absent.
    OFF_TASK_STRUCT_THREAD_INFO_STATUS = task_struct.thread_info.status;

    /// Page faults that the thread has had, by kind.
    OFF_TASK_STRUCT_MIN_FLT = task_struct.min_flt;
    OFF_TASK_STRUCT_MAJ_FLT = task_struct.maj_flt;

    OFF_SIGNAL_STRUCT_LIVE = signal_struct.live.counter;
    OFF_SIGNAL_STRUCT_FLAGS = signal_struct.flags;
    OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE = signal_struct.group_exit_code;

    /// With the next four the identity of the executable; the last four are also those of any other file. May be absent.
    OFF_MM_STRUCT_EXE_FILE = mm_struct.exe_file;
    OFF_FILE_F_INODE = file.f_inode;
    OFF_INODE_I_INO = inode.i_ino;
    OFF_INODE_I_SB = inode.i_sb;
    OFF_SUPER_BLOCK_S_DEV = super_block.s_dev;

    OFF_SIGNAL_STRUCT_OOM_SCORE_ADJ = signal_struct.oom_score_adj;
    OFF_MM_STRUCT_TOTAL_VM = mm_struct.total_vm;
    /// Pages in memory, since Linux 6.2: of files, anonymous, shared. May be absent, as the next six.
    OFF_MM_STRUCT_RSS_STAT_0 = mm_struct.rss_stat.count;
    OFF_MM_STRUCT_RSS_STAT_1 = mm_struct.rss_stat.count;
    OFF_MM_STRUCT_RSS_STAT_3 = mm_struct.rss_stat.count;
    /// The same before.
    OFF_MM_STRUCT_RSS_STAT_COUNT_0 = mm_struct.rss_stat.count.counter;
    OFF_MM_STRUCT_RSS_STAT_COUNT_1 = mm_struct.rss_stat.count.counter;
    OFF_MM_STRUCT_RSS_STAT_COUNT_3 = mm_struct.rss_stat.count.counter;
    OFF_MEM_CGROUP_CSS_CGROUP = mem_cgroup.css.cgroup;
    OFF_COMPACT_CONTROL_ORDER = compact_control.order;
    OFF_COMPACT_CONTROL_GFP_MASK = compact_control.gfp_mask;
    OFF_COMPACT_CONTROL_DIRECT_COMPACTION = compact_control.direct_compaction;
    OFF_OOM_CONTROL_MEMCG = oom_control.memcg;
    OFF_OOM_CONTROL_ORDER = oom_control.order;
    OFF_OOM_CONTROL_GFP_MASK = oom_control.gfp_mask;

    OFF_VM_AREA_STRUCT_VM_FILE = vm_area_struct.vm_file;
    /// In the context of a program at a perf event, not in kernel memory.
    OFF_BPF_PERF_EVENT_DATA_ADDR = bpf_perf_event_data.addr;

    OFF_USER_NAMESPACE_LEVEL = user_namespace.level;

    OFF_CSS_SET_DFL_CGRP = css_set.dfl_cgrp;
    OFF_CGROUP_LEVEL = cgroup.level;
    OFF_CGROUP_ANCESTORS = cgroup.ancestors;
    OFF_CGROUP_KN = cgroup.kn;
    OFF_KERNFS_NODE_ID = kernfs_node.id;

    /// x86: `orig_ax`; arm64: `syscallno`. Read as 32 bits.
    OFF_SYSCALL_NR = pt_regs.orig_ax;
    /// The arguments of a system call. x86: di, si, dx, r10, r8, r9; arm64: regs[0] to regs[5].
    OFF_ARG_0 = pt_regs.di;
    OFF_ARG_1 = pt_regs.si;
    OFF_ARG_2 = pt_regs.dx;
    OFF_ARG_3 = pt_regs.r10;
    OFF_ARG_4 = pt_regs.r8;
    OFF_ARG_5 = pt_regs.r9;

    /// The arguments of a function at its entry. x86: di, si, dx, cx, r8, r9; arm64: regs[0] to regs[5].
    OFF_FUNCTION_ARG_0 = pt_regs.di;
    OFF_FUNCTION_ARG_1 = pt_regs.si;
    OFF_FUNCTION_ARG_2 = pt_regs.dx;
    OFF_FUNCTION_ARG_3 = pt_regs.cx;
    OFF_FUNCTION_ARG_4 = pt_regs.r8;
    OFF_FUNCTION_ARG_5 = pt_regs.r9;
    /// What a function returns. x86: ax; arm64: regs[0].
    OFF_FUNCTION_RET = pt_regs.ax;

    /// Only used by the program for `tracepoint`.
    OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID = trace_event_raw_sched_process_exec.old_pid;
    /// Only used by the program for `tracepoint`, and if `HAS_GROUP_DEAD`.
    OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD = trace_event_raw_sched_process_exit.group_dead;

    /// Only used by the program for `tracepoint`, as the next two.
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS = trace_event_raw_cap_capable.target_ns;
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP = trace_event_raw_cap_capable.cap;
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET = trace_event_raw_cap_capable.ret;

    /// In the per-CPU variable of `context_source::PREEMPT_COUNT`: 0 in `__preempt_count`.
    OFF_PREEMPT_COUNT = pcpu_hot.preempt_count;
}

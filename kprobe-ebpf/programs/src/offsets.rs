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
    OFF_TASK_STRUCT_FLAGS = task_struct.flags;
    OFF_TASK_STRUCT_PRIO = task_struct.prio;
    OFF_TASK_STRUCT_START_BOOTTIME = task_struct.start_boottime;
    OFF_TASK_STRUCT_REAL_PARENT = task_struct.real_parent;
    OFF_TASK_STRUCT_GROUP_LEADER = task_struct.group_leader;
    OFF_TASK_STRUCT_EXIT_CODE = task_struct.exit_code;
    OFF_TASK_STRUCT_SIGNAL = task_struct.signal;
    OFF_TASK_STRUCT_CGROUPS = task_struct.cgroups;
    OFF_TASK_STRUCT_MM = task_struct.mm;
    OFF_TASK_STRUCT_NVCSW = task_struct.nvcsw;
    OFF_TASK_STRUCT_NIVCSW = task_struct.nivcsw;
    OFF_TASK_STRUCT_RESTART_BLOCK_FUTEX_UADDR = task_struct.restart_block.futex.uaddr;
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
    OFF_TASK_STRUCT_FILES = task_struct.files;
    OFF_FILES_STRUCT_FDT = files_struct.fdt;
    OFF_FDTABLE_MAX_FDS = fdtable.max_fds;
    OFF_FDTABLE_FD = fdtable.fd;
    OFF_FILE_F_MODE = file.f_mode;
    OFF_FILE_F_PATH_DENTRY = file.f_path.dentry;
    OFF_FILE_F_PATH_MNT = file.f_path.mnt;
    OFF_DENTRY_D_INODE = dentry.d_inode;
    OFF_DENTRY_D_PARENT = dentry.d_parent;
    OFF_DENTRY_D_NAME_NAME = dentry.d_name.name;
    OFF_DENTRY_D_NAME_LEN = dentry.d_name.len;
    OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE = dentry.d_seq.seqcount.sequence;
    OFF_DENTRY_D_HASH_PPREV = dentry.d_hash.pprev;
    /// Where the `struct vfsmount` is that `file.f_path.mnt` points to.
    OFF_MOUNT_MNT = mount.mnt;
    OFF_MOUNT_MNT_MNT_ROOT = mount.mnt.mnt_root;
    OFF_MOUNT_MNT_MOUNTPOINT = mount.mnt_mountpoint;
    OFF_MOUNT_MNT_PARENT = mount.mnt_parent;
    OFF_KIOCB_KI_FILP = kiocb.ki_filp;
    OFF_INODE_I_MODE = inode.i_mode;
    OFF_INODE_I_PIPE = inode.i_pipe;
    OFF_PIPE_INODE_INFO_HEAD = pipe_inode_info.head;
    OFF_PIPE_INODE_INFO_TAIL = pipe_inode_info.tail;
    OFF_PIPE_INODE_INFO_RING_SIZE = pipe_inode_info.ring_size;
    OFF_PIPE_INODE_INFO_BUFS = pipe_inode_info.bufs;
    OFF_PIPE_BUFFER_LEN = pipe_buffer.len;
    OFF_PIPE_BUFFER_PRIVATE = pipe_buffer.private;

    OFF_SOCK_SK_PEEK_OFF = sock.sk_peek_off;
    OFF_SOCK_SK_SOCKET = sock.sk_socket;
    OFF_UNIX_SOCK_PEER = unix_sock.peer;
    /// x86 only: the number of the address space. May be absent.
    OFF_MM_STRUCT_CONTEXT_CTX_ID = mm_struct.context.ctx_id;
    OFF_VM_AREA_STRUCT_VM_START = vm_area_struct.vm_start;
    OFF_VM_AREA_STRUCT_VM_PGOFF = vm_area_struct.vm_pgoff;
    OFF_VM_AREA_STRUCT_VM_FLAGS = vm_area_struct.vm_flags;

    OFF_BPF_RINGBUF_MAP_RB = bpf_ringbuf_map.rb;
    OFF_BPF_RINGBUF_SPINLOCK = bpf_ringbuf.spinlock;

    OFF_USER_NAMESPACE_LEVEL = user_namespace.level;

    OFF_CSS_SET_DFL_CGRP = css_set.dfl_cgrp;
    OFF_CGROUP_LEVEL = cgroup.level;
    /// In the build for kernels before 6.1 `ancestor_ids`: which these have instead.
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

    /// Where the program goes on that made the call: 0 of threads that never run one. x86: ip; arm64: pc.
    OFF_USER_IP = pt_regs.ip;

    /// The arguments of a function at its entry. x86: di, si, dx, cx, r8, r9; arm64: regs[0] to regs[5].
    OFF_FUNCTION_ARG_0 = pt_regs.di;
    OFF_FUNCTION_ARG_1 = pt_regs.si;
    OFF_FUNCTION_ARG_2 = pt_regs.dx;
    OFF_FUNCTION_ARG_3 = pt_regs.cx;
    OFF_FUNCTION_ARG_4 = pt_regs.r8;
    OFF_FUNCTION_ARG_5 = pt_regs.r9;
    /// What a function returns. x86: ax; arm64: regs[0].
    OFF_FUNCTION_RET = pt_regs.ax;

    OFF_BIO_BI_NEXT = bio.bi_next;
    /// In the build for kernels before 6.1 `bi_disk`, which leads to the disk at once.
    OFF_BIO_BI_BDEV = bio.bi_bdev;
    OFF_BIO_BI_OPF = bio.bi_opf;
    OFF_BIO_BI_STATUS = bio.bi_status;
    OFF_BIO_BI_ITER_BI_SECTOR = bio.bi_iter.bi_sector;
    OFF_BIO_BI_ITER_BI_SIZE = bio.bi_iter.bi_size;
    OFF_BIO_BI_PRIVATE = bio.bi_private;
    /// Without `CONFIG_BLK_CGROUP` it and the next two are absent.
    OFF_BIO_BI_BLKG = bio.bi_blkg;
    OFF_BLKCG_GQ_BLKCG = blkcg_gq.blkcg;
    OFF_BLKCG_CSS_CGROUP = blkcg.css.cgroup;
    OFF_BLOCK_DEVICE_BD_DISK = block_device.bd_disk;
    OFF_GENDISK_MAJOR = gendisk.major;
    OFF_GENDISK_FIRST_MINOR = gendisk.first_minor;
    OFF_GENDISK_QUEUE = gendisk.queue;
    OFF_REQUEST_QUEUE_MQ_OPS = request_queue.mq_ops;
    /// In the build for kernels before 6.1 `rq_disk` of `struct request`.
    OFF_REQUEST_QUEUE_DISK = request_queue.disk;
    OFF_REQUEST_Q = request.q;
    OFF_REQUEST_BIO = request.bio;
    OFF_REQUEST_CMD_FLAGS = request.cmd_flags;
    OFF_REQUEST___SECTOR = request.__sector;
    OFF_REQUEST___DATA_LEN = request.__data_len;
    OFF_REQUEST_START_TIME_NS = request.start_time_ns;
    OFF_REQUEST_MQ_HCTX = request.mq_hctx;
    OFF_REQUEST_QUEUELIST = request.queuelist;
    /// Until 6.4 requests that wait for a flush are in a list of their own. May be absent.
    OFF_REQUEST_FLUSH_LIST = request.flush.list;
    OFF_BLK_MQ_HW_CTX_FQ = blk_mq_hw_ctx.fq;
    /// The first of two bits; the second is `flush_running_idx`.
    OFF_BLK_FLUSH_QUEUE_FLUSH_PENDING_IDX = blk_flush_queue.flush_pending_idx;
    OFF_BLK_FLUSH_QUEUE_FLUSH_QUEUE = blk_flush_queue.flush_queue;

    /// Only used by the program for `tracepoint`.
    OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID = trace_event_raw_sched_process_exec.old_pid;
    /// Only used by the program for `tracepoint`, and if `HAS_GROUP_DEAD`.
    OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD = trace_event_raw_sched_process_exit.group_dead;

    /// Only used by the program for `tracepoint`, as the next two.
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS = trace_event_raw_cap_capable.target_ns;
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP = trace_event_raw_cap_capable.cap;
    OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET = trace_event_raw_cap_capable.ret;

    OFF_FILE_PRIVATE_DATA = file.private_data;
    OFF_SOCKET_FILE = socket.file;
    OFF_SOCKET_SK = socket.sk;
    OFF_SOCK_COMMON_SKC_FAMILY = sock_common.skc_family;
    OFF_SOCK_COMMON_SKC_STATE = sock_common.skc_state;
    OFF_SOCK_COMMON_SKC_FLAGS = sock_common.skc_flags;
    OFF_SOCK_COMMON_SKC_COOKIE = sock_common.skc_cookie.counter;
    OFF_INET_SOCK_INET_SPORT = inet_sock.inet_sport;
    OFF_SOCK_COMMON_SKC_DPORT = sock_common.skc_dport;
    OFF_SOCK_COMMON_SKC_RCV_SADDR = sock_common.skc_rcv_saddr;
    OFF_SOCK_COMMON_SKC_DADDR = sock_common.skc_daddr;
    /// Kernels without IPv6 have neither this nor the next. May be absent.
    OFF_SOCK_COMMON_SKC_V6_RCV_SADDR = sock_common.skc_v6_rcv_saddr;
    OFF_SOCK_COMMON_SKC_V6_DADDR = sock_common.skc_v6_daddr;
    /// Kernels without network namespaces do not have it. May be absent.
    OFF_SOCK_COMMON_SKC_NET = sock_common.skc_net.net;
    OFF_NET_NS_INUM = net.ns.inum;
    OFF_SOCK_SK_PROTOCOL = sock.sk_protocol;
    OFF_SOCK_SK_TYPE = sock.sk_type;
    OFF_SOCK_SK_ERR = sock.sk_err;
    OFF_TCP_SOCK_WRITE_SEQ = tcp_sock.write_seq;
    OFF_TCP_SOCK_SND_UNA = tcp_sock.snd_una;
    OFF_TCP_SOCK_SND_NXT = tcp_sock.snd_nxt;
    OFF_TCP_SOCK_BYTES_ACKED = tcp_sock.bytes_acked;
    OFF_TCP_SOCK_BYTES_SENT = tcp_sock.bytes_sent;
    OFF_TCP_SOCK_BYTES_RETRANS = tcp_sock.bytes_retrans;
    OFF_TCP_SOCK_COPIED_SEQ = tcp_sock.copied_seq;
    OFF_TCP_SOCK_RCV_NXT = tcp_sock.rcv_nxt;
    OFF_TCP_SOCK_BYTES_RECEIVED = tcp_sock.bytes_received;
    OFF_TCP_SOCK_SRTT_US = tcp_sock.srtt_us;
    OFF_MSGHDR_MSG_ITER_COUNT = msghdr.msg_iter.count;
    /// A `struct tcp_skb_cb` in packets of TCP.
    OFF_SK_BUFF_CB = sk_buff.cb;
    OFF_TCP_SKB_CB_SEQ = tcp_skb_cb.seq;
    OFF_TCP_SKB_CB_END_SEQ = tcp_skb_cb.end_seq;
    OFF_TCP_SKB_CB_TCP_FLAGS = tcp_skb_cb.tcp_flags;
    OFF_TCP_SKB_CB_TCP_GSO_SEGS = tcp_skb_cb.tcp_gso_segs;
    /// Only used by the programs for `tracepoint`, as those that follow.
    OFF_TRACE_EVENT_RAW_TCP_EVENT_SK_SKADDR = trace_event_raw_tcp_event_sk.skaddr;
    OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_SKADDR = trace_event_raw_inet_sock_set_state.skaddr;
    OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_OLDSTATE = trace_event_raw_inet_sock_set_state.oldstate;
    OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_NEWSTATE = trace_event_raw_inet_sock_set_state.newstate;
    /// An event of its own since Linux 6.16.
    OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKADDR = trace_event_raw_tcp_retransmit_skb.skaddr;
    OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKBADDR = trace_event_raw_tcp_retransmit_skb.skbaddr;
    OFF_SK_BUFF_SK = sk_buff.sk;
    OFF_SK_BUFF_LEN = sk_buff.len;
    OFF_SK_BUFF_HEAD = sk_buff.head;
    /// An offset from `head`, as the next two.
    OFF_SK_BUFF_END = sk_buff.end;
    OFF_SK_BUFF_NETWORK_HEADER = sk_buff.network_header;
    OFF_SK_BUFF_TRANSPORT_HEADER = sk_buff.transport_header;
    OFF_SKB_SHARED_INFO_GSO_SIZE = skb_shared_info.gso_size;
    OFF_UDP_SOCK_PENDING = udp_sock.pending;
    OFF_SOCK_SK_SHUTDOWN = sock.sk_shutdown;
    /// Only used by the programs for `tracepoint`, as the next three, which are since Linux 6.4.
    OFF_TRACE_EVENT_RAW_NET_DEV_TEMPLATE_SKBADDR = trace_event_raw_net_dev_template.skbaddr;
    OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_SK = trace_event_raw_sock_msg_length.sk;
    OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_RET = trace_event_raw_sock_msg_length.ret;
    OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_FLAGS = trace_event_raw_sock_msg_length.flags;
    /// Only used by the programs for `tracepoint`, as the next three.
    OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_LOCK_ADDR = trace_event_raw_contention_begin.lock_addr;
    OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_FLAGS = trace_event_raw_contention_begin.flags;
    OFF_TRACE_EVENT_RAW_CONTENTION_END_LOCK_ADDR = trace_event_raw_contention_end.lock_addr;
    OFF_TRACE_EVENT_RAW_CONTENTION_END_RET = trace_event_raw_contention_end.ret;

    /// Before 5.14 it is `task_struct.state`.
    OFF_TASK_STRUCT___STATE = task_struct.__state;
    OFF_SUPER_BLOCK_S_MAGIC = super_block.s_magic;
    /// Whom a timer wakes that limits a wait. May be absent, as the next two.
    OFF_HRTIMER_SLEEPER_TASK = hrtimer_sleeper.task;
    /// The same of the kernel's other timers.
    OFF_PROCESS_TIMER_TASK = process_timer.task;
    /// The timer behind a descriptor.
    OFF_TIMERFD_CTX_T_TMR = timerfd_ctx.t.tmr;
    OFF_CFS_RQ_TG = cfs_rq.tg;
    OFF_CFS_RQ_RQ = cfs_rq.rq;
    OFF_CFS_RQ_RUNTIME_ENABLED = cfs_rq.runtime_enabled;
    OFF_CFS_RQ_RUNTIME_REMAINING = cfs_rq.runtime_remaining;
    /// Since Linux 6.18, where threads are stopped one by one. May be absent.
    OFF_CFS_RQ_THROTTLED_LIMBO_LIST = cfs_rq.throttled_limbo_list;
    OFF_RQ_CPU = rq.cpu;
    OFF_TASK_GROUP_CSS_CGROUP = task_group.css.cgroup;
    OFF_CGROUP_ROOT = cgroup.root;
    /// 0 of the hierarchy of version 2.
    OFF_CGROUP_ROOT_HIERARCHY_ID = cgroup_root.hierarchy_id;

    /// In the per-CPU variable of `context_source::PREEMPT_COUNT`: 0 in `__preempt_count`.
    OFF_PREEMPT_COUNT = pcpu_hot.preempt_count;
}

#[cfg(feature = "before-6.1")]
offsets! {
    OFF_TASK_STRUCT_STACK = task_struct.stack;
    /// Not a member: where in a stack (`union thread_union`) the registers of a system call are saved, which is at its end.
    OFF_THREAD_UNION_REGISTERS = thread_union.registers;
    /// The root of the tree, which is its only member.
    OFF_MM_STRUCT_MM_RB = mm_struct.mm_rb;
    OFF_VM_AREA_STRUCT_VM_RB = vm_area_struct.vm_rb;
    OFF_VM_AREA_STRUCT_VM_END = vm_area_struct.vm_end;
    OFF_VM_AREA_STRUCT_VM_MM = vm_area_struct.vm_mm;
    OFF_RB_NODE_RB_LEFT = rb_node.rb_left;
    OFF_RB_NODE_RB_RIGHT = rb_node.rb_right;
}

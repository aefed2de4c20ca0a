use std::collections::BTreeMap;

use kprobe_core::abi::Family;

use super::Build;
use crate::btf::Btf;

/// Frozen globals that hold an offset: symbol, struct, path of the member.
const OFFSETS: &[(&str, &str, &str)] = &[
    ("OFF_TASK_STRUCT_PID", "task_struct", "pid"),
    ("OFF_TASK_STRUCT_TGID", "task_struct", "tgid"),
    ("OFF_TASK_STRUCT_COMM", "task_struct", "comm"),
    ("OFF_TASK_STRUCT_FLAGS", "task_struct", "flags"),
    ("OFF_TASK_STRUCT_PRIO", "task_struct", "prio"),
    ("OFF_TASK_STRUCT_START_BOOTTIME", "task_struct", "start_boottime"),
    ("OFF_TASK_STRUCT_REAL_PARENT", "task_struct", "real_parent"),
    ("OFF_TASK_STRUCT_GROUP_LEADER", "task_struct", "group_leader"),
    ("OFF_TASK_STRUCT_EXIT_CODE", "task_struct", "exit_code"),
    ("OFF_TASK_STRUCT_SIGNAL", "task_struct", "signal"),
    ("OFF_TASK_STRUCT_CGROUPS", "task_struct", "cgroups"),
    ("OFF_TASK_STRUCT_MM", "task_struct", "mm"),
    ("OFF_TASK_STRUCT_THREAD_INFO_CPU", "task_struct", "thread_info.cpu"),
    ("OFF_TASK_STRUCT_THREAD_INFO_STATUS", "task_struct", "thread_info.status"),
    ("OFF_TASK_STRUCT_MIN_FLT", "task_struct", "min_flt"),
    ("OFF_TASK_STRUCT_MAJ_FLT", "task_struct", "maj_flt"),
    ("OFF_SIGNAL_STRUCT_LIVE", "signal_struct", "live.counter"),
    ("OFF_SIGNAL_STRUCT_FLAGS", "signal_struct", "flags"),
    ("OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE", "signal_struct", "group_exit_code"),
    ("OFF_MM_STRUCT_EXE_FILE", "mm_struct", "exe_file"),
    ("OFF_FILE_F_INODE", "file", "f_inode"),
    ("OFF_INODE_I_INO", "inode", "i_ino"),
    ("OFF_INODE_I_SB", "inode", "i_sb"),
    ("OFF_SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("OFF_SIGNAL_STRUCT_OOM_SCORE_ADJ", "signal_struct", "oom_score_adj"),
    ("OFF_MM_STRUCT_TOTAL_VM", "mm_struct", "total_vm"),
    ("OFF_MM_STRUCT_RSS_STAT_0", "mm_struct", "rss_stat[0].count"),
    ("OFF_MM_STRUCT_RSS_STAT_1", "mm_struct", "rss_stat[1].count"),
    ("OFF_MM_STRUCT_RSS_STAT_3", "mm_struct", "rss_stat[3].count"),
    ("OFF_MM_STRUCT_RSS_STAT_COUNT_0", "mm_struct", "rss_stat.count[0].counter"),
    ("OFF_MM_STRUCT_RSS_STAT_COUNT_1", "mm_struct", "rss_stat.count[1].counter"),
    ("OFF_MM_STRUCT_RSS_STAT_COUNT_3", "mm_struct", "rss_stat.count[3].counter"),
    ("OFF_MEM_CGROUP_CSS_CGROUP", "mem_cgroup", "css.cgroup"),
    ("OFF_COMPACT_CONTROL_ORDER", "compact_control", "order"),
    ("OFF_COMPACT_CONTROL_GFP_MASK", "compact_control", "gfp_mask"),
    ("OFF_COMPACT_CONTROL_DIRECT_COMPACTION", "compact_control", "direct_compaction"),
    ("OFF_OOM_CONTROL_MEMCG", "oom_control", "memcg"),
    ("OFF_OOM_CONTROL_ORDER", "oom_control", "order"),
    ("OFF_OOM_CONTROL_GFP_MASK", "oom_control", "gfp_mask"),
    ("OFF_VM_AREA_STRUCT_VM_FILE", "vm_area_struct", "vm_file"),
    ("OFF_BPF_PERF_EVENT_DATA_ADDR", "bpf_perf_event_data", "addr"),
    ("OFF_TASK_STRUCT_FILES", "task_struct", "files"),
    ("OFF_FILES_STRUCT_FDT", "files_struct", "fdt"),
    ("OFF_FDTABLE_MAX_FDS", "fdtable", "max_fds"),
    ("OFF_FDTABLE_FD", "fdtable", "fd"),
    ("OFF_FILE_F_MODE", "file", "f_mode"),
    ("OFF_FILE_F_PATH_DENTRY", "file", "f_path.dentry"),
    ("OFF_FILE_F_PATH_MNT", "file", "f_path.mnt"),
    ("OFF_DENTRY_D_INODE", "dentry", "d_inode"),
    ("OFF_DENTRY_D_PARENT", "dentry", "d_parent"),
    ("OFF_DENTRY_D_NAME_NAME", "dentry", "d_name.name"),
    ("OFF_DENTRY_D_NAME_LEN", "dentry", "d_name.len"),
    ("OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE", "dentry", "d_seq.seqcount.sequence"),
    ("OFF_DENTRY_D_HASH_PPREV", "dentry", "d_hash.pprev"),
    ("OFF_MOUNT_MNT", "mount", "mnt"),
    ("OFF_MOUNT_MNT_MNT_ROOT", "mount", "mnt.mnt_root"),
    ("OFF_MOUNT_MNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("OFF_MOUNT_MNT_PARENT", "mount", "mnt_parent"),
    ("OFF_KIOCB_KI_FILP", "kiocb", "ki_filp"),
    ("OFF_INODE_I_MODE", "inode", "i_mode"),
    ("OFF_INODE_I_PIPE", "inode", "i_pipe"),
    ("OFF_PIPE_INODE_INFO_HEAD", "pipe_inode_info", "head"),
    ("OFF_PIPE_INODE_INFO_TAIL", "pipe_inode_info", "tail"),
    ("OFF_PIPE_INODE_INFO_RING_SIZE", "pipe_inode_info", "ring_size"),
    ("OFF_PIPE_INODE_INFO_BUFS", "pipe_inode_info", "bufs"),
    ("OFF_PIPE_BUFFER_LEN", "pipe_buffer", "len"),
    ("OFF_PIPE_BUFFER_PRIVATE", "pipe_buffer", "private"),
    ("OFF_SOCK_SK_PEEK_OFF", "sock", "sk_peek_off"),
    ("OFF_SOCK_SK_SOCKET", "sock", "sk_socket"),
    ("OFF_UNIX_SOCK_PEER", "unix_sock", "peer"),
    ("OFF_TASK_STRUCT_NVCSW", "task_struct", "nvcsw"),
    ("OFF_TASK_STRUCT_NIVCSW", "task_struct", "nivcsw"),
    ("OFF_TASK_STRUCT_RESTART_BLOCK_FUTEX_UADDR", "task_struct", "restart_block.futex.uaddr"),
    ("OFF_MM_STRUCT_CONTEXT_CTX_ID", "mm_struct", "context.ctx_id"),
    ("OFF_VM_AREA_STRUCT_VM_START", "vm_area_struct", "vm_start"),
    ("OFF_VM_AREA_STRUCT_VM_PGOFF", "vm_area_struct", "vm_pgoff"),
    ("OFF_VM_AREA_STRUCT_VM_FLAGS", "vm_area_struct", "vm_flags"),
    ("OFF_BPF_RINGBUF_MAP_RB", "bpf_ringbuf_map", "rb"),
    ("OFF_BPF_RINGBUF_SPINLOCK", "bpf_ringbuf", "spinlock"),
    ("OFF_USER_NAMESPACE_LEVEL", "user_namespace", "level"),
    ("OFF_CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("OFF_CGROUP_LEVEL", "cgroup", "level"),
    ("OFF_CGROUP_ANCESTORS", "cgroup", "ancestors"),
    ("OFF_CGROUP_KN", "cgroup", "kn"),
    ("OFF_KERNFS_NODE_ID", "kernfs_node", "id"),
    ("OFF_BIO_BI_NEXT", "bio", "bi_next"),
    ("OFF_BIO_BI_BDEV", "bio", "bi_bdev"),
    ("OFF_BIO_BI_OPF", "bio", "bi_opf"),
    ("OFF_BIO_BI_STATUS", "bio", "bi_status"),
    ("OFF_BIO_BI_ITER_BI_SECTOR", "bio", "bi_iter.bi_sector"),
    ("OFF_BIO_BI_ITER_BI_SIZE", "bio", "bi_iter.bi_size"),
    ("OFF_BIO_BI_PRIVATE", "bio", "bi_private"),
    ("OFF_BIO_BI_BLKG", "bio", "bi_blkg"),
    ("OFF_BLKCG_GQ_BLKCG", "blkcg_gq", "blkcg"),
    ("OFF_BLKCG_CSS_CGROUP", "blkcg", "css.cgroup"),
    ("OFF_BLOCK_DEVICE_BD_DISK", "block_device", "bd_disk"),
    ("OFF_GENDISK_MAJOR", "gendisk", "major"),
    ("OFF_GENDISK_FIRST_MINOR", "gendisk", "first_minor"),
    ("OFF_GENDISK_QUEUE", "gendisk", "queue"),
    ("OFF_REQUEST_QUEUE_MQ_OPS", "request_queue", "mq_ops"),
    ("OFF_REQUEST_QUEUE_DISK", "request_queue", "disk"),
    ("OFF_REQUEST_Q", "request", "q"),
    ("OFF_REQUEST_BIO", "request", "bio"),
    ("OFF_REQUEST_CMD_FLAGS", "request", "cmd_flags"),
    ("OFF_REQUEST___SECTOR", "request", "__sector"),
    ("OFF_REQUEST___DATA_LEN", "request", "__data_len"),
    ("OFF_REQUEST_START_TIME_NS", "request", "start_time_ns"),
    ("OFF_REQUEST_MQ_HCTX", "request", "mq_hctx"),
    ("OFF_REQUEST_QUEUELIST", "request", "queuelist"),
    ("OFF_REQUEST_FLUSH_LIST", "request", "flush.list"),
    ("OFF_BLK_MQ_HW_CTX_FQ", "blk_mq_hw_ctx", "fq"),
    ("OFF_BLK_FLUSH_QUEUE_FLUSH_PENDING_IDX", "blk_flush_queue", "flush_pending_idx"),
    ("OFF_BLK_FLUSH_QUEUE_FLUSH_QUEUE", "blk_flush_queue", "flush_queue"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID", "trace_event_raw_sched_process_exec", "old_pid"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD", "trace_event_raw_sched_process_exit", "group_dead"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS", "trace_event_raw_cap_capable", "target_ns"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP", "trace_event_raw_cap_capable", "cap"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET", "trace_event_raw_cap_capable", "ret"),
    ("OFF_FILE_PRIVATE_DATA", "file", "private_data"),
    ("OFF_SOCKET_FILE", "socket", "file"),
    ("OFF_SOCKET_SK", "socket", "sk"),
    ("OFF_SOCK_COMMON_SKC_FAMILY", "sock_common", "skc_family"),
    ("OFF_SOCK_COMMON_SKC_STATE", "sock_common", "skc_state"),
    ("OFF_SOCK_COMMON_SKC_FLAGS", "sock_common", "skc_flags"),
    ("OFF_SOCK_COMMON_SKC_COOKIE", "sock_common", "skc_cookie.counter"),
    ("OFF_INET_SOCK_INET_SPORT", "inet_sock", "inet_sport"),
    ("OFF_SOCK_COMMON_SKC_DPORT", "sock_common", "skc_dport"),
    ("OFF_SOCK_COMMON_SKC_RCV_SADDR", "sock_common", "skc_rcv_saddr"),
    ("OFF_SOCK_COMMON_SKC_DADDR", "sock_common", "skc_daddr"),
    ("OFF_SOCK_COMMON_SKC_V6_RCV_SADDR", "sock_common", "skc_v6_rcv_saddr"),
    ("OFF_SOCK_COMMON_SKC_V6_DADDR", "sock_common", "skc_v6_daddr"),
    ("OFF_SOCK_COMMON_SKC_NET", "sock_common", "skc_net.net"),
    ("OFF_NET_NS_INUM", "net", "ns.inum"),
    ("OFF_SOCK_SK_PROTOCOL", "sock", "sk_protocol"),
    ("OFF_SOCK_SK_TYPE", "sock", "sk_type"),
    ("OFF_SOCK_SK_ERR", "sock", "sk_err"),
    ("OFF_TCP_SOCK_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("OFF_TCP_SOCK_SND_UNA", "tcp_sock", "snd_una"),
    ("OFF_TCP_SOCK_SND_NXT", "tcp_sock", "snd_nxt"),
    ("OFF_TCP_SOCK_BYTES_ACKED", "tcp_sock", "bytes_acked"),
    ("OFF_TCP_SOCK_BYTES_SENT", "tcp_sock", "bytes_sent"),
    ("OFF_TCP_SOCK_BYTES_RETRANS", "tcp_sock", "bytes_retrans"),
    ("OFF_TCP_SOCK_COPIED_SEQ", "tcp_sock", "copied_seq"),
    ("OFF_TCP_SOCK_RCV_NXT", "tcp_sock", "rcv_nxt"),
    ("OFF_TCP_SOCK_BYTES_RECEIVED", "tcp_sock", "bytes_received"),
    ("OFF_TCP_SOCK_SRTT_US", "tcp_sock", "srtt_us"),
    ("OFF_MSGHDR_MSG_ITER_COUNT", "msghdr", "msg_iter.count"),
    ("OFF_SK_BUFF_CB", "sk_buff", "cb"),
    ("OFF_TCP_SKB_CB_SEQ", "tcp_skb_cb", "seq"),
    ("OFF_TCP_SKB_CB_END_SEQ", "tcp_skb_cb", "end_seq"),
    ("OFF_TCP_SKB_CB_TCP_FLAGS", "tcp_skb_cb", "tcp_flags"),
    ("OFF_TCP_SKB_CB_TCP_GSO_SEGS", "tcp_skb_cb", "tcp_gso_segs"),
    ("OFF_TRACE_EVENT_RAW_TCP_EVENT_SK_SKADDR", "trace_event_raw_tcp_event_sk", "skaddr"),
    ("OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_SKADDR", "trace_event_raw_inet_sock_set_state", "skaddr"),
    ("OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_OLDSTATE", "trace_event_raw_inet_sock_set_state", "oldstate"),
    ("OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_NEWSTATE", "trace_event_raw_inet_sock_set_state", "newstate"),
    ("OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKADDR", "trace_event_raw_tcp_retransmit_skb", "skaddr"),
    ("OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKBADDR", "trace_event_raw_tcp_retransmit_skb", "skbaddr"),
    ("OFF_SK_BUFF_SK", "sk_buff", "sk"),
    ("OFF_SK_BUFF_LEN", "sk_buff", "len"),
    ("OFF_SK_BUFF_HEAD", "sk_buff", "head"),
    ("OFF_SK_BUFF_END", "sk_buff", "end"),
    ("OFF_SK_BUFF_NETWORK_HEADER", "sk_buff", "network_header"),
    ("OFF_SK_BUFF_TRANSPORT_HEADER", "sk_buff", "transport_header"),
    ("OFF_SKB_SHARED_INFO_GSO_SIZE", "skb_shared_info", "gso_size"),
    ("OFF_UDP_SOCK_PENDING", "udp_sock", "pending"),
    ("OFF_SOCK_SK_SHUTDOWN", "sock", "sk_shutdown"),
    ("OFF_TRACE_EVENT_RAW_NET_DEV_TEMPLATE_SKBADDR", "trace_event_raw_net_dev_template", "skbaddr"),
    ("OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_SK", "trace_event_raw_sock_msg_length", "sk"),
    ("OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_RET", "trace_event_raw_sock_msg_length", "ret"),
    ("OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_FLAGS", "trace_event_raw_sock_msg_length", "flags"),
    ("OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_LOCK_ADDR", "trace_event_raw_contention_begin", "lock_addr"),
    ("OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_FLAGS", "trace_event_raw_contention_begin", "flags"),
    ("OFF_TRACE_EVENT_RAW_CONTENTION_END_LOCK_ADDR", "trace_event_raw_contention_end", "lock_addr"),
    ("OFF_TRACE_EVENT_RAW_CONTENTION_END_RET", "trace_event_raw_contention_end", "ret"),
    ("OFF_TASK_STRUCT___STATE", "task_struct", "__state"),
    ("OFF_SUPER_BLOCK_S_MAGIC", "super_block", "s_magic"),
    ("OFF_HRTIMER_SLEEPER_TASK", "hrtimer_sleeper", "task"),
    ("OFF_PROCESS_TIMER_TASK", "process_timer", "task"),
    ("OFF_TIMERFD_CTX_T_TMR", "timerfd_ctx", "t.tmr"),
    ("OFF_CFS_RQ_TG", "cfs_rq", "tg"),
    ("OFF_CFS_RQ_RQ", "cfs_rq", "rq"),
    ("OFF_CFS_RQ_RUNTIME_ENABLED", "cfs_rq", "runtime_enabled"),
    ("OFF_CFS_RQ_RUNTIME_REMAINING", "cfs_rq", "runtime_remaining"),
    ("OFF_CFS_RQ_THROTTLED_LIMBO_LIST", "cfs_rq", "throttled_limbo_list"),
    ("OFF_RQ_CPU", "rq", "cpu"),
    ("OFF_TASK_GROUP_CSS_CGROUP", "task_group", "css.cgroup"),
    ("OFF_CGROUP_ROOT", "cgroup", "root"),
    ("OFF_CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", "hierarchy_id"),
];

/// Those that are elsewhere on kernels before 6.1, or that only the programs for these need. Of several the first that is
/// there counts.
const OFFSETS_BEFORE_6_1: &[(&str, &str, &str)] = &[
    ("OFF_CGROUP_ANCESTORS", "cgroup", "ancestor_ids"),
    ("OFF_BIO_BI_BDEV", "bio", "bi_disk"),
    ("OFF_REQUEST_QUEUE_DISK", "request", "rq_disk"),
    // The second since 5.16.
    ("OFF_TASK_STRUCT_THREAD_INFO_CPU", "task_struct", "cpu"),
    ("OFF_TASK_STRUCT_THREAD_INFO_CPU", "task_struct", "thread_info.cpu"),
    // The second since 5.14.
    ("OFF_TASK_STRUCT___STATE", "task_struct", "state"),
    ("OFF_TASK_STRUCT___STATE", "task_struct", "__state"),
    ("OFF_TASK_STRUCT_STACK", "task_struct", "stack"),
    ("OFF_MM_STRUCT_MM_RB", "mm_struct", "mm_rb"),
    ("OFF_VM_AREA_STRUCT_VM_RB", "vm_area_struct", "vm_rb"),
    ("OFF_VM_AREA_STRUCT_VM_END", "vm_area_struct", "vm_end"),
    ("OFF_VM_AREA_STRUCT_VM_MM", "vm_area_struct", "vm_mm"),
    ("OFF_RB_NODE_RB_LEFT", "rb_node", "rb_left"),
    ("OFF_RB_NODE_RB_RIGHT", "rb_node", "rb_right"),
];

/// Members without which the records of a family say less, and what they do not say then.
const TELLING: &[(&[Family], &[&str], &str)] = &[
    (&[Family::Process], &["OFF_TASK_STRUCT_MM", "OFF_MM_STRUCT_EXE_FILE"], "which file is executed"),
    (&[Family::Process, Family::Memory, Family::Lock], INODE, "which file it is"),
    (&[Family::Memory], &["OFF_TASK_STRUCT_MM"], "the memory of a process"),
    (
        &[Family::Lock],
        &["OFF_TASK_STRUCT_MM", "OFF_MM_STRUCT_CONTEXT_CTX_ID"],
        "the number of the address space",
    ),
    (&[Family::Tcp, Family::Udp], &["OFF_SOCK_COMMON_SKC_NET", "OFF_NET_NS_INUM"], "the net namespace"),
    (
        &[Family::Tcp, Family::Udp],
        &["OFF_SOCK_COMMON_SKC_V6_DADDR", "OFF_SOCK_COMMON_SKC_V6_RCV_SADDR"],
        "addresses of IPv6",
    ),
    (
        &[Family::Block],
        &["OFF_BIO_BI_BLKG", "OFF_BLKCG_GQ_BLKCG", "OFF_BLKCG_CSS_CGROUP"],
        "the cgroup of what is written back",
    ),
    (&[Family::Wait], &["OFF_UNIX_SOCK_PEER"], "the peer of a unix socket"),
    (&[Family::Wait], &["OFF_TIMERFD_CTX_T_TMR"], "which timerfd a timer is of"),
];

/// Which file it is.
const INODE: &[&str] = &["OFF_FILE_F_INODE", "OFF_INODE_I_INO", "OFF_INODE_I_SB", "OFF_SUPER_BLOCK_S_DEV"];

/// Where on a stack the registers of a system call are, for the programs for kernels before 6.1.
const ON_STACK: &str = "OFF_THREAD_UNION_REGISTERS";

/// Where a system call's number and arguments are in `struct pt_regs`, and those of a function and its result.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, &str, u64); 15] = [
    ("OFF_SYSCALL_NR", "orig_ax", 0),
    ("OFF_ARG_0", "di", 0),
    ("OFF_ARG_1", "si", 0),
    ("OFF_ARG_2", "dx", 0),
    ("OFF_ARG_3", "r10", 0),
    ("OFF_ARG_4", "r8", 0),
    ("OFF_ARG_5", "r9", 0),
    ("OFF_USER_IP", "ip", 0),
    ("OFF_FUNCTION_ARG_0", "di", 0),
    ("OFF_FUNCTION_ARG_1", "si", 0),
    ("OFF_FUNCTION_ARG_2", "dx", 0),
    ("OFF_FUNCTION_ARG_3", "cx", 0),
    ("OFF_FUNCTION_ARG_4", "r8", 0),
    ("OFF_FUNCTION_ARG_5", "r9", 0),
    ("OFF_FUNCTION_RET", "ax", 0),
];

/// Where a system call's number and arguments are in `struct pt_regs`, and those of a function; `regs` is an array of 64-bit registers.
#[cfg(target_arch = "aarch64")]
const REGISTERS: [(&str, &str, u64); 15] = [
    ("OFF_SYSCALL_NR", "syscallno", 0),
    ("OFF_ARG_0", "regs", 0),
    ("OFF_ARG_1", "regs", 8),
    ("OFF_ARG_2", "regs", 16),
    ("OFF_ARG_3", "regs", 24),
    ("OFF_ARG_4", "regs", 32),
    ("OFF_ARG_5", "regs", 40),
    ("OFF_USER_IP", "pc", 0),
    ("OFF_FUNCTION_ARG_0", "regs", 0),
    ("OFF_FUNCTION_ARG_1", "regs", 8),
    ("OFF_FUNCTION_ARG_2", "regs", 16),
    ("OFF_FUNCTION_ARG_3", "regs", 24),
    ("OFF_FUNCTION_ARG_4", "regs", 32),
    ("OFF_FUNCTION_ARG_5", "regs", 40),
    ("OFF_FUNCTION_RET", "regs", 0),
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("kprobe-ebpf knows the system call registers of x86_64 and aarch64 only");

/// The offsets that the programs need, as the running kernel has them.
#[derive(Debug)]
pub(crate) struct Offsets {
    found: BTreeMap<&'static str, u64>,
    missing: BTreeMap<&'static str, String>,
}

impl Offsets {
    /// What the records of these families do not say here, and why.
    pub(crate) fn untold(&self, families: &[Family]) -> Vec<String> {
        let of_each = families.iter().flat_map(|family| {
            let of_this = TELLING.iter().filter(move |(of, ..)| of.contains(family));
            of_this.map(move |(_, symbols, what)| (family, *symbols, what))
        });
        let untold = of_each.filter_map(|(family, symbols, what)| {
            let reason = self.missing(symbols.iter().copied())?;
            Some(format!("{} does not tell {what}: {reason}", family.name()))
        });
        untold.collect()
    }

    pub(crate) fn find(btf: &Btf, build: Build) -> Self {
        let mut offsets = Self { found: BTreeMap::new(), missing: BTreeMap::new() };
        let other = if build == Build::Before6_1 { OFFSETS_BEFORE_6_1 } else { &[] };
        let is_other = |symbol: &str| other.iter().any(|(other, ..)| *other == symbol);
        for (symbol, structure, path) in OFFSETS.iter().filter(|(symbol, ..)| !is_other(symbol)).chain(other)
        {
            offsets.look_up(btf, symbol, structure, path, 0);
        }
        for (symbol, path, within) in REGISTERS {
            offsets.look_up(btf, symbol, "pt_regs", path, within);
        }
        if build == Build::Before6_1 {
            offsets.look_up_stack(btf);
        }
        offsets
    }

    /// x86-64: they are at the very end of a stack, for which the kernel's type is a union with an array of that size. Other
    /// machines have more there, and are refused before 6.1.
    fn look_up_stack(&mut self, btf: &Btf) {
        // The size of a stack for interrupts is that of a thread's: PAGE_SIZE << (2 + KASAN_STACK_ORDER), both of them.
        let stack = btf.struct_size("thread_union").or_else(|_| btf.struct_size("irq_stack"));
        let sizes = stack.and_then(|stack| Ok((stack, btf.struct_size("pt_regs")?)));
        match sizes {
            Ok((stack, registers)) if stack > registers => {
                self.found.insert(ON_STACK, u64::from(stack - registers));
            }
            Ok(_) => {
                self.missing.insert(ON_STACK, "a stack has no room for registers".to_owned());
            }
            Err(missing) => {
                self.missing.insert(ON_STACK, missing.to_string());
            }
        }
    }

    fn look_up(&mut self, btf: &Btf, symbol: &'static str, structure: &str, path: &str, within: u64) {
        if self.found.contains_key(symbol) {
            return;
        }
        match btf.member_offset(structure, path) {
            Ok(member) => {
                self.missing.remove(symbol);
                self.found.insert(symbol, u64::from(member.byte_offset) + within);
            }
            Err(missing) => {
                self.missing.insert(symbol, missing.to_string());
            }
        }
    }

    /// As frozen globals. What was not found stays at the programs' own value for absent.
    pub(crate) fn globals(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        self.found.iter().map(|(symbol, offset)| (*symbol, offset.to_le_bytes().to_vec()))
    }

    /// Why the first of `needs` that was not found is missing.
    pub(crate) fn missing(&self, mut needs: impl Iterator<Item = &'static str>) -> Option<&str> {
        needs.find_map(|need| self.missing.get(need).map(String::as_str))
    }

    /// All symbols, for the test that compares them with the object.
    #[cfg(test)]
    pub(crate) fn symbols() -> impl Iterator<Item = &'static str> {
        OFFSETS.iter().map(|(symbol, ..)| *symbol).chain(REGISTERS.iter().map(|(symbol, ..)| *symbol))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

    use super::*;
    use crate::{
        ProbeFamily as _, Sched,
        attach::WakeContextSource,
        btf::builder::BtfBuilder,
        probe::{ProgramPlan, When, every_plan},
    };

    #[test]
    fn every_offset_of_the_object_is_looked_up_and_no_other() {
        let in_build = |build: Build| -> BTreeSet<_> {
            let object = object::File::parse(build.object()).unwrap();
            let names = object.symbols().filter_map(|symbol| symbol.name().ok());
            names.filter(|name| name.starts_with("OFF_")).collect()
        };
        let in_object = in_build(Build::Main);
        // That of the preempt count depends on how it is found.
        let of_context = WakeContextSource::Depths.globals();
        let of_context =
            of_context.iter().map(|(symbol, _)| *symbol).filter(|symbol| symbol.starts_with("OFF_"));
        let ours: BTreeSet<_> = Offsets::symbols().chain(of_context).collect();
        assert!(in_object.len() > 30, "{in_object:?}");
        assert_eq!(in_object, ours);
        // What it has beside these it has for its own kernels.
        let of_older: BTreeSet<_> = in_build(Build::Before6_1).difference(&ours).copied().collect();
        let looked_up: BTreeSet<_> = OFFSETS_BEFORE_6_1.iter().map(|(symbol, ..)| *symbol).collect();
        let looked_up = looked_up.difference(&ours).copied().chain([ON_STACK]);
        assert_eq!(of_older, looked_up.collect());
    }

    /// Members that a program can do without; it says that what they tell is absent.
    const MAY_BE_ABSENT: [&str; 26] = [
        "OFF_TIMERFD_CTX_T_TMR",
        "OFF_CFS_RQ_THROTTLED_LIMBO_LIST",
        "OFF_UNIX_SOCK_PEER",
        "OFF_SOCK_COMMON_SKC_V6_RCV_SADDR",
        "OFF_SOCK_COMMON_SKC_V6_DADDR",
        "OFF_SOCK_COMMON_SKC_NET",
        "OFF_NET_NS_INUM",
        "OFF_MM_STRUCT_CONTEXT_CTX_ID",
        "OFF_MM_STRUCT_RSS_STAT_0",
        "OFF_MM_STRUCT_RSS_STAT_1",
        "OFF_MM_STRUCT_RSS_STAT_3",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_0",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_1",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_3",
        "OFF_TASK_STRUCT_THREAD_INFO_STATUS",
        "OFF_TASK_STRUCT_MM",
        "OFF_MM_STRUCT_EXE_FILE",
        "OFF_FILE_F_INODE",
        "OFF_INODE_I_INO",
        "OFF_INODE_I_SB",
        "OFF_SUPER_BLOCK_S_DEV",
        "OFF_PREEMPT_COUNT",
        "OFF_BIO_BI_BLKG",
        "OFF_BLKCG_GQ_BLKCG",
        "OFF_BLKCG_CSS_CGROUP",
        "OFF_REQUEST_FLUSH_LIST",
    ];

    /// The offsets that a program's instructions refer to, and those of the functions that it calls.
    fn used_by<'a>(object: &object::File<'a>, program: &str) -> BTreeSet<&'a str> {
        let mut used = BTreeSet::new();
        let mut todo: Vec<_> = object.symbols().filter(|symbol| symbol.name() == Ok(program)).collect();
        assert_eq!(todo.len(), 1, "{program}");
        while let Some(function) = todo.pop() {
            let section = object.section_by_index(function.section_index().unwrap()).unwrap();
            let range = function.address()..function.address() + function.size();
            for (at, relocation) in section.relocations().filter(|(at, _)| range.contains(at)) {
                let RelocationTarget::Symbol(target) = relocation.target() else {
                    panic!("{program} at {at}")
                };
                let target = object.symbol_by_index(target).unwrap();
                let name = target.name().unwrap();
                if name.starts_with("OFF_") {
                    used.insert(name);
                } else if target.kind() == SymbolKind::Text {
                    todo.push(target);
                } else if target.kind() == SymbolKind::Section {
                    // A function by its place in the section: a call counts instructions from the next one, a pointer bytes.
                    let at = usize::try_from(at).unwrap();
                    let instruction = &section.data().unwrap()[at..at + 8];
                    let number = i32::from_le_bytes(instruction[4..].try_into().unwrap());
                    let is_call = instruction[0] == 0x85;
                    let place = if is_call { (i64::from(number) + 1) * 8 } else { i64::from(number) };
                    let is_there = |symbol: &object::Symbol<'_, '_>| {
                        symbol.kind() == SymbolKind::Text
                            && symbol.section_index() == target.section_index()
                            && i64::try_from(symbol.address()) == Ok(place)
                    };
                    todo.extend(object.symbols().filter(is_there));
                }
            }
        }
        used
    }

    /// Members that only some machines or kernels have, where nothing is missing without them, or another one has it.
    const ELSEWHERE: [&str; 10] = [
        "OFF_CFS_RQ_THROTTLED_LIMBO_LIST",
        "OFF_TASK_STRUCT_THREAD_INFO_STATUS",
        "OFF_PREEMPT_COUNT",
        "OFF_REQUEST_FLUSH_LIST",
        "OFF_MM_STRUCT_RSS_STAT_0",
        "OFF_MM_STRUCT_RSS_STAT_1",
        "OFF_MM_STRUCT_RSS_STAT_3",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_0",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_1",
        "OFF_MM_STRUCT_RSS_STAT_COUNT_3",
    ];

    /// What a family can do without it tells in the report.
    #[test]
    fn what_is_not_told_is_in_the_report() {
        let object = object::File::parse(Build::Main.object()).unwrap();
        for plan in every_plan() {
            for rung in plan.events.iter().flat_map(|event| &event.rungs) {
                let needed: BTreeSet<_> = rung.needed(|when| when != When::Before6_1).collect();
                let is_there = |program: &&ProgramPlan| {
                    object.symbols().any(|symbol| symbol.name() == Ok(&program.program))
                };
                for program in rung.programs.iter().filter(is_there) {
                    let own: BTreeSet<_> = program.needs.iter().flat_map(|needs| needs.1).collect();
                    let is_told = |symbol: &&str| {
                        let of_family = |(families, symbols, _): &(&[Family], &[&str], &str)| {
                            families.contains(&plan.family) && symbols.contains(symbol)
                        };
                        TELLING.iter().any(of_family)
                    };
                    let used = used_by(&object, &program.program);
                    let silent: Vec<_> = used
                        .iter()
                        .filter(|used| !needed.contains(*used) && !own.contains(used))
                        .filter(|used| !ELSEWHERE.contains(used) && !is_told(used))
                        .collect();
                    assert!(silent.is_empty(), "{}: {silent:?}", program.program);
                }
            }
        }
    }

    #[test]
    fn rungs_need_what_their_programs_read() {
        for build in Build::ALL {
            let object = object::File::parse(build.object()).unwrap();
            let is_there =
                |program: &ProgramPlan| object.symbols().any(|symbol| symbol.name() == Ok(&program.program));
            for event in every_plan().iter().flat_map(|plan| &plan.events) {
                let mut by_any = BTreeSet::new();
                let mut needed_by_any = BTreeSet::new();
                let is_of = |plan: &&ProgramPlan| build == Build::Before6_1 || !plan.is_before_6_1;
                for rung in &event.rungs {
                    let programs = || rung.programs.iter().filter(is_of);
                    if !programs().all(is_there) {
                        continue;
                    }
                    let holds = |when| when != When::Before6_1 || build == Build::Before6_1;
                    let needed: BTreeSet<_> = rung.needed(holds).collect();
                    for plan in programs() {
                        assert!(plan.needs.is_empty() || plan.is_optional, "{}", plan.program);
                        let own: BTreeSet<_> = plan.needs.iter().flat_map(|needs| needs.1).copied().collect();
                        let used = used_by(&object, &plan.program);
                        let is_named = |used: &&str| {
                            needed.contains(used) || own.contains(used) || MAY_BE_ABSENT.contains(used)
                        };
                        let unnamed: Vec<_> = used.iter().filter(|used| !is_named(used)).collect();
                        assert!(unnamed.is_empty(), "{} of {}: {unnamed:?}", plan.program, event.name);
                        by_any.extend(used);
                        needed_by_any.extend(own);
                    }
                    needed_by_any.extend(needed);
                }
                let unused: Vec<_> = needed_by_any.difference(&by_any).collect();
                // What typed pointers give the main build, a helper gives the older one.
                let is_main = build == Build::Main;
                assert!(unused.is_empty() || !is_main, "{}: {unused:?}", event.name);
            }
            assert!(used_by(&object, "sched_switch_raw").contains("OFF_CGROUP_ANCESTORS"));
            assert!(used_by(&object, "process_exit_raw").contains("OFF_SIGNAL_STRUCT_FLAGS"));
            assert_eq!(used_by(&object, "enters_exit_raw"), BTreeSet::new());
        }
    }

    #[test]
    fn registers_are_at_the_end_of_a_stack() {
        let find = |stacks: &[(&str, u32)], build| {
            let mut b = BtfBuilder::new();
            let long = b.int("unsigned long", 8);
            b.structure("pt_regs", 168, &[("di", long, 112)]);
            for (name, size) in stacks {
                b.union(name, *size, &[("stack", long)]);
            }
            Offsets::find(&Btf::parse(&b.blob()).unwrap(), build)
        };
        let at = |stacks: &[(&str, u32)]| find(stacks, Build::Before6_1).found.get(ON_STACK).copied();
        assert_eq!(at(&[("thread_union", 16 << 10)]), Some((16 << 10) - 168));
        assert_eq!(at(&[("irq_stack", 32 << 10)]), Some((32 << 10) - 168));
        assert_eq!(at(&[("irq_stack", 32 << 10), ("thread_union", 16 << 10)]), Some((16 << 10) - 168));
        let none = find(&[("thread_union", 168)], Build::Before6_1);
        assert_eq!(none.missing([ON_STACK].into_iter()), Some("a stack has no room for registers"));
        let none = find(&[], Build::Before6_1);
        assert_eq!(none.missing([ON_STACK].into_iter()), Some("no struct irq_stack"));
        // Later there is a helper.
        assert!(!find(&[("thread_union", 16 << 10)], Build::Main).found.contains_key(ON_STACK));
    }

    /// As before 6.1: a cgroup knows its ancestors' ids and not where they are.
    #[test]
    fn a_missing_field_matters_where_it_is_read() {
        let mut b = BtfBuilder::new();
        let int = b.int("int", 4);
        b.structure("cgroup", 8, &[("level", int, 0), ("kn", int, 4)]);
        b.structure("css_set", 8, &[("dfl_cgrp", int, 0)]);
        b.structure("kernfs_node", 8, &[("id", int, 0)]);
        let (info, counter) = (b.structure("thread_info", 4, &[("cpu", int, 0)]), int);
        let task = [
            ("pid", int, 0),
            ("tgid", int, 4),
            ("prio", int, 8),
            ("__state", int, 28),
            ("cgroups", counter, 12),
            ("thread_info", info, 16),
        ];
        b.structure("task_struct", 64, &task);
        let offsets = Offsets::find(&Btf::parse(&b.blob()).unwrap(), Build::Main);
        let sched = Sched::default().plan().0;
        for rung in sched.events.iter().flat_map(|event| &event.rungs) {
            assert_eq!(offsets.missing(rung.needed(|when| when == When::Always)), None, "{}", rung.name);
            let missing = offsets.missing(rung.needed(|_| true)).unwrap();
            assert!(missing.contains("ancestors") && missing.contains("cgroup"), "{missing}");
        }
    }
}

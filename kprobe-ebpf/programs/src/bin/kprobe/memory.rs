use kprobe_programs::{
    args::{Args, Frame},
    fault,
    memory::{Direct, Probed},
    oom, reclaim,
};

entry!(memory_fault_entry, "handle_mm_fault", fault::entered);
kprobe!(memory_fault_kprobe, "handle_mm_fault", fault::entered_frame);
// Both tracepoints have these arguments.
raw!(memory_fault_user_raw, "page_fault_user", fault::raised);
raw!(memory_fault_kernel_raw, "page_fault_kernel", fault::raised);

exit!(memory_fault_major_exit, "handle_mm_fault", fault::major_returned);
kretprobe!(memory_fault_major_kretprobe, "handle_mm_fault", fault::major_left);
perf!(memory_fault_major_perf, fault::major_counted);

exit!(memory_fault_minor_exit, "handle_mm_fault", fault::minor_returned);
kretprobe!(memory_fault_minor_kretprobe, "handle_mm_fault", fault::minor_left);
perf!(memory_fault_minor_perf, fault::minor_counted);

btf!(memory_reclaim_begin_btf, "mm_vmscan_direct_reclaim_begin", reclaim::global_began::<Direct>);
raw!(memory_reclaim_begin_raw, "mm_vmscan_direct_reclaim_begin", reclaim::global_began::<Probed>);
btf!(memory_reclaim_end_btf, "mm_vmscan_direct_reclaim_end", reclaim::ended);
raw!(memory_reclaim_end_raw, "mm_vmscan_direct_reclaim_end", reclaim::ended);
btf!(memory_reclaim_memcg_begin_btf, "mm_vmscan_memcg_reclaim_begin", reclaim::cgroup_began::<Direct>);
raw!(memory_reclaim_memcg_begin_raw, "mm_vmscan_memcg_reclaim_begin", reclaim::cgroup_began::<Probed>);
btf!(memory_reclaim_memcg_end_btf, "mm_vmscan_memcg_reclaim_end", reclaim::ended);
raw!(memory_reclaim_memcg_end_raw, "mm_vmscan_memcg_reclaim_end", reclaim::ended);

btf!(memory_compaction_begin_btf, "mm_compaction_begin", reclaim::compaction_began);
raw!(memory_compaction_begin_raw, "mm_compaction_begin", reclaim::compaction_began);
btf!(memory_compaction_end_btf, "mm_compaction_end", reclaim::compaction_ended::<Direct>);
raw!(memory_compaction_end_raw, "mm_compaction_end", reclaim::compaction_ended::<Probed>);

entry!(memory_oom_entry, "out_of_memory", oom::entered);
exit!(memory_oom_exit, "out_of_memory", |_: Args| oom::left());
kprobe!(memory_oom_kprobe, "out_of_memory", oom::entered_frame);
kretprobe!(memory_oom_kretprobe, "out_of_memory", |_: Frame| oom::left());
btf!(memory_oom_kill_btf, "mark_victim", oom::marked::<Direct>);
raw!(memory_oom_kill_raw, "mark_victim", oom::marked::<Probed>);

// What later kernels pass to the tracepoints.
#[cfg(feature = "before-6.1")]
mod before_6_1 {
    use kprobe_programs::{
        args::{Args, Frame},
        functions,
    };

    entry!(memory_compaction_control_entry, "compact_zone", |args: Args| functions::compacts(args.word(0)));
    kprobe!(memory_compaction_control_kprobe, "compact_zone", |at: Frame| functions::compacts(at.word(0)));
}

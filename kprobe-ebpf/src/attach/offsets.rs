use std::collections::BTreeMap;

use crate::btf::Btf;

/// Frozen globals that hold an offset: symbol, struct, path of the member.
const OFFSETS: &[(&str, &str, &str)] = &[
    ("OFF_TASK_STRUCT_PID", "task_struct", "pid"),
    ("OFF_TASK_STRUCT_TGID", "task_struct", "tgid"),
    ("OFF_TASK_STRUCT_COMM", "task_struct", "comm"),
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
    ("OFF_USER_NAMESPACE_LEVEL", "user_namespace", "level"),
    ("OFF_CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("OFF_CGROUP_LEVEL", "cgroup", "level"),
    ("OFF_CGROUP_ANCESTORS", "cgroup", "ancestors"),
    ("OFF_CGROUP_KN", "cgroup", "kn"),
    ("OFF_KERNFS_NODE_ID", "kernfs_node", "id"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID", "trace_event_raw_sched_process_exec", "old_pid"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD", "trace_event_raw_sched_process_exit", "group_dead"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS", "trace_event_raw_cap_capable", "target_ns"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP", "trace_event_raw_cap_capable", "cap"),
    ("OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET", "trace_event_raw_cap_capable", "ret"),
];

/// Where a system call's number and arguments are in `struct pt_regs`, and those of a function and its result.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, &str, u64); 14] = [
    ("OFF_SYSCALL_NR", "orig_ax", 0),
    ("OFF_ARG_0", "di", 0),
    ("OFF_ARG_1", "si", 0),
    ("OFF_ARG_2", "dx", 0),
    ("OFF_ARG_3", "r10", 0),
    ("OFF_ARG_4", "r8", 0),
    ("OFF_ARG_5", "r9", 0),
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
const REGISTERS: [(&str, &str, u64); 14] = [
    ("OFF_SYSCALL_NR", "syscallno", 0),
    ("OFF_ARG_0", "regs", 0),
    ("OFF_ARG_1", "regs", 8),
    ("OFF_ARG_2", "regs", 16),
    ("OFF_ARG_3", "regs", 24),
    ("OFF_ARG_4", "regs", 32),
    ("OFF_ARG_5", "regs", 40),
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
    pub(crate) fn find(btf: &Btf) -> Self {
        let mut offsets = Self { found: BTreeMap::new(), missing: BTreeMap::new() };
        for (symbol, structure, path) in OFFSETS {
            offsets.look_up(btf, symbol, structure, path, 0);
        }
        for (symbol, path, within) in REGISTERS {
            offsets.look_up(btf, symbol, "pt_regs", path, within);
        }
        offsets
    }

    fn look_up(&mut self, btf: &Btf, symbol: &'static str, structure: &str, path: &str, within: u64) {
        match btf.member_offset(structure, path) {
            Ok(member) => {
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
        probe::{When, every_plan},
    };

    static OBJECT: &[u8] = aya::include_bytes_aligned!("../../object/kprobe.o");

    #[test]
    fn every_offset_of_the_object_is_looked_up_and_no_other() {
        let object = object::File::parse(OBJECT).unwrap();
        let in_object: BTreeSet<_> = object
            .symbols()
            .filter_map(|symbol| symbol.name().ok())
            .filter(|name| name.starts_with("OFF_"))
            .collect();
        // That of the preempt count depends on how it is found.
        let of_context = WakeContextSource::Depths.globals();
        let of_context =
            of_context.iter().map(|(symbol, _)| *symbol).filter(|symbol| symbol.starts_with("OFF_"));
        let ours: BTreeSet<_> = Offsets::symbols().chain(of_context).collect();
        assert!(in_object.len() > 30, "{in_object:?}");
        assert_eq!(in_object, ours);
    }

    /// Members that a program can do without; it says that what they tell is absent.
    const MAY_BE_ABSENT: [&str; 14] = [
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
    ];

    /// The offsets that a program's instructions refer to, and those of the functions that it calls.
    fn used_by<'a>(object: &object::File<'a>, program: &str) -> BTreeSet<&'a str> {
        let mut used = BTreeSet::new();
        let mut todo: Vec<_> = object.symbols().filter(|symbol| symbol.name() == Ok(program)).collect();
        assert_eq!(todo.len(), 1, "{program}");
        while let Some(function) = todo.pop() {
            let section = object.section_by_index(function.section_index().unwrap()).unwrap();
            // A call by the section's own symbol: whatever is in it.
            let range = match function.kind() {
                SymbolKind::Section => 0..section.size(),
                _ => function.address()..function.address() + function.size(),
            };
            for (at, relocation) in section.relocations().filter(|(at, _)| range.contains(at)) {
                let RelocationTarget::Symbol(target) = relocation.target() else {
                    panic!("{program} at {at}")
                };
                let target = object.symbol_by_index(target).unwrap();
                let name = target.name().unwrap();
                if name.starts_with("OFF_") {
                    used.insert(name);
                } else if matches!(target.kind(), SymbolKind::Text | SymbolKind::Section) {
                    todo.push(target);
                }
            }
        }
        used
    }

    #[test]
    fn rungs_need_what_their_programs_read() {
        let object = object::File::parse(OBJECT).unwrap();
        for event in every_plan().iter().flat_map(|plan| &plan.events) {
            let mut by_any = BTreeSet::new();
            let mut needed_by_any = BTreeSet::new();
            for rung in &event.rungs {
                let programs = rung.programs.iter().map(|plan| used_by(&object, &plan.program));
                let used: BTreeSet<_> = programs.flatten().collect();
                let needed: BTreeSet<_> = rung.needed(|_| true).collect();
                let unnamed: Vec<_> = used
                    .iter()
                    .filter(|used| !needed.contains(*used) && !MAY_BE_ABSENT.contains(used))
                    .collect();
                assert!(unnamed.is_empty(), "{} of {}: {unnamed:?}", rung.name, event.name);
                by_any.extend(used);
                needed_by_any.extend(needed);
            }
            let unused: Vec<_> = needed_by_any.difference(&by_any).collect();
            assert!(unused.is_empty(), "{}: {unused:?}", event.name);
        }
        assert!(used_by(&object, "sched_switch_raw").contains("OFF_CGROUP_ANCESTORS"));
        assert!(used_by(&object, "process_exit_raw").contains("OFF_SIGNAL_STRUCT_FLAGS"));
        assert_eq!(used_by(&object, "enters_exit_raw"), BTreeSet::new());
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
            ("cgroups", counter, 12),
            ("thread_info", info, 16),
        ];
        b.structure("task_struct", 64, &task);
        let offsets = Offsets::find(&Btf::parse(&b.blob()).unwrap());
        let sched = Sched::default().plan().0;
        for rung in sched.events.iter().flat_map(|event| &event.rungs) {
            assert_eq!(offsets.missing(rung.needed(|when| when == When::Always)), None, "{}", rung.name);
            let missing = offsets.missing(rung.needed(|_| true)).unwrap();
            assert!(missing.contains("ancestors") && missing.contains("cgroup"), "{missing}");
        }
    }
}

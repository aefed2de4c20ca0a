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
    ("OFF_SIGNAL_STRUCT_LIVE", "signal_struct", "live.counter"),
    ("OFF_SIGNAL_STRUCT_FLAGS", "signal_struct", "flags"),
    ("OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE", "signal_struct", "group_exit_code"),
    ("OFF_MM_STRUCT_EXE_FILE", "mm_struct", "exe_file"),
    ("OFF_FILE_F_INODE", "file", "f_inode"),
    ("OFF_INODE_I_INO", "inode", "i_ino"),
    ("OFF_INODE_I_SB", "inode", "i_sb"),
    ("OFF_SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("OFF_CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("OFF_CGROUP_LEVEL", "cgroup", "level"),
    ("OFF_CGROUP_ANCESTORS", "cgroup", "ancestors"),
    ("OFF_CGROUP_KN", "cgroup", "kn"),
    ("OFF_KERNFS_NODE_ID", "kernfs_node", "id"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID", "trace_event_raw_sched_process_exec", "old_pid"),
    ("OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD", "trace_event_raw_sched_process_exit", "group_dead"),
];

/// Where a system call's number and arguments are in `struct pt_regs`.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, &str, u64); 7] = [
    ("OFF_SYSCALL_NR", "orig_ax", 0),
    ("OFF_ARG_0", "di", 0),
    ("OFF_ARG_1", "si", 0),
    ("OFF_ARG_2", "dx", 0),
    ("OFF_ARG_3", "r10", 0),
    ("OFF_ARG_4", "r8", 0),
    ("OFF_ARG_5", "r9", 0),
];

/// Where a system call's number and arguments are in `struct pt_regs`; `regs` is an array of 64-bit registers.
#[cfg(target_arch = "aarch64")]
const REGISTERS: [(&str, &str, u64); 7] = [
    ("OFF_SYSCALL_NR", "syscallno", 0),
    ("OFF_ARG_0", "regs", 0),
    ("OFF_ARG_1", "regs", 8),
    ("OFF_ARG_2", "regs", 16),
    ("OFF_ARG_3", "regs", 24),
    ("OFF_ARG_4", "regs", 32),
    ("OFF_ARG_5", "regs", 40),
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
    pub(crate) fn missing(&self, needs: &[&'static str]) -> Option<&str> {
        needs.iter().find_map(|need| self.missing.get(*need).map(String::as_str))
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

    use object::{Object as _, ObjectSymbol as _};

    use super::*;
    use crate::attach::WakeContextSource;

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
}

use kprobe_core::{
    abi::{Family, Kind},
    event::{ProcessExec, ProcessExit, ProcessFork, ProcessRename},
};

use super::{
    EventPlan, FamilyPlan, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, Yields,
    plan::{sealed, tracepoint_rungs},
};

/// The life of processes and threads. Yields [`ProcessFork`], [`ProcessExec`], [`ProcessExit`] and [`ProcessRename`];
/// the process table, which gives every other event its name and parent, lives on these.
///
/// Targets: the tracepoints `sched_wakeup_new`, `sched_process_exec`, `sched_process_exit` and `task_rename`. Kernel
/// 6.1 or later.
#[derive(Clone, Debug, Default)]
pub struct Process {
    _private: (),
}

impl sealed::Sealed for Process {}

impl ProbeFamily for Process {
    fn plan(self) -> sealed::Plan {
        const LIFE: [&str; 5] = [
            "OFF_TASK_STRUCT_PID",
            "OFF_TASK_STRUCT_TGID",
            "OFF_TASK_STRUCT_REAL_PARENT",
            "OFF_TASK_STRUCT_GROUP_LEADER",
            "OFF_TASK_STRUCT_START_BOOTTIME",
        ];
        const EXIT: [&str; 9] = [
            "OFF_TASK_STRUCT_PID",
            "OFF_TASK_STRUCT_TGID",
            "OFF_TASK_STRUCT_REAL_PARENT",
            "OFF_TASK_STRUCT_GROUP_LEADER",
            "OFF_TASK_STRUCT_START_BOOTTIME",
            "OFF_TASK_STRUCT_EXIT_CODE",
            "OFF_TASK_STRUCT_SIGNAL",
            "OFF_SIGNAL_STRUCT_FLAGS",
            "OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE",
        ];
        let event = |kind, name, btf, raw, tracepoint, needs: &[&'static str]| EventPlan {
            kind,
            name,
            rungs: tracepoint_rungs(btf, raw, tracepoint, needs),
        };
        let mut events = vec![
            event(
                Kind::PROCESS_FORK,
                "process.fork",
                "process_fork_btf",
                "process_fork_raw",
                "sched_wakeup_new",
                &LIFE,
            ),
            event(
                Kind::PROCESS_EXEC,
                "process.exec",
                "process_exec_btf",
                "process_exec_raw",
                "sched_process_exec",
                &LIFE,
            ),
            event(
                Kind::PROCESS_EXIT,
                "process.exit",
                "process_exit_btf",
                "process_exit_raw",
                "sched_process_exit",
                &EXIT,
            ),
            event(
                Kind::PROCESS_RENAME,
                "process.rename",
                "process_rename_btf",
                "process_rename_raw",
                "task_rename",
                &["OFF_TASK_STRUCT_PID", "OFF_TASK_STRUCT_TGID"],
            ),
        ];
        // Behind those: see TRACE_EVENT.
        events[1].rungs.push(RungPlan::trace_event(
            vec![ProgramPlan::event("process_exec_tp", "sched", "sched_process_exec")],
            &[&LIFE[..], &["OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID"]].concat(),
        ));
        events[2].rungs.push(RungPlan::trace_event(
            vec![ProgramPlan::event("process_exit_tp", "sched", "sched_process_exit")],
            &EXIT,
        ));
        sealed::Plan(FamilyPlan {
            family: Family::Process,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: 1,
            min_duration_ns: 0,
            globals: Vec::new(),
        })
    }
}

impl Yields<ProcessFork> for Process {}
impl Yields<ProcessExec> for Process {}
impl Yields<ProcessExit> for Process {}
impl Yields<ProcessRename> for Process {}

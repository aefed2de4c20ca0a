use kprobe_core::{
    abi::{Family, Kind},
    event::{ProcessExec, ProcessExit, ProcessFork, ProcessRename},
};

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When, Yields,
    plan::{sealed, tracepoint_rungs},
};

/// The life of processes and threads. Yields [`ProcessFork`], [`ProcessExec`], [`ProcessExit`] and [`ProcessRename`];
/// the process table, which gives every other event its name and parent, lives on these.
///
/// Targets: the tracepoints `sched_wakeup_new`, `sched_process_exec`, `sched_process_exit` and `task_rename`. Kernel
/// 5.10 or later.
#[derive(Clone, Debug, Default)]
pub struct Process {
    _private: (),
}

impl sealed::Sealed for Process {}

impl ProbeFamily for Process {
    fn plan(self) -> sealed::Plan {
        /// Who its parent is and when it began.
        const BORN: Needs =
            Needs(When::Always, &["OFF_TASK_STRUCT_REAL_PARENT", "OFF_TASK_STRUCT_START_BOOTTIME"]);
        const LEADER: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_GROUP_LEADER"]);
        const FORK: &[Needs] = &[Needs::IDS, BORN, Needs::ANCESTORS];
        const EXEC: &[Needs] = &[Needs::IDS, BORN, LEADER, Needs(When::Always, &["OFF_TASK_STRUCT_COMM"])];
        const EXIT: &[Needs] = &[
            Needs::IDS,
            BORN,
            LEADER,
            Needs(
                When::Always,
                &[
                    "OFF_TASK_STRUCT_EXIT_CODE",
                    "OFF_TASK_STRUCT_SIGNAL",
                    "OFF_SIGNAL_STRUCT_FLAGS",
                    "OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE",
                ],
            ),
            Needs(When::NoGroupDead, &["OFF_SIGNAL_STRUCT_LIVE"]),
        ];
        const EXEC_EVENT: Needs = Needs(When::Always, &["OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID"]);
        const EXIT_EVENT: Needs =
            Needs(When::GroupDead, &["OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD"]);
        let event = |kind, name, btf, raw, tracepoint, needs: &[Needs]| {
            EventPlan::new(kind, name, tracepoint_rungs(btf, raw, tracepoint, needs))
        };
        let mut events = vec![
            event(
                Kind::PROCESS_FORK,
                "process.fork",
                "process_fork_btf",
                "process_fork_raw",
                "sched_wakeup_new",
                FORK,
            ),
            event(
                Kind::PROCESS_EXEC,
                "process.exec",
                "process_exec_btf",
                "process_exec_raw",
                "sched_process_exec",
                EXEC,
            ),
            event(
                Kind::PROCESS_EXIT,
                "process.exit",
                "process_exit_btf",
                "process_exit_raw",
                "sched_process_exit",
                EXIT,
            ),
            event(
                Kind::PROCESS_RENAME,
                "process.rename",
                "process_rename_btf",
                "process_rename_raw",
                "task_rename",
                &[Needs::IDS, Needs::ANCESTORS],
            ),
        ];
        // Behind those: see TRACE_EVENT.
        events[1].rungs.push(RungPlan::trace_event(
            vec![ProgramPlan::event("process_exec_tp", "sched", "sched_process_exec")],
            &[EXEC, &[Needs::CGROUP_ID, EXEC_EVENT]].concat(),
        ));
        events[2].rungs.push(RungPlan::trace_event(
            vec![ProgramPlan::event("process_exit_tp", "sched", "sched_process_exit")],
            &[EXIT, &[Needs::CGROUP_ID, EXIT_EVENT]].concat(),
        ));
        sealed::Plan(FamilyPlan {
            family: Family::Process,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: 1,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<ProcessFork> for Process {}
impl Yields<ProcessExec> for Process {}
impl Yields<ProcessExit> for Process {}
impl Yields<ProcessRename> for Process {}

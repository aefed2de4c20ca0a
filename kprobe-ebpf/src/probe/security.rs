use kprobe_core::{
    abi::{Family, Kind},
    event::SecurityCapability,
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When,
    Yields,
    plan::{sealed, tracepoint_rungs},
};

/// Checks of capabilities: one [`SecurityCapability`] for each time the kernel asks whether a thread has one.
///
/// Targets: the tracepoint `cap_capable` (Linux 6.13), else the function of that name. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Security {
    sample_one_in: u32,
}

impl Default for Security {
    /// Every check, not sampled.
    fn default() -> Self {
        Self { sample_one_in: 1 }
    }
}

impl Security {
    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in }
    }
}

impl sealed::Sealed for Security {}

impl ProbeFamily for Security {
    fn plan(self) -> sealed::Plan {
        const LEVEL: Needs = Needs(When::Always, &["OFF_USER_NAMESPACE_LEVEL"]);
        const EVENT: Needs = Needs(
            When::Always,
            &[
                "OFF_TRACE_EVENT_RAW_CAP_CAPABLE_TARGET_NS",
                "OFF_TRACE_EVENT_RAW_CAP_CAPABLE_CAP",
                "OFF_TRACE_EVENT_RAW_CAP_CAPABLE_RET",
            ],
        );
        const ARGUMENTS: Needs = Needs(
            When::Always,
            &["OFF_FUNCTION_ARG_1", "OFF_FUNCTION_ARG_2", "OFF_FUNCTION_ARG_3", "OFF_FUNCTION_RET"],
        );
        // Where the current task is at hand.
        const TASK: [Needs; 2] = [Needs::IDS, Needs::CGROUP_ID];
        let mut rungs =
            tracepoint_rungs("security_capability_btf", "security_capability_raw", "cap_capable", &[LEVEL]);
        rungs[0].needs.push(Needs::IDS);
        rungs.push(RungPlan::trace_event(
            vec![ProgramPlan::event("security_capability_tp", "capability", "cap_capable")],
            &[&TASK[..], &[LEVEL, EVENT]].concat(),
        ));
        let rung = |name, programs, needs: &[Needs]| RungPlan {
            name,
            programs,
            needs: [&TASK[..], needs].concat(),
            storage: &[],
        };
        rungs.push(rung(
            FUNCTION,
            vec![ProgramPlan::fexit("security_capability_exit", "cap_capable")],
            &[LEVEL],
        ));
        let at_breakpoints = vec![
            ProgramPlan::kprobe("security_capability_kprobe", "cap_capable"),
            ProgramPlan::kretprobe("security_capability_kretprobe", "cap_capable"),
        ];
        rungs.push(rung(KPROBE, at_breakpoints, &[LEVEL, ARGUMENTS]).storing(&["CHECKS"]));
        sealed::Plan(FamilyPlan {
            family: Family::Security,
            object: ObjectBytes::Builtin,
            events: vec![EventPlan::new(Kind::SECURITY_CAPABILITY, "security.capability", rungs)],
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<SecurityCapability> for Security {}

use kprobe_core::{
    abi::{Family, Kind},
    event::{SchedMigrate, SchedSwitch, SchedWaking},
};

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, When, Yields,
    plan::{sealed, tracepoint_rungs},
};

/// The scheduler: which thread has a CPU, who wakes whom, who moves. Yields [`SchedSwitch`], [`SchedWaking`] and
/// [`SchedMigrate`].
///
/// Targets: the tracepoints `sched_switch`, `sched_waking` and `sched_migrate_task`. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Sched {
    switch: bool,
    waking: bool,
    migrate: bool,
    sample_one_in: u32,
}

impl Default for Sched {
    /// All three events, not sampled.
    fn default() -> Self {
        Self { switch: true, waking: true, migrate: true, sample_one_in: 1 }
    }
}

impl Sched {
    /// Leaves [`SchedSwitch`] out.
    #[must_use]
    pub fn without_switch(self) -> Self {
        Self { switch: false, ..self }
    }

    /// Leaves [`SchedWaking`] out.
    #[must_use]
    pub fn without_waking(self) -> Self {
        Self { waking: false, ..self }
    }

    /// Leaves [`SchedMigrate`] out.
    #[must_use]
    pub fn without_migrate(self) -> Self {
        Self { migrate: false, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl sealed::Sealed for Sched {}

impl ProbeFamily for Sched {
    fn plan(self) -> sealed::Plan {
        const PRIO: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_PRIO"]);
        const CPU: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_THREAD_INFO_CPU"]);
        const STATE: Needs = Needs(When::Always, &["OFF_TASK_STRUCT___STATE"]);
        const SWITCH: &[Needs] = &[Needs::IDS, PRIO, STATE, Needs::ANCESTORS];
        const PLACED: &[Needs] = &[Needs::IDS, PRIO, CPU, Needs::ANCESTORS];
        let mut events = Vec::new();
        if self.switch {
            events.push(EventPlan::new(
                Kind::SCHED_SWITCH,
                "sched.switch",
                tracepoint_rungs("sched_switch_btf", "sched_switch_raw", "sched_switch", SWITCH),
            ));
        }
        if self.waking {
            events.push(EventPlan::new(
                Kind::SCHED_WAKING,
                "sched.waking",
                tracepoint_rungs("sched_waking_btf", "sched_waking_raw", "sched_waking", PLACED),
            ));
        }
        if self.migrate {
            events.push(EventPlan::new(
                Kind::SCHED_MIGRATE,
                "sched.migrate",
                tracepoint_rungs("sched_migrate_btf", "sched_migrate_raw", "sched_migrate_task", PLACED),
            ));
        }
        sealed::Plan(FamilyPlan {
            family: Family::Sched,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<SchedSwitch> for Sched {}
impl Yields<SchedWaking> for Sched {}
impl Yields<SchedMigrate> for Sched {}

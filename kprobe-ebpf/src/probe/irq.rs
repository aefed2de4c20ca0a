use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::{IrqHard, IrqSoft},
};

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, Yields, plan::sealed,
};

/// Interrupts: one [`IrqHard`] or [`IrqSoft`] for each that takes long, and [how many there were and how long they took in
/// all](crate::Recorder::irq_counters), by CPU and vector, of every one.
///
/// An interrupt belongs to nobody. A record is made if the thread that was interrupted is selected, and if everything is also
/// where nobody was; the sums are of all.
///
/// Targets: the tracepoints of interrupts. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Irq {
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Irq {
    /// Those of 100 us and more, not sampled.
    fn default() -> Self {
        Self { min_duration: Duration::from_micros(100), sample_one_in: 1 }
    }
}

impl Irq {
    /// Only interrupts that took this long or longer have a record.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl sealed::Sealed for Irq {}

/// Entry and exit tracepoints, and the programs there: typed and raw.
type Pair = [[&'static str; 3]; 2];

/// Those of devices, and on x86 those of the CPU itself.
const HARD: &[Pair] = &[
    [
        ["irq_handler_entry", "irq_device_enter_btf", "irq_device_enter_raw"],
        ["irq_handler_exit", "irq_device_exit_btf", "irq_device_exit_raw"],
    ],
    #[cfg(target_arch = "x86_64")]
    [
        ["local_timer_entry", "irq_timer_enter_btf", "irq_timer_enter_raw"],
        ["local_timer_exit", "irq_timer_exit_btf", "irq_timer_exit_raw"],
    ],
    #[cfg(target_arch = "x86_64")]
    [
        ["reschedule_entry", "irq_resched_enter_btf", "irq_resched_enter_raw"],
        ["reschedule_exit", "irq_resched_exit_btf", "irq_resched_exit_raw"],
    ],
    #[cfg(target_arch = "x86_64")]
    [
        ["call_function_entry", "irq_call_enter_btf", "irq_call_enter_raw"],
        ["call_function_exit", "irq_call_exit_btf", "irq_call_exit_raw"],
    ],
    #[cfg(target_arch = "x86_64")]
    [
        ["call_function_single_entry", "irq_call1_enter_btf", "irq_call1_enter_raw"],
        ["call_function_single_exit", "irq_call1_exit_btf", "irq_call1_exit_raw"],
    ],
    #[cfg(target_arch = "x86_64")]
    [
        ["irq_work_entry", "irq_work_enter_btf", "irq_work_enter_raw"],
        ["irq_work_exit", "irq_work_exit_btf", "irq_work_exit_raw"],
    ],
];

const SOFT: &[Pair] = &[[
    ["softirq_entry", "irq_soft_enter_btf", "irq_soft_enter_raw"],
    ["softirq_exit", "irq_soft_exit_btf", "irq_soft_exit_raw"],
]];

fn rungs(pairs: &[Pair]) -> Vec<RungPlan> {
    let all = || pairs.iter().flatten();
    let btf = all().map(|[tracepoint, btf, _]| ProgramPlan::btf(btf, tracepoint)).collect();
    let raw = all().map(|[tracepoint, _, raw]| ProgramPlan::raw(raw, tracepoint)).collect();
    vec![
        RungPlan { name: "tp_btf", programs: btf, needs: vec![Needs::IDS, Needs::CGROUP_ID], storage: &[] },
        RungPlan { name: "raw_tp", programs: raw, needs: Vec::new(), storage: &[] },
    ]
}

impl ProbeFamily for Irq {
    fn plan(self) -> sealed::Plan {
        // Hardware interrupts first: a softirq's time is without theirs.
        let event = |kind, name, pairs| EventPlan::new(kind, name, rungs(pairs));
        sealed::Plan(FamilyPlan {
            family: Family::Irq,
            object: ObjectBytes::Builtin,
            events: vec![event(Kind::IRQ_HARD, "irq.hard", HARD), event(Kind::IRQ_SOFT, "irq.soft", SOFT)],
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<IrqHard> for Irq {}
impl Yields<IrqSoft> for Irq {}

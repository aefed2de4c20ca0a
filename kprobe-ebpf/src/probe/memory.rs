use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::{MemoryFaultMajor, MemoryFaultMinor},
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, PERF, ProbeFamily, ProgramPlan, RAISED_PERF,
    RungPlan, SoftwareEvent, When, Yields, plan::sealed,
};

/// Memory management: a [`MemoryFaultMajor`] for each page fault that had to wait for a device. Minor faults are counted
/// (see [`Recorder::minor_faults`](crate::Recorder::minor_faults)), and recorded if asked for.
///
/// Targets: the function `handle_mm_fault`; where functions are not to be had, perf's software events. Kernel 6.1 or later.
#[derive(Clone, Debug)]
pub struct Memory {
    minor_faults_one_in: u32,
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Memory {
    /// Everything but minor faults, which are only counted; not sampled.
    fn default() -> Self {
        Self { minor_faults_one_in: 0, min_duration: Duration::ZERO, sample_one_in: 1 }
    }
}

impl Memory {
    /// Records one minor fault in `one_in`, counted on each CPU, as a [`MemoryFaultMinor`]; 0 only counts them.
    #[must_use]
    pub fn minor_faults(self, one_in: u32) -> Self {
        Self { minor_faults_one_in: one_in, ..self }
    }

    /// Leaves out what took less. It does not concern minor faults, nor events whose beginning was not seen.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all. Minor faults have a rate of their own.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl sealed::Sealed for Memory {}

impl ProbeFamily for Memory {
    fn plan(self) -> sealed::Plan {
        let events = vec![
            EventPlan {
                kind: Kind::MEMORY_FAULT_MAJOR,
                name: "memory.fault_major",
                rungs: faults(
                    true,
                    "memory_fault_major_exit",
                    "memory_fault_major_kretprobe",
                    ("memory_fault_major_perf", SoftwareEvent::MajorFaults),
                ),
            },
            EventPlan {
                kind: Kind::MEMORY_FAULT_MINOR,
                name: "memory.fault_minor",
                rungs: faults(
                    false,
                    "memory_fault_minor_exit",
                    "memory_fault_minor_kretprobe",
                    ("memory_fault_minor_perf", SoftwareEvent::MinorFaults),
                ),
            },
        ];
        sealed::Plan(FamilyPlan {
            family: Family::Memory,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: vec![("MINOR_FAULTS_ONE_IN", self.minor_faults_one_in.to_le_bytes().to_vec())],
            maps: Vec::new(),
        })
    }
}

/// The ladder of one kind of fault. Major faults come first and bring the programs that see the beginning of any fault,
/// `with_begin`; those of minor faults see what these remember.
fn faults(
    with_begin: bool,
    exit: &'static str,
    kretprobe: &'static str,
    (perf, event): (&'static str, SoftwareEvent),
) -> Vec<RungPlan> {
    const COUNTED: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_MIN_FLT", "OFF_TASK_STRUCT_MAJ_FLT"]);
    const FILE: Needs = Needs(When::Always, &["OFF_VM_AREA_STRUCT_VM_FILE"]);
    const ARGUMENTS: Needs =
        Needs(When::Always, &["OFF_FUNCTION_ARG_0", "OFF_FUNCTION_ARG_1", "OFF_FUNCTION_ARG_2"]);
    const RESULT: Needs = Needs(When::Always, &["OFF_FUNCTION_RET"]);
    const SAMPLED: Needs = Needs(When::Always, &["OFF_BPF_PERF_EVENT_DATA_ADDR"]);
    const HANDLER: &str = "handle_mm_fault";
    // The programs at the beginning and what they need, the program at the end and what it needs.
    let rung = |name, begin: (Vec<ProgramPlan>, &[Needs]), end, needs: &[Needs]| {
        let (begin, begin_needs) = if with_begin { begin } else { Default::default() };
        RungPlan {
            name,
            programs: begin.into_iter().chain([end]).collect(),
            needs: [&[Needs::IDS, Needs::CGROUP_ID, COUNTED], begin_needs, needs].concat(),
            storage: &["FAULTS"],
        }
    };
    let raised = vec![
        ProgramPlan::raw("memory_fault_user_raw", "page_fault_user"),
        ProgramPlan::raw("memory_fault_kernel_raw", "page_fault_kernel"),
    ];
    vec![
        rung(
            FUNCTION,
            (vec![ProgramPlan::fentry("memory_fault_entry", HANDLER)], &[FILE]),
            ProgramPlan::fexit(exit, HANDLER),
            &[],
        ),
        rung(
            KPROBE,
            (vec![ProgramPlan::kprobe("memory_fault_kprobe", HANDLER)], &[FILE, ARGUMENTS]),
            ProgramPlan::kretprobe(kretprobe, HANDLER),
            &[RESULT],
        ),
        rung(RAISED_PERF, (raised, &[]), ProgramPlan::perf(perf, event), &[SAMPLED]),
        rung(PERF, (Vec::new(), &[]), ProgramPlan::perf(perf, event), &[SAMPLED]),
    ]
}

impl Yields<MemoryFaultMajor> for Memory {}
impl Yields<MemoryFaultMinor> for Memory {}

use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::{MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor, MemoryOomKill, MemoryReclaim},
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, PERF, ProbeFamily, ProgramPlan, RAISED_PERF,
    RungPlan, SoftwareEvent, When, Yields, plan::sealed,
};

/// Memory management: a [`MemoryFaultMajor`] for each page fault that had to wait for a device, a [`MemoryReclaim`] and a
/// [`MemoryCompaction`] for each time that a thread had to make room itself, a [`MemoryOomKill`] for each process that is
/// killed for want of memory. Minor faults are counted (see
/// [`Recorder::minor_faults`](crate::Recorder::minor_faults)), and recorded if asked for.
///
/// Targets: the functions `handle_mm_fault` and `out_of_memory`, where functions are not to be had perf's software events;
/// the tracepoints of reclaim, compaction and `mark_victim`. Kernel 5.10 or later.
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
            EventPlan::new(
                Kind::MEMORY_FAULT_MAJOR,
                "memory.fault_major",
                faults(
                    true,
                    "memory_fault_major_exit",
                    "memory_fault_major_kretprobe",
                    ("memory_fault_major_perf", SoftwareEvent::MajorFaults),
                ),
            ),
            EventPlan::new(
                Kind::MEMORY_FAULT_MINOR,
                "memory.fault_minor",
                faults(
                    false,
                    "memory_fault_minor_exit",
                    "memory_fault_minor_kretprobe",
                    ("memory_fault_minor_perf", SoftwareEvent::MinorFaults),
                ),
            ),
            EventPlan::new(Kind::MEMORY_RECLAIM, "memory.reclaim", reclaim()),
            EventPlan::new(Kind::MEMORY_COMPACTION, "memory.compaction", compaction()),
            EventPlan::new(Kind::MEMORY_OOM_KILL, "memory.oom_kill", oom_kill()),
        ];
        sealed::Plan(FamilyPlan {
            family: Family::Memory,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: vec![("MINOR_FAULTS_ONE_IN", self.minor_faults_one_in.to_le_bytes().to_vec())],
            maps: Vec::new(),
            allowed: Vec::new(),
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

/// The programs of a tracepoint's two rungs: name and tracepoint of each.
fn at_tracepoints(
    programs: &[(&'static str, &'static str, &'static str)],
    storage: &'static [&'static str],
    needs: &[Needs],
) -> Vec<RungPlan> {
    let needs = [&[Needs::IDS, Needs::CGROUP_ID], needs].concat();
    let rung = |name, programs: Vec<ProgramPlan>| RungPlan { name, programs, needs: needs.clone(), storage };
    let btf = programs.iter().map(|(btf, _, tracepoint)| ProgramPlan::btf(btf, tracepoint));
    let raw = programs.iter().map(|(_, raw, tracepoint)| ProgramPlan::raw(raw, tracepoint));
    vec![rung("tp_btf", btf.collect()), rung("raw_tp", raw.collect())]
}

/// The same two rungs, with what kernels before 6.1 do not pass to the tracepoints: the first argument of a function, taken
/// by a program at its entry or at a breakpoint there.
fn with_argument_of(
    function: &'static str,
    (entry, kprobe): (&'static str, &'static str),
    rungs: Vec<RungPlan>,
) -> Vec<RungPlan> {
    let programs = [ProgramPlan::fentry(entry, function), ProgramPlan::kprobe(kprobe, function)];
    let mut rungs = rungs;
    for (rung, program) in rungs.iter_mut().zip(programs) {
        rung.programs.insert(0, program.shared().before_6_1());
        rung.needs.push(Needs(When::Before6_1, &["OFF_FUNCTION_ARG_0"]));
    }
    rungs
}

fn reclaim() -> Vec<RungPlan> {
    let programs = [
        ("memory_reclaim_begin_btf", "memory_reclaim_begin_raw", "mm_vmscan_direct_reclaim_begin"),
        ("memory_reclaim_end_btf", "memory_reclaim_end_raw", "mm_vmscan_direct_reclaim_end"),
        ("memory_reclaim_memcg_begin_btf", "memory_reclaim_memcg_begin_raw", "mm_vmscan_memcg_reclaim_begin"),
        ("memory_reclaim_memcg_end_btf", "memory_reclaim_memcg_end_raw", "mm_vmscan_memcg_reclaim_end"),
    ];
    at_tracepoints(&programs, &["RECLAIMS"], &[MEMCG])
}

fn compaction() -> Vec<RungPlan> {
    const CONTROL: Needs = Needs(
        When::Always,
        &[
            "OFF_COMPACT_CONTROL_ORDER",
            "OFF_COMPACT_CONTROL_GFP_MASK",
            "OFF_COMPACT_CONTROL_DIRECT_COMPACTION",
        ],
    );
    let programs = [
        ("memory_compaction_begin_btf", "memory_compaction_begin_raw", "mm_compaction_begin"),
        ("memory_compaction_end_btf", "memory_compaction_end_raw", "mm_compaction_end"),
    ];
    let function = ("memory_compaction_control_entry", "memory_compaction_control_kprobe");
    let rungs = at_tracepoints(&programs, &["COMPACTIONS", "COMPACTING"], &[CONTROL]);
    with_argument_of("compact_zone", function, rungs)
}

/// The function says why, the tracepoint who. Where the function is not to be had, the tracepoint is better than nothing.
fn oom_kill() -> Vec<RungPlan> {
    const VICTIM: Needs = Needs(
        When::Always,
        &[
            "OFF_TASK_STRUCT_START_BOOTTIME",
            "OFF_TASK_STRUCT_GROUP_LEADER",
            "OFF_TASK_STRUCT_SIGNAL",
            "OFF_SIGNAL_STRUCT_OOM_SCORE_ADJ",
            "OFF_TASK_STRUCT_MM",
            "OFF_MM_STRUCT_TOTAL_VM",
        ],
    );
    const CAUSE: Needs =
        Needs(When::Always, &["OFF_OOM_CONTROL_MEMCG", "OFF_OOM_CONTROL_ORDER", "OFF_OOM_CONTROL_GFP_MASK"]);
    const CONTROL: Needs = Needs(When::Always, &["OFF_FUNCTION_ARG_0"]);
    const STORAGE: &[&str] = &["OOM_CAUSES"];
    const FUNCTION_NAME: &str = "out_of_memory";
    let victim = at_tracepoints(
        &[("memory_oom_kill_btf", "memory_oom_kill_raw", "mark_victim")],
        &[],
        &[VICTIM, Needs::ANCESTORS],
    );
    let [typed, raw] = victim.try_into().unwrap_or_else(|_| unreachable!("two rungs"));
    let with = |name, around: [ProgramPlan; 2], victim: &RungPlan, needs: &[Needs]| RungPlan {
        name,
        programs: around.into_iter().chain(victim.programs.iter().cloned()).collect(),
        needs: [&victim.needs[..], &[MEMCG, CAUSE], needs].concat(),
        storage: STORAGE,
    };
    let functions = [
        ProgramPlan::fentry("memory_oom_entry", FUNCTION_NAME),
        ProgramPlan::fexit("memory_oom_exit", FUNCTION_NAME),
    ];
    let breakpoints = [
        ProgramPlan::kprobe("memory_oom_kprobe", FUNCTION_NAME),
        ProgramPlan::kretprobe("memory_oom_kretprobe", FUNCTION_NAME),
    ];
    vec![with(FUNCTION, functions, &typed, &[]), with(KPROBE, breakpoints, &raw, &[CONTROL]), typed, raw]
}

/// The cgroup whose memory something is about.
const MEMCG: Needs =
    Needs(When::Always, &["OFF_MEM_CGROUP_CSS_CGROUP", "OFF_CGROUP_KN", "OFF_KERNFS_NODE_ID"]);

impl Yields<MemoryReclaim> for Memory {}
impl Yields<MemoryCompaction> for Memory {}
impl Yields<MemoryOomKill> for Memory {}
impl Yields<MemoryFaultMajor> for Memory {}
impl Yields<MemoryFaultMinor> for Memory {}

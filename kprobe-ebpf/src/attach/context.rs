//! How `sched.waking` learns in which context a wake-up happens.

use kprobe_core::abi::{PREEMPT_COUNT_MARKER, context_source};

use crate::{btf::Btf, probe::ProgramPlan};

/// The ways to tell the context of a wake-up, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeContextSource {
    /// The kernel's per-CPU preempt count: exact, and no cost but a load. Needs the variable in BTF and in kallsyms
    /// (`CONFIG_KALLSYMS_ALL`).
    PreemptCount { variable: u32, offset: u64 },
    /// Programs at the entry and the exit of interrupts count how deep the CPU is.
    Depths,
}

impl WakeContextSource {
    /// Those that this kernel may have, best first.
    ///
    /// # Errors
    /// Why it can have none.
    pub(crate) fn candidates(btf: &Btf) -> Result<Vec<Self>, &'static str> {
        // include/linux/sched.h: only with CONFIG_PREEMPT_RT.
        if btf.member_offset("task_struct", "softirq_disable_cnt").is_ok() {
            return Err(
                "a PREEMPT_RT kernel serves softirqs in threads, and its preempt count does not show them",
            );
        }
        // Until 6.1 and from 6.15 on it is a variable of its own, in between a member of `pcpu_hot`.
        let alone = btf.var_id("__preempt_count").map(|variable| (variable, 0));
        let hot = || {
            let variable = btf.var_id("pcpu_hot")?;
            let member = btf.member_offset("pcpu_hot", "preempt_count").ok()?;
            Some((variable, u64::from(member.byte_offset)))
        };
        let mut candidates = Vec::new();
        if let Some((variable, offset)) = alone.or_else(hot) {
            candidates.push(Self::PreemptCount { variable: variable.0, offset });
        }
        candidates.push(Self::Depths);
        Ok(candidates)
    }

    /// As the report has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PreemptCount { .. } => "the kernel's preempt count",
            Self::Depths => "counted at the entry and exit of interrupts",
        }
    }

    /// Frozen globals for it.
    pub(crate) fn globals(self) -> Vec<(&'static str, Vec<u8>)> {
        let (source, offset) = match self {
            Self::PreemptCount { offset, .. } => (context_source::PREEMPT_COUNT, offset),
            Self::Depths => (context_source::DEPTHS, u64::MAX),
        };
        vec![
            ("CONTEXT_SOURCE", source.to_le_bytes().to_vec()),
            ("OFF_PREEMPT_COUNT", offset.to_le_bytes().to_vec()),
        ]
    }

    /// The object with the marked instructions made to load the variable's address. aya relocates no kernel variables.
    pub(crate) fn patch(self, object: &[u8]) -> Vec<u8> {
        let mut object = object.to_vec();
        if let Self::PreemptCount { variable, .. } = self {
            for at in marked_instructions(&object) {
                // include/uapi/linux/bpf.h, BPF_PSEUDO_BTF_ID: the source register says that the first constant is the
                // number of a variable in the kernel's BTF; the second is that BTF's file, 0 for the kernel itself.
                const PSEUDO_BTF_ID: u8 = 3;
                object[at + 1] = object[at + 1] & 0x0f | PSEUDO_BTF_ID << 4;
                object[at + 4..at + 8].copy_from_slice(&variable.to_le_bytes());
                object[at + 12..at + 16].fill(0);
            }
        }
        object
    }

    /// Programs it needs beside those of the probe: exits before entries, so that no depth stays behind.
    pub(crate) fn programs(self) -> Vec<ProgramPlan> {
        match self {
            Self::PreemptCount { .. } => Vec::new(),
            Self::Depths => {
                let raw = ProgramPlan::raw;
                let mut programs = vec![raw("context_softirq_exit", "softirq_exit")];
                programs.extend(HARDIRQS.map(|(_, exit)| raw("context_hardirq_exit", exit)));
                programs.push(raw("context_softirq_enter", "softirq_entry"));
                programs.extend(HARDIRQS.map(|(entry, _)| raw("context_hardirq_enter", entry)));
                programs
            }
        }
    }
}

/// Entry and exit tracepoints of device interrupts and of the CPU's own (x86: `irq_vectors`).
#[cfg(target_arch = "x86_64")]
const HARDIRQS: [(&str, &str); 6] = [
    ("irq_handler_entry", "irq_handler_exit"),
    ("local_timer_entry", "local_timer_exit"),
    ("reschedule_entry", "reschedule_exit"),
    ("call_function_entry", "call_function_exit"),
    ("call_function_single_entry", "call_function_single_exit"),
    ("irq_work_entry", "irq_work_exit"),
];

/// Entry and exit tracepoints of interrupts.
#[cfg(not(target_arch = "x86_64"))]
const HARDIRQS: [(&str, &str); 2] = [("irq_handler_entry", "irq_handler_exit"), ("ipi_entry", "ipi_exit")];

/// Where in the object a 64-bit constant load (`ld_imm64`, two slots of 8 bytes) has the marker.
fn marked_instructions(object: &[u8]) -> Vec<usize> {
    const LD_IMM64: u8 = 0x18;
    let marker = PREEMPT_COUNT_MARKER.to_le_bytes();
    let is_marked = |at: usize| {
        let slots = &object[at..at + 16];
        slots[0] == LD_IMM64 && slots[8] == 0 && slots[4..8] == marker[..4] && slots[12..16] == marker[4..]
    };
    (0..object.len().saturating_sub(15)).step_by(8).filter(|at| is_marked(*at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::builder::BtfBuilder;

    fn kernel_with(field: &str) -> Btf {
        let mut builder = BtfBuilder::new();
        let int = builder.int("int", 4);
        builder.structure("task_struct", 4, &[(field, int, 0)]);
        Btf::parse(&builder.blob()).expect("sound BTF")
    }

    #[test]
    fn real_time_kernels_have_none() {
        assert_eq!(WakeContextSource::candidates(&kernel_with("prio")), Ok(vec![WakeContextSource::Depths]));
        assert!(WakeContextSource::candidates(&kernel_with("softirq_disable_cnt")).is_err());
    }

    #[test]
    fn the_marker_becomes_a_variable_of_the_kernel() {
        let mut object = vec![0xaa; 64];
        object[16..32]
            .copy_from_slice(&[0x18, 0x01, 0, 0, 0x43, 0x50, 0x65, 0x62, 0, 0, 0, 0, 0x6f, 0x72, 0x70, 0x6b]);
        let source = WakeContextSource::PreemptCount { variable: 0x0102_0304, offset: 0 };
        let patched = source.patch(&object);
        assert_eq!(patched[16..32], [0x18, 0x31, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(patched[..16], object[..16]);
        assert_eq!(patched[32..], object[32..]);
        assert_eq!(WakeContextSource::Depths.patch(&object), object);
    }
}

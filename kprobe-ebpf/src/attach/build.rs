//! Which build of the programs a kernel gets: both are in `object/`, made from the same sources.

use crate::host::KernelRelease;

/// A build of the programs in `programs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// For Linux 6.1 and later.
    Main,
    /// For Linux 5.10 to 6.0, with the feature `before-6.1`.
    Before6_1,
}

/// See `object/TOOLCHAIN` for what built them.
static MAIN: &[u8] = aya::include_bytes_aligned!("../../object/kprobe.o");
static BEFORE_6_1: &[u8] = aya::include_bytes_aligned!("../../object/kprobe-before-6.1.o");

impl Build {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 2] = [Self::Main, Self::Before6_1];

    /// For a kernel. Distributions put parts of later kernels into older ones, and what the older build asks for is still
    /// there.
    pub(crate) const fn of(release: &KernelRelease) -> Self {
        if release.at_least(6, 1) { Self::Main } else { Self::Before6_1 }
    }

    pub(crate) const fn object(self) -> &'static [u8] {
        match self {
            Self::Main => MAIN,
            Self::Before6_1 => BEFORE_6_1,
        }
    }

    /// Why programs at the entry or the return of a function (`fentry`, `fexit`) must not make records; `None` if they may.
    ///
    /// Linux 5.10 has preemption off while such a program runs (`migrate_disable` is that there). From 5.11 on only the CPU
    /// stays the same, and what this build does without atomic instructions has to be over before another program on the
    /// CPU goes on. The main build has the instructions.
    pub(crate) const fn refuses_functions(self, release: &KernelRelease) -> Option<&'static str> {
        match self {
            Self::Before6_1 if release.at_least(5, 11) => Some(PREEMPTED),
            Self::Before6_1 | Self::Main => None,
        }
    }

    /// Why the build has no such program.
    pub(crate) fn lacks(self, program: &str) -> String {
        let needs = match self {
            Self::Main => None,
            Self::Before6_1 => LACKS.iter().find(|(prefix, _)| program.starts_with(prefix)),
        };
        match needs {
            Some((_, needs)) => {
                format!("needs {needs}, which the programs for kernels before 6.1 do without")
            }
            None => format!("the object has no program {program}"),
        }
    }
}

const PREEMPTED: &str = "from Linux 5.11 on a program there can be preempted by another on its CPU, which the programs for kernels before 6.1 do not expect";

/// What those programs ask for that are not in the build for older kernels, by the beginning of their names.
const LACKS: [(&str, &str); 6] = [
    ("tcp_cookie_", "socket cookies in tracing programs (Linux 5.12)"),
    ("udp_cookie_", "socket cookies in tracing programs (Linux 5.12)"),
    ("unix_", "socket cookies in tracing programs (Linux 5.12), by which streams are known"),
    ("lock_contention_", "the tracepoint contention_begin (Linux 5.19)"),
    ("path_", "bpf_loop (Linux 5.17)"),
    ("wait_", "the registers of a thread's call (bpf_task_pt_regs, Linux 5.15)"),
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use object::{Object as _, ObjectSymbol as _, SymbolKind};

    use super::*;
    use crate::probe::every_plan;

    #[test]
    fn by_release() {
        let of = |text: &str| Build::of(&text.parse().unwrap());
        for text in ["6.1.0-40-cloud-amd64", "6.12.48", "7.2"] {
            assert_eq!(of(text), Build::Main);
        }
        for text in ["5.10.0-46-cloud-amd64", "5.14.0-503.el9.x86_64", "6.0.19"] {
            assert_eq!(of(text), Build::Before6_1);
        }
    }

    #[test]
    fn functions_by_release() {
        let refuses = |text: &str| {
            let release = text.parse().unwrap();
            Build::of(&release).refuses_functions(&release).is_some()
        };
        for text in ["5.10.0-46-cloud-amd64", "6.1.0-40-cloud-amd64", "7.2"] {
            assert!(!refuses(text), "{text}");
        }
        for text in ["5.11.0", "5.14.0-503.el9.x86_64", "6.0.19"] {
            assert!(refuses(text), "{text}");
        }
    }

    fn programs(build: Build) -> BTreeSet<String> {
        let object = object::File::parse(build.object()).unwrap();
        let functions = object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        functions.map(|symbol| symbol.name().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_program_is_in_a_build_or_it_is_said_why_not() {
        let (main, older) = (programs(Build::Main), programs(Build::Before6_1));
        let plans = every_plan();
        let rungs = plans.iter().flat_map(|plan| &plan.events).flat_map(|event| &event.rungs);
        let mut left_out = 0;
        for plan in rungs.flat_map(|rung| &rung.programs) {
            let program = plan.program.as_ref();
            let is_in_main = main.contains(program);
            assert!(is_in_main || plan.is_before_6_1, "{program}");
            if plan.is_before_6_1 {
                assert!(!is_in_main && older.contains(program), "{program}");
            } else if !older.contains(program) {
                assert!(Build::Before6_1.lacks(program).starts_with("needs "), "{program}");
                left_out += 1;
            }
        }
        assert!(left_out > 30, "{left_out}");
        for kept in ["process_fork_btf", "sched_switch_raw", "syscall_enter_raw_hash", "irq_soft_exit_btf"] {
            assert!(older.contains(kept), "{kept}");
        }
        assert_eq!(Build::Main.lacks("nonesuch"), "the object has no program nonesuch");
    }

    /// The verifier of those kernels refuses them, also where no program gets to.
    #[test]
    fn the_older_build_has_no_instruction_that_older_kernels_do_not_know() {
        use object::ObjectSection as _;
        let mut count = 0;
        for build in Build::ALL {
            let object = object::File::parse(build.object()).unwrap();
            let code = object.sections().filter(|section| section.kind() == object::SectionKind::Text);
            let mut other_atomics = 0;
            for section in code {
                let data = section.data().unwrap();
                let mut at = 0;
                while at + 8 <= data.len() {
                    // include/uapi/linux/bpf.h: an atomic instruction of 32 or 64 bits; only the addition has no immediate.
                    let is_atomic = matches!(data[at], 0xc3 | 0xdb);
                    other_atomics += usize::from(is_atomic && data[at + 4..at + 8] != [0; 4]);
                    count += 1;
                    // A constant of 64 bits takes two.
                    at += if data[at] == 0x18 { 16 } else { 8 };
                }
            }
            assert_eq!(other_atomics == 0, build == Build::Before6_1, "{build:?}: {other_atomics}");
        }
        assert!(count > 10_000, "{count}");
    }
}

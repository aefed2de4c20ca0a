use std::collections::BTreeMap;

use crate::{btf::Btf, probe::Target};

const TASK: &str = "struct task_struct *";
const REGS: &str = "struct pt_regs *";
/// Any type that is not a pointer: kernels write `int` and `long` in more than one way.
const NUMBER: &str = "a number";

/// What the programs take from each tracepoint, in order. What comes behind is nothing to them.
const ARGUMENTS: &[(&str, &[&str])] = &[
    ("sched_wakeup_new", &[TASK]),
    ("sched_process_exec", &[TASK, NUMBER]),
    ("sched_process_exit", &[TASK]),
    ("task_rename", &[TASK, "const char *"]),
    ("sys_enter", &[REGS, NUMBER]),
    ("sys_exit", &[REGS, NUMBER]),
    // Before 5.18 the state was not there, and in some kernels of that time it stood in front of the tasks.
    ("sched_switch", &[NUMBER, TASK, TASK, NUMBER]),
    ("sched_waking", &[TASK]),
    ("sched_migrate_task", &[TASK, NUMBER]),
];

/// Whether the tracepoints of the running kernel pass what the programs take from them.
///
/// Programs take arguments by their position, and at a raw tracepoint nothing checks what is there.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// What is wrong with a tracepoint.
    other: BTreeMap<&'static str, String>,
    /// `sched_process_exit` says itself whether the process ends (Linux 6.16).
    pub(crate) has_group_dead: bool,
}

impl Arguments {
    pub(crate) fn find(btf: &Btf) -> Self {
        let mut other = BTreeMap::new();
        for (tracepoint, expected) in ARGUMENTS {
            // That it is absent the kernel says when it is attached to.
            let Some(found) = types(btf, tracepoint) else { continue };
            let fits = |(found, expected): (&String, &&str)| is_of(found, expected);
            if found.len() < expected.len() || !found.iter().zip(*expected).all(fits) {
                let (found, expected) = (found.join(", "), expected.join(", "));
                other.insert(*tracepoint, format!("{tracepoint} passes ({found}), expected ({expected})"));
            }
        }
        let exit = types(btf, "sched_process_exit").unwrap_or_default();
        Self { other, has_group_dead: exit.get(1).is_some_and(|found| is_of(found, NUMBER)) }
    }

    /// Why a program cannot be attached there, though there is such a tracepoint. Trace events have fields with names.
    pub(crate) fn refusal(&self, target: &Target) -> Option<&str> {
        match target {
            Target::BtfTracepoint(tracepoint) | Target::RawTracepoint(tracepoint) => {
                self.other.get(tracepoint.as_ref()).map(String::as_str)
            }
            Target::TraceEvent { .. } => None,
        }
    }
}

/// Types of a tracepoint's arguments, without the pointer in front that is the kernel's own.
fn types(btf: &Btf, tracepoint: &str) -> Option<Vec<String>> {
    let params = btf.func_proto_params(&format!("btf_trace_{tracepoint}")).ok()?;
    Some(params.into_iter().skip(1).map(|param| param.type_name).collect())
}

fn is_of(found: &str, expected: &str) -> bool {
    if expected == NUMBER { !found.contains('*') } else { found == expected }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        ProbeFamily as _, Process, Sched, Syscalls,
        btf::{TypeId, builder::BtfBuilder},
    };

    /// `P` a task, `C` a constant string, `n` a number.
    fn kernel(tracepoints: &[(&str, &str)]) -> Btf {
        let mut b = BtfBuilder::new();
        let number = b.int("unsigned int", 4);
        let task = b.structure("task_struct", 4, &[("pid", number, 0)]);
        let (own, task) = (b.ptr(TypeId::VOID), b.ptr(task));
        let text = b.int("char", 1);
        let text = b.constant(text);
        let text = b.ptr(text);
        for (tracepoint, arguments) in tracepoints {
            let of = |letter| match letter {
                'P' => task,
                'C' => text,
                _ => number,
            };
            let params: Vec<_> =
                [own].into_iter().chain(arguments.chars().map(of)).map(|of| ("", of)).collect();
            let function = b.func_proto(TypeId::VOID, &params);
            let function = b.ptr(function);
            b.typedef(&format!("btf_trace_{tracepoint}"), function);
        }
        Btf::parse(&b.blob()).unwrap()
    }

    fn refusal(kernel: &Btf, tracepoint: &'static str) -> Option<String> {
        let target = Target::RawTracepoint(tracepoint.into());
        Arguments::find(kernel).refusal(&target).map(str::to_owned)
    }

    #[test]
    fn the_order_of_arguments_is_looked_at() {
        assert_eq!(refusal(&kernel(&[("sched_switch", "nPPn")]), "sched_switch"), None);
        assert_eq!(refusal(&kernel(&[("sched_switch", "nPPnn")]), "sched_switch"), None);
        let expected = "expected (a number, struct task_struct *, struct task_struct *, a number)";
        let early = refusal(&kernel(&[("sched_switch", "nnPP")]), "sched_switch").unwrap();
        let passes = "(unsigned int, unsigned int, struct task_struct *, struct task_struct *)";
        assert_eq!(early, format!("sched_switch passes {passes}, {expected}"));
        let before = refusal(&kernel(&[("sched_switch", "nPP")]), "sched_switch").unwrap();
        let passes = "(unsigned int, struct task_struct *, struct task_struct *)";
        assert_eq!(before, format!("sched_switch passes {passes}, {expected}"));
        // Others are not concerned, and a tracepoint that is not there is refused elsewhere.
        assert_eq!(refusal(&kernel(&[("sched_switch", "nnPP"), ("task_rename", "PC")]), "task_rename"), None);
        assert!(refusal(&kernel(&[("task_rename", "PP")]), "task_rename").is_some());
        assert_eq!(refusal(&kernel(&[]), "sched_switch"), None);
        let event = Target::TraceEvent { category: "sched", name: "sched_switch" };
        assert_eq!(Arguments::find(&kernel(&[("sched_switch", "nnPP")])).refusal(&event), None);
    }

    #[test]
    fn who_ends_the_process() {
        let has = |arguments| Arguments::find(&kernel(&[("sched_process_exit", arguments)])).has_group_dead;
        assert!(has("Pn") && !has("P") && !has("PP"));
        assert!(!Arguments::find(&kernel(&[])).has_group_dead);
    }

    #[test]
    fn every_tracepoint_of_our_probes_is_listed() {
        let plans = [Process::default().plan().0, Sched::default().plan().0, Syscalls::all().plan().0];
        let rungs = plans.iter().flat_map(|plan| &plan.events).flat_map(|event| &event.rungs);
        let mut count = 0;
        for program in rungs.flat_map(|rung| &rung.programs) {
            if let Target::BtfTracepoint(tracepoint) | Target::RawTracepoint(tracepoint) = &program.target {
                assert!(ARGUMENTS.iter().any(|(listed, _)| listed == tracepoint), "{tracepoint}");
                count += 1;
            }
        }
        assert!(count > 15, "{count}");
    }
}

use std::collections::{BTreeMap, BTreeSet};

use super::Build;
use crate::{btf::Btf, probe::Target};

const TASK: &str = "struct task_struct *";
const CRED: &str = "const struct cred *";
const SOCK: &str = "struct sock *";
const CONST_SOCK: &str = "const struct sock *";
const USER_NS: &str = "struct user_namespace *";
const VMA: &str = "struct vm_area_struct *";
const BIO: &str = "struct bio *";
const REQUEST: &str = "struct request *";
const QUEUE: &str = "struct request_queue *";
const MEMCG: &str = "struct mem_cgroup *";
const COMPACTION: &str = "struct compact_control *";
const REGS: &str = "struct pt_regs *";
const FILE: &str = "struct file *";
const IOCB: &str = "struct kiocb *";
const ITER: &str = "struct iov_iter *";
const PACKET: &str = "struct sk_buff *";
const SOCKET: &str = "struct socket *";
const MESSAGE: &str = "struct msghdr *";
const OFFSET: &str = "loff_t *";
const FAIR_QUEUE: &str = "struct cfs_rq *";
/// Any type that is not a pointer: kernels write `int` and `long` in more than one way.
const NUMBER: &str = "a number";
/// To what no program looks at.
const POINTER: &str = "a pointer";

/// What the programs take from each tracepoint, in order. What comes behind is nothing to them. One that is there more than
/// once is right in any of these forms.
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
    ("block_bio_queue", &[BIO]),
    ("block_split", &[BIO, NUMBER]),
    ("block_bio_backmerge", &[BIO]),
    ("block_bio_frontmerge", &[BIO]),
    ("block_rq_merge", &[REQUEST]),
    ("block_rq_issue", &[REQUEST]),
    ("block_rq_requeue", &[REQUEST]),
    ("block_rq_complete", &[REQUEST, NUMBER, NUMBER]),
    ("block_bio_complete", &[QUEUE, BIO]),
    ("contention_begin", &["void *", NUMBER]),
    ("contention_end", &["void *", NUMBER]),
    ("irq_handler_entry", &[NUMBER]),
    ("irq_handler_exit", &[NUMBER]),
    ("local_timer_entry", &[NUMBER]),
    ("local_timer_exit", &[NUMBER]),
    ("reschedule_entry", &[NUMBER]),
    ("reschedule_exit", &[NUMBER]),
    ("call_function_entry", &[NUMBER]),
    ("call_function_exit", &[NUMBER]),
    ("call_function_single_entry", &[NUMBER]),
    ("call_function_single_exit", &[NUMBER]),
    ("irq_work_entry", &[NUMBER]),
    ("irq_work_exit", &[NUMBER]),
    ("softirq_entry", &[NUMBER]),
    ("softirq_exit", &[NUMBER]),
    ("cap_capable", &[CRED, USER_NS, "const struct user_namespace *", NUMBER, NUMBER]),
    // Two numbers that changed places in 7.0, when the cgroup came.
    ("mm_vmscan_direct_reclaim_begin", &["int", "gfp_t"]),
    ("mm_vmscan_direct_reclaim_begin", &["gfp_t", "int", MEMCG]),
    ("mm_vmscan_memcg_reclaim_begin", &["int", "gfp_t"]),
    ("mm_vmscan_memcg_reclaim_begin", &["gfp_t", "int", MEMCG]),
    ("mm_vmscan_direct_reclaim_end", &[NUMBER]),
    ("mm_vmscan_memcg_reclaim_end", &[NUMBER]),
    ("mm_compaction_begin", &[COMPACTION]),
    ("mm_compaction_end", &[COMPACTION, NUMBER, NUMBER, NUMBER, NUMBER]),
    // Stable kernels have it since 6.1, others since 6.8; before, it passed a number.
    ("mark_victim", &[TASK]),
    ("page_fault_user", &[NUMBER, REGS, NUMBER]),
    ("page_fault_kernel", &[NUMBER, REGS, NUMBER]),
    ("inet_sock_set_state", &[CONST_SOCK, NUMBER, NUMBER]),
    ("tcp_destroy_sock", &[SOCK]),
    ("tcp_rcv_space_adjust", &[SOCK]),
    ("tcp_retransmit_skb", &[CONST_SOCK, "const struct sk_buff *"]),
    ("tcp_sendmsg_locked", &[CONST_SOCK, "const struct msghdr *"]),
    ("sock_send_length", &[SOCK, NUMBER]),
    ("sock_recv_length", &[SOCK, NUMBER, NUMBER]),
    ("net_dev_queue", &[PACKET]),
    ("hrtimer_expire_entry", &["struct hrtimer *"]),
    ("hrtimer_expire_exit", &["struct hrtimer *"]),
    ("timer_expire_entry", &["struct timer_list *"]),
    ("timer_expire_exit", &["struct timer_list *"]),
    // Since 6.3.
    ("sk_data_ready", &[CONST_SOCK]),
    ("tcp_probe", &[SOCK]),
];

/// What the programs for kernels before 6.1 take from a tracepoint, where it is not the same.
const ARGUMENTS_BEFORE_6_1: &[(&str, &[&str])] = &[
    ("sched_switch", &[NUMBER, TASK, TASK]),
    ("block_bio_queue", &[QUEUE, BIO]),
    ("block_split", &[QUEUE, BIO, NUMBER]),
    ("block_bio_backmerge", &[QUEUE, REQUEST, BIO]),
    ("block_bio_frontmerge", &[QUEUE, REQUEST, BIO]),
    ("block_rq_complete", &[REQUEST, "int", NUMBER]),
    ("mm_compaction_begin", &[NUMBER, NUMBER, NUMBER, NUMBER, NUMBER]),
    ("mm_compaction_end", &[NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER]),
];

/// What a function takes, and returns: name, parameters, result.
type Function = (&'static str, &'static [&'static str], &'static str);

/// What the programs take from each function of the kernel that they are attached to. What comes behind is nothing to
/// them at the entry; those at the return find the result behind all arguments, so there are no others. One that is there more
/// than once is right in any of these forms: programs are at its entry only.
const FUNCTIONS: &[Function] = &[
    ("cap_capable", &[CRED, USER_NS, NUMBER, NUMBER], NUMBER),
    ("out_of_memory", &["struct oom_control *"], NUMBER),
    ("handle_mm_fault", &[VMA, NUMBER, NUMBER, REGS], NUMBER),
    ("anon_pipe_write", &[IOCB, ITER], NUMBER),
    ("anon_pipe_read", &[IOCB, ITER], NUMBER),
    // Their names before 6.15.
    ("pipe_write", &[IOCB, ITER], NUMBER),
    ("pipe_read", &[IOCB, ITER], NUMBER),
    ("do_splice", &[FILE, OFFSET, FILE, OFFSET, NUMBER, NUMBER], NUMBER),
    ("do_tee", &[FILE, FILE, NUMBER, NUMBER], NUMBER),
    ("do_sendfile", &[NUMBER, NUMBER, OFFSET, NUMBER, NUMBER], NUMBER),
    // An address, of a type that has another name since 7.0.
    ("unix_stream_connect", &[SOCKET, POINTER, NUMBER, NUMBER], NUMBER),
    ("unix_socketpair", &[SOCKET, SOCKET], NUMBER),
    ("unix_stream_sendmsg", &[SOCKET, MESSAGE, NUMBER], NUMBER),
    ("unix_stream_recvmsg", &[SOCKET, MESSAGE, NUMBER, NUMBER], NUMBER),
    // Until 6.4.
    ("unix_stream_sendpage", &[SOCKET, "struct page *", NUMBER, NUMBER, NUMBER], NUMBER),
    ("unix_stream_splice_read", &[SOCKET, OFFSET, "struct pipe_inode_info *", NUMBER, NUMBER], NUMBER),
    ("__x64_sys_vmsplice", &["const struct pt_regs *"], NUMBER),
    ("__arm64_sys_vmsplice", &["const struct pt_regs *"], NUMBER),
    ("tcp_sendmsg_locked", &[SOCK, "struct msghdr *", NUMBER], NUMBER),
    ("release_sock", &[SOCK], "void"),
    ("security_sock_graft", &[SOCK, "struct socket *"], "void"),
    ("udp_sendmsg", &[SOCK, MESSAGE, NUMBER], NUMBER),
    ("udpv6_sendmsg", &[SOCK, MESSAGE, NUMBER], NUMBER),
    // In 6.12 still with the length of an address.
    ("udp_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER, "int *"], NUMBER),
    ("udp_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER], NUMBER),
    ("udpv6_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER, "int *"], NUMBER),
    ("udpv6_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER], NUMBER),
    ("skb_consume_udp", &[SOCK, PACKET, NUMBER], "void"),
    ("ip_send_skb", &["struct net *", PACKET], NUMBER),
    ("ip6_send_skb", &[PACKET], NUMBER),
    ("sock_def_readable", &[SOCK], "void"),
    ("sk_stream_write_space", &[SOCK], "void"),
    ("sock_def_write_space", &[SOCK], "void"),
    ("throttle_cfs_rq", &[FAIR_QUEUE], NUMBER),
    ("unthrottle_cfs_rq", &[FAIR_QUEUE], "void"),
];

/// The same of the programs for kernels before 6.1, where it is not the same.
const FUNCTIONS_BEFORE_6_1: &[Function] = &[
    ("compact_zone", &[COMPACTION, "struct capture_control *"], NUMBER),
    // Until 5.18 whether to block has a number of its own.
    ("udp_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER, NUMBER, "int *"], NUMBER),
    ("udpv6_recvmsg", &[SOCK, MESSAGE, NUMBER, NUMBER, NUMBER, "int *"], NUMBER),
];

/// Whether the tracepoints of the running kernel pass what the programs take from them.
///
/// Programs take arguments by their position, and at a raw tracepoint nothing checks what is there.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// What is wrong with a tracepoint.
    other: BTreeMap<&'static str, String>,
    /// What is wrong with a function.
    other_functions: BTreeMap<&'static str, String>,
    /// Functions that are there.
    functions: BTreeSet<&'static str>,
    /// `sched_process_exit` says itself whether the process ends (Linux 6.16).
    pub(crate) has_group_dead: bool,
    /// The tracepoints for reclaim pass the cgroup (Linux 7.0).
    pub(crate) reclaim_has_memcg: bool,
}

impl Arguments {
    pub(crate) fn find(btf: &Btf, build: Build) -> Self {
        let (mut other, mut right) = (BTreeMap::new(), Vec::new());
        let others = if build == Build::Before6_1 { ARGUMENTS_BEFORE_6_1 } else { &[] };
        let is_other = |name: &str| others.iter().any(|(other, _)| *other == name);
        for (tracepoint, expected) in ARGUMENTS.iter().filter(|(name, _)| !is_other(name)).chain(others) {
            // That it is absent the kernel says when it is attached to.
            let Some(found) = types(btf, tracepoint) else { continue };
            let fits = |(found, expected): (&String, &&str)| is_of(found, expected);
            if found.len() >= expected.len() && found.iter().zip(*expected).all(fits) {
                right.push(*tracepoint);
            } else {
                let (found, expected) = (found.join(", "), expected.join(", "));
                other.insert(*tracepoint, format!("{tracepoint} passes ({found}), expected ({expected})"));
            }
        }
        other.retain(|tracepoint, _| !right.contains(tracepoint));
        let mut other_functions = BTreeMap::new();
        let (mut functions, mut right) = (BTreeSet::new(), Vec::new());
        let others = if build == Build::Before6_1 { FUNCTIONS_BEFORE_6_1 } else { &[] };
        let is_other = |name: &str| others.iter().any(|(other, ..)| *other == name);
        for (function, params, returns) in FUNCTIONS.iter().filter(|(name, ..)| !is_other(name)).chain(others)
        {
            // That it is absent is said where it is attached to, too.
            let Ok(found) = btf.function(function) else { continue };
            functions.insert(*function);
            let takes: Vec<_> = found.params.into_iter().map(|param| param.type_name).collect();
            let fits = takes.len() == params.len() && takes.iter().zip(*params).all(|(a, b)| is_of(a, b));
            if fits && is_of(&found.returns, returns) {
                right.push(*function);
            } else {
                let (takes, params) = (takes.join(", "), params.join(", "));
                let found = found.returns;
                other_functions.insert(
                    *function,
                    format!("{function} is {found} ({takes}), expected {returns} ({params})"),
                );
            }
        }
        other_functions.retain(|function, _| !right.contains(function));
        let has = |tracepoint, at: usize, expected| {
            types(btf, tracepoint)
                .is_some_and(|types| types.get(at).is_some_and(|found| is_of(found, expected)))
        };
        Self {
            other,
            other_functions,
            functions,
            has_group_dead: has("sched_process_exit", 1, NUMBER),
            reclaim_has_memcg: has("mm_vmscan_memcg_reclaim_begin", 2, MEMCG),
        }
    }

    /// Whether the kernel has this function, of those that programs are attached to.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Why a program cannot be attached there, though there is such a tracepoint. Trace events have fields with names, software
    /// events none.
    pub(crate) fn refusal(&self, target: &Target) -> Option<&str> {
        let other = match target {
            Target::TraceEvent { .. } | Target::SoftwareEvent(_) | Target::Loader => return None,
            target if target.is_function() => &self.other_functions,
            _ => &self.other,
        };
        other.get(target.name()).map(String::as_str)
    }
}

/// Types of a tracepoint's arguments, without the pointer in front that is the kernel's own.
fn types(btf: &Btf, tracepoint: &str) -> Option<Vec<String>> {
    let params = btf.func_proto_params(&format!("btf_trace_{tracepoint}")).ok()?;
    Some(params.into_iter().skip(1).map(|param| param.type_name).collect())
}

fn is_of(found: &str, expected: &str) -> bool {
    match expected {
        NUMBER => !found.contains('*'),
        POINTER => found.contains('*'),
        _ => found == expected,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        btf::{TypeId, builder::BtfBuilder},
        probe::every_plan,
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
        Arguments::find(kernel, Build::Main).refusal(&target).map(str::to_owned)
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
        // The programs for older kernels do without it.
        let older = |arguments| {
            let target = Target::BtfTracepoint("sched_switch".into());
            let kernel = kernel(&[("sched_switch", arguments)]);
            Arguments::find(&kernel, Build::Before6_1).refusal(&target).is_none()
        };
        assert!(older("nPP") && older("nPPn") && !older("nnPP"));
        // And takes nothing as a later kernel passes it, where that is not the same.
        let compaction = |arguments, build| {
            let target = Target::RawTracepoint("mm_compaction_begin".into());
            let kernel = kernel(&[("mm_compaction_begin", arguments)]);
            Arguments::find(&kernel, build).refusal(&target).map(str::to_owned)
        };
        assert_eq!(compaction("nnnnn", Build::Before6_1), None);
        assert!(compaction("Pnnn", Build::Before6_1).is_some() && compaction("nnnnn", Build::Main).is_some());
        // Others are not concerned, and a tracepoint that is not there is refused elsewhere.
        assert_eq!(refusal(&kernel(&[("sched_switch", "nnPP"), ("task_rename", "PC")]), "task_rename"), None);
        assert!(refusal(&kernel(&[("task_rename", "PP")]), "task_rename").is_some());
        assert_eq!(refusal(&kernel(&[]), "sched_switch"), None);
        let event = Target::TraceEvent { category: "sched", name: "sched_switch" };
        assert_eq!(Arguments::find(&kernel(&[("sched_switch", "nnPP")]), Build::Main).refusal(&event), None);
    }

    #[test]
    fn what_functions_take_and_return_is_looked_at() {
        let refusal = |takes: &str, returns_pointer: bool| {
            let mut b = BtfBuilder::new();
            let number = b.int("int", 4);
            let cred = b.structure("cred", 4, &[("uid", number, 0)]);
            let user_ns = b.structure("user_namespace", 4, &[("level", number, 0)]);
            let cred = b.constant(cred);
            let (cred, user_ns) = (b.ptr(cred), b.ptr(user_ns));
            let of = |letter| match letter {
                'C' => cred,
                'U' => user_ns,
                _ => number,
            };
            let params: Vec<_> = takes.chars().map(|letter| ("", of(letter))).collect();
            let prototype = b.func_proto(if returns_pointer { cred } else { number }, &params);
            b.func("cap_capable", prototype);
            let arguments = Arguments::find(&Btf::parse(&b.blob()).unwrap(), Build::Main);
            // A tracepoint of the same name is another matter.
            assert_eq!(arguments.refusal(&Target::RawTracepoint("cap_capable".into())), None);
            arguments.refusal(&Target::FunctionExit("cap_capable".into())).map(str::to_owned)
        };
        assert_eq!(refusal("CUnn", false), None);
        let expected = "expected a number (const struct cred *, struct user_namespace *, a number, a number)";
        let found = "int (const struct cred *, struct user_namespace *, int)";
        assert_eq!(refusal("CUn", false).unwrap(), format!("cap_capable is {found}, {expected}"));
        // The result stands behind all arguments.
        assert!(refusal("CUnnn", false).is_some() && refusal("CUnn", true).is_some());
    }

    #[test]
    fn who_ends_the_process() {
        let has = |arguments| {
            Arguments::find(&kernel(&[("sched_process_exit", arguments)]), Build::Main).has_group_dead
        };
        assert!(has("Pn") && !has("P") && !has("PP"));
        assert!(!Arguments::find(&kernel(&[]), Build::Main).has_group_dead);
    }

    #[test]
    fn every_tracepoint_and_function_of_our_probes_is_listed() {
        let plans = every_plan();
        let rungs = plans.iter().flat_map(|plan| &plan.events).flat_map(|event| &event.rungs);
        let mut count = 0;
        for program in rungs.flat_map(|rung| &rung.programs) {
            for name in [program.target.name()].into_iter().chain(program.or) {
                let is_listed = match &program.target {
                    Target::TraceEvent { .. } | Target::SoftwareEvent(_) | Target::Loader => continue,
                    target if target.is_function() => {
                        let all = || FUNCTIONS.iter().chain(FUNCTIONS_BEFORE_6_1);
                        all().any(|(listed, ..)| *listed == name)
                    }
                    _ => ARGUMENTS.iter().any(|(listed, _)| *listed == name),
                };
                assert!(is_listed, "{name}");
            }
            count += 1;
        }
        assert!(count > 15, "{count}");
    }
}

//! Workloads of this target alone.

/// Runs one of them.
pub fn run(name: &str, args: &[u64]) {
    match name {
        "record-with-two-capabilities" => super::privilege::record(),
        "attach-within-limits" => super::older::attach_within_limits(),
        "attach-as-nobody" => super::privilege::attach_as_nobody(),
        "record-until-killed" => super::end::record(),
        "same-pids" => super::changes::same_pids(args[0]),
        "secrets" => super::secrets::run(args[0]),
        "secrets-of-exec" => {}
        _ => panic!("no workload {name}"),
    }
}

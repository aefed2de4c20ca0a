//! Workloads of this target alone.

/// Runs one of them.
pub fn run(name: &str, args: &[u64]) {
    match name {
        "attach-without" => super::errors::attach_without(args[0]),
        _ => panic!("no workload {name}"),
    }
}

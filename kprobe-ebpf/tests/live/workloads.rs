//! Workloads of this target alone.

/// Runs one of them.
pub fn run(name: &str, args: &[u64]) {
    match name {
        "attach-without" => super::errors::attach_without(args[0]),
        "attach-in-pid-namespace" => super::errors::attach_in_pid_namespace(),
        "statistics-as-nobody" => super::usage::statistics_as_nobody(),
        _ => panic!("no workload {name}"),
    }
}

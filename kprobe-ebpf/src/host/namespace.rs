use std::os::unix::fs::MetadataExt;

use super::HostError;

/// Inode numbers that the kernel has always given to its first namespaces (`include/linux/proc_ns.h`).
const PID_INIT: u64 = 0xefff_fffc;
const USER_INIT: u64 = 0xefff_fffd;

/// Process ids of this process are those that kernel programs see. In a container they are not, unless it was started with the host's
/// (`--pid=host`, `hostPID: true`).
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn in_initial_pid_namespace() -> Result<bool, HostError> {
    is("/proc/self/ns/pid", PID_INIT)
}

/// Children of this thread will have the process ids that kernel programs see: not after `unshare(CLONE_NEWPID)`.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn children_in_initial_pid_namespace() -> Result<bool, HostError> {
    match is("/proc/thread-self/ns/pid_for_children", PID_INIT) {
        // The link of a new namespace leads nowhere until it has a process.
        Err(HostError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            in_initial_pid_namespace().map(|_| false)
        }
        answer => answer,
    }
}

/// Capabilities of this process are worth something outside its user namespace.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn in_initial_user_namespace() -> Result<bool, HostError> {
    is("/proc/self/ns/user", USER_INIT)
}

fn is(path: &str, inode: u64) -> Result<bool, HostError> {
    let wrap = |source| HostError::Read { path: path.into(), source };
    std::fs::metadata(path).map(|found| found.ino() == inode).map_err(wrap)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_answer_is_that_of_the_link() {
        let target = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let is_initial = target.as_os_str() == "pid:[4026531836]";
        assert_eq!(in_initial_pid_namespace().unwrap(), is_initial);
        let target = std::fs::read_link("/proc/self/ns/user").unwrap();
        assert_eq!(in_initial_user_namespace().unwrap(), target.as_os_str() == "user:[4026531837]");
    }
}

//! How each system call is recorded: which argument is its descriptor, which the length it asks for.

use std::str::FromStr;

use kprobe_core::abi::{SYSCALL_TABLE, SyscallShape};
use syscalls::Sysno;

const P: SyscallShape = SyscallShape::PLAIN;
/// Most calls on a descriptor have it first.
const FD: SyscallShape = P.with_fd(0);

/// The shapes of this architecture's system calls, by number. Calls that are not in the table below are plain.
#[must_use]
pub fn shapes() -> [SyscallShape; SYSCALL_TABLE] {
    let mut shapes = [P; SYSCALL_TABLE];
    for (name, shape) in TABLE {
        let number = Sysno::from_str(name).ok().and_then(|call| usize::try_from(call.id()).ok());
        if let Some(slot) = number.and_then(|number| shapes.get_mut(number)) {
            *slot = *shape;
        }
    }
    shapes
}

/// By name, of all architectures.
///
/// - A descriptor is a file's, a directory's (which may be `AT_FDCWD`, -100), a socket's, a process's, a message
///   queue's; with several, the first, which for copying calls other than `sendfile` is where bytes come from.
/// - A length is in bytes of data, of a buffer for data, or of a range of a file or of memory. The size of a struct is
///   none, nor is a number of elements (`readv`, `poll`, `recvmmsg`).
const TABLE: &[(&str, SyscallShape)] = &[
    ("accept", FD),
    ("accept4", FD),
    ("add_key", P.with_requested(3)),
    ("bind", FD),
    ("cachestat", FD),
    ("clone", P.returns_twice()),
    ("clone3", P.returns_twice()),
    ("close", FD),
    ("close_range", FD),
    ("connect", FD),
    ("copy_file_range", FD.with_requested(4)),
    ("dup", FD),
    ("dup2", FD),
    ("dup3", FD),
    ("epoll_ctl", FD),
    ("epoll_pwait", FD),
    ("epoll_pwait2", FD),
    ("epoll_wait", FD),
    ("execveat", FD),
    ("exit", P.no_return()),
    ("exit_group", P.no_return()),
    ("faccessat", FD),
    ("faccessat2", FD),
    ("fadvise64", FD.with_requested(2)),
    ("fallocate", FD.with_requested(3)),
    ("fanotify_mark", FD),
    ("fchdir", FD),
    ("fchmod", FD),
    ("fchmodat", FD),
    ("fchmodat2", FD),
    ("fchown", FD),
    ("fchownat", FD),
    ("fcntl", FD),
    ("fdatasync", FD),
    ("fgetxattr", FD.with_requested(3)),
    ("file_getattr", FD),
    ("file_setattr", FD),
    ("finit_module", FD),
    ("flistxattr", FD.with_requested(2)),
    ("flock", FD),
    ("fork", P.returns_twice()),
    ("fremovexattr", FD),
    ("fsconfig", FD),
    ("fsetxattr", FD.with_requested(3)),
    ("fsmount", FD),
    ("fspick", FD),
    ("fstat", FD),
    ("fstatat", FD),
    ("fstatfs", FD),
    ("fsync", FD),
    ("ftruncate", FD.with_requested(1)),
    ("futimesat", FD),
    ("getcwd", P.with_requested(1)),
    ("getdents", FD.with_requested(2)),
    ("getdents64", FD.with_requested(2)),
    ("getpeername", FD),
    ("getrandom", P.with_requested(1)),
    ("getsockname", FD),
    ("getsockopt", FD),
    ("getxattr", P.with_requested(3)),
    ("getxattrat", FD),
    ("init_module", P.with_requested(1)),
    ("inotify_add_watch", FD),
    ("inotify_rm_watch", FD),
    ("io_uring_enter", FD),
    ("io_uring_register", FD),
    ("ioctl", FD),
    ("kexec_file_load", FD),
    ("landlock_add_rule", FD),
    ("landlock_restrict_self", FD),
    ("lgetxattr", P.with_requested(3)),
    ("linkat", FD),
    ("listen", FD),
    ("listxattr", P.with_requested(2)),
    ("listxattrat", FD.with_requested(4)),
    ("llistxattr", P.with_requested(2)),
    ("lookup_dcookie", P.with_requested(2)),
    ("lseek", FD),
    ("lsetxattr", P.with_requested(3)),
    ("madvise", P.with_requested(1)),
    ("map_shadow_stack", P.with_requested(1)),
    ("mbind", P.with_requested(1)),
    ("mincore", P.with_requested(1)),
    ("mkdirat", FD),
    ("mknodat", FD),
    ("mlock", P.with_requested(1)),
    ("mlock2", P.with_requested(1)),
    ("mmap", P.with_fd(4).with_requested(1)),
    ("modify_ldt", P.with_requested(2)),
    ("mount_setattr", FD),
    ("move_mount", FD),
    ("mprotect", P.with_requested(1)),
    ("mq_getsetattr", FD),
    ("mq_notify", FD),
    ("mq_timedreceive", FD.with_requested(2)),
    ("mq_timedsend", FD.with_requested(2)),
    ("mremap", P.with_requested(2)),
    ("mseal", P.with_requested(1)),
    ("msgrcv", P.with_requested(2)),
    ("msgsnd", P.with_requested(2)),
    ("msync", P.with_requested(1)),
    ("munlock", P.with_requested(1)),
    ("munmap", P.with_requested(1)),
    ("name_to_handle_at", FD),
    ("newfstatat", FD),
    ("open_by_handle_at", FD),
    ("open_tree", FD),
    ("open_tree_attr", FD),
    ("openat", FD),
    ("openat2", FD),
    ("perf_event_open", P.with_fd(3)),
    ("pidfd_getfd", FD),
    ("pidfd_send_signal", FD),
    ("pkey_mprotect", P.with_requested(1)),
    ("pread64", FD.with_requested(2)),
    ("preadv", FD),
    ("preadv2", FD),
    ("process_madvise", FD),
    ("process_mrelease", FD),
    ("pwrite64", FD.with_requested(2)),
    ("pwritev", FD),
    ("pwritev2", FD),
    ("quotactl_fd", FD),
    ("read", FD.with_requested(2)),
    ("readahead", FD.with_requested(2)),
    ("readlink", P.with_requested(2)),
    ("readlinkat", FD.with_requested(3)),
    ("readv", FD),
    ("recvfrom", FD.with_requested(2)),
    ("recvmmsg", FD),
    ("recvmsg", FD),
    ("remap_file_pages", P.with_requested(1)),
    ("removexattrat", FD),
    ("renameat", FD),
    ("renameat2", FD),
    ("sendfile", FD.with_requested(3)),
    ("sendmmsg", FD),
    ("sendmsg", FD),
    ("sendto", FD.with_requested(2)),
    ("set_mempolicy_home_node", P.with_requested(1)),
    ("setdomainname", P.with_requested(1)),
    ("sethostname", P.with_requested(1)),
    ("setns", FD),
    ("setsockopt", FD),
    ("setxattr", P.with_requested(3)),
    ("setxattrat", FD),
    ("shmget", P.with_requested(1)),
    ("shutdown", FD),
    ("signalfd", FD),
    ("signalfd4", FD),
    ("splice", FD.with_requested(4)),
    ("statmount", P.with_requested(2)),
    ("statx", FD),
    ("symlinkat", P.with_fd(1)),
    ("sync_file_range", FD.with_requested(2)),
    ("syncfs", FD),
    ("syslog", P.with_requested(2)),
    ("tee", FD.with_requested(2)),
    ("timerfd_gettime", FD),
    ("timerfd_settime", FD),
    ("truncate", P.with_requested(1)),
    ("unlinkat", FD),
    ("utimensat", FD),
    ("vfork", P.returns_twice()),
    ("vmsplice", FD),
    ("write", FD.with_requested(2)),
    ("writev", FD),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every other call of x86-64, each looked at: neither a descriptor nor a length. Four would take one, if Linux
    /// had them: `epoll_ctl_old`, `epoll_wait_old`, `getpmsg`, `putpmsg`.
    const PLAIN: &str = "\
        _sysctl access acct adjtimex afs_syscall alarm arch_prctl bpf brk capget capset chdir chmod
        chown chroot clock_adjtime clock_getres clock_gettime clock_nanosleep clock_settime creat
        create_module delete_module epoll_create epoll_create1 epoll_ctl_old epoll_wait_old eventfd
        eventfd2 execve fanotify_init fsopen futex futex_requeue futex_wait futex_waitv futex_wake
        get_kernel_syms get_mempolicy get_robust_list get_thread_area getcpu getegid geteuid getgid
        getgroups getitimer getpgid getpgrp getpid getpmsg getppid getpriority getresgid getresuid
        getrlimit getrusage getsid gettid gettimeofday getuid inotify_init inotify_init1 io_cancel
        io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_setup ioperm iopl ioprio_get
        ioprio_set kcmp kexec_load keyctl kill landlock_create_ruleset lchown link listmount
        lremovexattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat membarrier memfd_create
        memfd_secret migrate_pages mkdir mknod mlockall mount move_pages mq_open mq_unlink msgctl msgget
        munlockall nanosleep nfsservctl open pause personality pidfd_open pipe pipe2 pivot_root
        pkey_alloc pkey_free poll ppoll prctl prlimit64 process_vm_readv process_vm_writev pselect6
        ptrace putpmsg query_module quotactl reboot removexattr rename request_key restart_syscall rmdir
        rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp security
        select semctl semget semop semtimedop set_mempolicy set_robust_list set_thread_area
        set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid
        setresgid setresuid setreuid setrlimit setsid settimeofday setuid shmat shmctl shmdt sigaltstack
        socket socketpair stat statfs swapoff swapon symlink sync sysfs sysinfo tgkill time timer_create
        timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create times tkill tuxcall
        umask umount2 uname unlink unshare uprobe uretprobe uselib userfaultfd ustat utime utimes
        vhangup vserver wait4 waitid";

    fn is_x86_64(name: &str) -> bool {
        syscalls::x86_64::Sysno::from_str(name).is_ok()
    }

    #[test]
    fn the_table_is_sorted_and_every_name_exists() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, shape) in TABLE {
            assert!(is_x86_64(name) || syscalls::aarch64::Sysno::from_str(name).is_ok(), "{name}");
            assert_ne!(*shape, P, "{name}");
        }
    }

    #[test]
    fn every_call_of_x86_64_was_looked_at() {
        let plain: Vec<_> = PLAIN.split_ascii_whitespace().collect();
        for number in 0..SYSCALL_TABLE {
            let Some(call) = syscalls::x86_64::Sysno::new(number) else { continue };
            let (shaped, plain) =
                (TABLE.iter().any(|(name, _)| *name == call.name()), plain.contains(&call.name()));
            assert!(shaped != plain, "{call}: in the table {shaped}, in the list of the others {plain}");
        }
        assert!(plain.iter().all(|name| is_x86_64(name)));
    }

    #[test]
    fn every_call_fits_into_the_table() {
        assert!(
            (0..4096)
                .filter_map(Sysno::new)
                .all(|call| usize::try_from(call.id()).is_ok_and(|nr| nr < SYSCALL_TABLE))
        );
    }

    #[test]
    fn shapes_are_found_by_number() {
        let shapes = shapes();
        let shape = |call: Sysno| {
            let shape = shapes[usize::try_from(call.id()).unwrap_or(usize::MAX)];
            (shape.fd(), shape.requested(), shape.is_no_return(), shape.is_returns_twice())
        };
        assert_eq!(shape(Sysno::read), (Some(0), Some(2), false, false));
        assert_eq!(shape(Sysno::writev), (Some(0), None, false, false));
        assert_eq!(shape(Sysno::mmap), (Some(4), Some(1), false, false));
        assert_eq!(shape(Sysno::sendfile), (Some(0), Some(3), false, false));
        assert_eq!(shape(Sysno::copy_file_range), (Some(0), Some(4), false, false));
        assert_eq!(shape(Sysno::symlinkat), (Some(1), None, false, false));
        assert_eq!(shape(Sysno::getrandom), (None, Some(1), false, false));
        assert_eq!(shape(Sysno::getppid), (None, None, false, false));
        assert_eq!(shape(Sysno::exit_group), (None, None, true, false));
        assert_eq!(shape(Sysno::clone), (None, None, false, true));
    }

    /// The arguments as the kernel itself names them, where tracefs shows them (root, `CONFIG_FTRACE_SYSCALLS`).
    #[test]
    fn the_kernel_agrees() {
        const DESCRIPTORS: &str = "fd dfd ufd epfd pidfd oldfd fildes fd_in fdin out_fd fs_fd olddfd newdfd from_dfd \
            ruleset_fd mountdirfd fanotify_fd group_fd mqdes";
        const LENGTHS: &str =
            "count len len_in size nbytes bufsiz bufsize plen msg_len msgsz new_len length bytecount";
        // Here such a name is the size of a struct, or a number.
        const NO_LENGTH: &str = "clone3 epoll_create eventfd eventfd2 landlock_create_ruleset bpf sched_setaffinity \
            sched_getaffinity set_robust_list lsm_set_self_attr";
        let is_in = |list: &str, name: &str| list.split_ascii_whitespace().any(|known| known == name);
        let shapes = shapes();
        for call in (0..SYSCALL_TABLE).filter_map(Sysno::new) {
            let path = format!("/sys/kernel/tracing/events/syscalls/sys_enter_{call}/format");
            let Ok(format) = std::fs::read_to_string(path) else { continue };
            // The first five fields are those of every event.
            let fields = format.lines().filter_map(|line| line.trim().strip_prefix("field:")).skip(5);
            let declared = |field: &str| field.split(';').next().unwrap_or("").to_owned();
            let arguments: Vec<(bool, String)> = fields
                .map(declared)
                .map(|text| (text.contains('*'), text.rsplit(' ').next().unwrap_or("").to_owned()))
                .collect();
            let find = |names| {
                let found = arguments.iter().position(|(pointer, name)| !pointer && is_in(names, name));
                found.and_then(|at| u8::try_from(at).ok())
            };
            let shape = shapes[usize::try_from(call.id()).unwrap_or(usize::MAX)];
            assert_eq!(shape.fd(), find(DESCRIPTORS), "descriptor of {call}: {arguments:?}");
            let length = if is_in(NO_LENGTH, call.name()) { None } else { find(LENGTHS) };
            assert_eq!(shape.requested(), length, "length of {call}: {arguments:?}");
        }
    }
}

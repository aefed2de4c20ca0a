//! The limit on locked memory, which Linux before 5.11 charges maps and programs to.

use std::error::Error;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::host::KernelRelease;

/// Raises this process's limit as far as it may: without end with CAP_SYS_RESOURCE, else to the hard limit. Says what the
/// limit is then; `None` if there is none, or if the kernel charges its memory cgroups instead.
pub(crate) fn raise(release: &KernelRelease) -> Option<u64> {
    if release.at_least(5, 11) {
        return None;
    }
    let none = Rlimit { current: None, maximum: None };
    let hard = getrlimit(Resource::Memlock).maximum;
    if setrlimit(Resource::Memlock, none).is_err() {
        // Up to the hard limit everybody may.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: hard, maximum: hard });
    }
    getrlimit(Resource::Memlock).current
}

/// Whether the kernel refused something because the limit was reached: it says that it is not permitted.
pub(crate) fn is_reached(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let os = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if os == Some(libc::EPERM) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// For the report.
pub(crate) fn note(limit: u64) -> String {
    format!(
        "this kernel counts maps and programs as locked memory, of which this process may have {} KiB (`ulimit -l`); with \
         CAP_SYS_RESOURCE there is no limit",
        limit / 1024
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_what_is_not_permitted_is_the_limit() {
        let of = |number| io::Error::from_raw_os_error(number);
        assert!(is_reached(&of(libc::EPERM)));
        assert!(is_reached(&io::Error::other(aya::maps::MapError::CreateError {
            name: "CPUS".to_owned(),
            io_error: of(libc::EPERM),
        })));
        assert!(!is_reached(&of(libc::ENOMEM)) && !is_reached(&io::Error::other("not permitted")));
    }

    #[test]
    fn later_kernels_have_no_such_limit() {
        let limit = getrlimit(Resource::Memlock);
        assert_eq!(raise(&KernelRelease { text: "5.11".to_owned(), version: (5, 11, 0) }), None);
        assert_eq!(getrlimit(Resource::Memlock), limit);
    }
}

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{HostError, KernelRelease};

/// What the limit of locked memory (`RLIMIT_MEMLOCK`) means for maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memlock {
    /// Maps count against the limit: kernels before 5.11. Later ones charge them to the memory cgroup.
    pub charged: bool,
    /// The limit in bytes; `None` is no limit.
    pub limit: Option<u64>,
}

impl Memlock {
    /// The limit now, on this kernel.
    #[must_use]
    pub fn now(release: &KernelRelease) -> Self {
        Self { charged: !release.at_least(5, 11), limit: getrlimit(Resource::Memlock).current }
    }

    /// The limit is too small for maps of `bytes`, so it has to be raised.
    #[must_use]
    pub fn too_small_for(self, bytes: u64) -> bool {
        self.charged && self.limit.is_some_and(|limit| limit < bytes)
    }

    /// Takes this process's limit of locked memory away. It is a setting of the whole process; nothing else here changes any.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_RESOURCE`, if the hard limit is smaller.
    pub fn raise() -> Result<(), HostError> {
        let wrap = |error: rustix::io::Errno| HostError::Call {
            call: "setrlimit(RLIMIT_MEMLOCK, unlimited) (needs CAP_SYS_RESOURCE)",
            source: error.into(),
        };
        setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).map_err(wrap)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_old_kernels_charge() {
        let charged = |release: &str| Memlock::now(&release.parse().unwrap()).charged;
        assert!(charged("5.10.0-35-cloud-amd64"));
        assert!(!charged("5.11.0") && !charged("6.1.0-40-cloud-amd64"));
        assert!(Memlock { charged: true, limit: Some(65536) }.too_small_for(1 << 20));
        assert!(!Memlock { charged: true, limit: None }.too_small_for(1 << 20));
        assert!(!Memlock { charged: false, limit: Some(65536) }.too_small_for(1 << 20));
    }
}

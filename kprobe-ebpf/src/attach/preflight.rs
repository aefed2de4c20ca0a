use super::AttachError;
use crate::{
    btf::Btf,
    host::{self, Capabilities, CpuList, KernelRelease, Lockdown, Memlock},
};

/// The oldest kernel whose verifier takes the programs: atomic instructions that return the old value are of 5.12.
const OLDEST: (u16, u16) = (5, 12);
const OLDEST_TEXT: &str = "5.12";

/// What must be known of the machine before anything is attached.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) release: KernelRelease,
    pub(crate) cpus: CpuList,
    pub(crate) btf: Btf,
}

impl Host {
    /// Looks at the machine, and says at once what would make every probe fail.
    pub(crate) fn inspect() -> Result<Self, AttachError> {
        let system =
            |what| move |error: host::HostError| AttachError::system(what, std::io::Error::other(error));
        let release = host::kernel_release().map_err(system("read the kernel's release"))?;
        if !release.at_least(OLDEST.0, OLDEST.1) {
            return Err(AttachError::Kernel { found: release.text, needed: OLDEST_TEXT });
        }
        let memlock = Memlock::now(&release);
        let missing = Capabilities::effective()
            .map_err(system("read this process's capabilities"))?
            .missing(memlock.charged);
        if !missing.is_empty() {
            return Err(AttachError::Capability { missing: missing.join(" and ") });
        }
        if host::lockdown() == Lockdown::Confidentiality {
            return Err(AttachError::Lockdown);
        }
        let btf = Btf::kernel()?;
        let cpus = host::possible_cpus().map_err(system("read the number of CPUs"))?;
        Ok(Self { release, cpus, btf })
    }
}

use super::AttachError;
use crate::{
    btf::Btf,
    host::{self, Capabilities, CpuList, KernelRelease, Lockdown},
};

/// The oldest kernel that is tested. What the verifier and the structs of an older one lack would show while attaching;
/// that what remains is right nobody knows.
const OLDEST: (u16, u16) = (6, 1);
const OLDEST_TEXT: &str = "6.1";

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
        check_release(&release)?;
        let missing =
            Capabilities::effective().map_err(system("read this process's capabilities"))?.missing();
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

fn check_release(release: &KernelRelease) -> Result<(), AttachError> {
    if release.at_least(OLDEST.0, OLDEST.1) {
        return Ok(());
    }
    Err(AttachError::Kernel { found: release.text.clone(), needed: OLDEST_TEXT })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn kernels_that_are_documented_are_taken() {
        let check = |text: &str| check_release(&text.parse().unwrap());
        for text in ["6.1.0-40-cloud-amd64", "6.1.0", "6.12.48", "7.2"] {
            check(text).unwrap();
        }
        for text in ["6.0.19", "5.18.0", "5.14.0-503.el9.x86_64"] {
            let expected = format!("kernel {text} is too old: the programs need 6.1 or later");
            assert_eq!(check(text).unwrap_err().to_string(), expected);
        }
        assert_eq!(format!("{}.{}", OLDEST.0, OLDEST.1), OLDEST_TEXT);
    }
}

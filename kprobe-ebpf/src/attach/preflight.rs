use super::{AttachError, Build, memlock};
use crate::{
    btf::Btf,
    host::{self, Capabilities, CpuList, KernelRelease, Lockdown},
};

/// The oldest kernel that is tested. What the verifier and the structs of an older one lack would show while attaching;
/// that what remains is right nobody knows.
const OLDEST: (u16, u16) = (5, 10);
const OLDEST_TEXT: &str = "5.10";
/// On machines other than x86: what programs do on older kernels relies on its atomic addition being a full barrier.
const OLDEST_OTHER: (u16, u16) = (6, 1);
const OLDEST_OTHER_TEXT: &str = "6.1";

/// What must be known of the machine before anything is attached.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) release: KernelRelease,
    pub(crate) cpus: CpuList,
    pub(crate) btf: Btf,
    pub(crate) build: Build,
    /// Bytes of maps and programs that this process may have, if there is such a limit.
    pub(crate) memlock: Option<u64>,
}

impl Host {
    /// Looks at the machine, and says at once what would make every probe fail.
    pub(crate) fn inspect() -> Result<Self, AttachError> {
        let system =
            |what| move |error: host::HostError| AttachError::system(what, std::io::Error::other(error));
        let release = host::kernel_release().map_err(system("read the kernel's release"))?;
        check_release(&release, cfg!(target_arch = "x86_64"))?;
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
        let memlock = memlock::raise(&release);
        Ok(Self { build: Build::of(&release), release, cpus, btf, memlock })
    }

    /// What a user should know of a kernel before 6.1.
    pub(crate) fn notes(&self) -> Vec<String> {
        let is_tested = self.build == Build::Main || !self.release.at_least(5, 11);
        let untested = (!is_tested)
            .then(|| format!("of the kernels before 6.1 only 5.10 is tested, and this is {}", self.release));
        untested.into_iter().chain(self.memlock.map(memlock::note)).collect()
    }
}

fn check_release(release: &KernelRelease, is_x86: bool) -> Result<(), AttachError> {
    let ((major, minor), needed) =
        if is_x86 { (OLDEST, OLDEST_TEXT) } else { (OLDEST_OTHER, OLDEST_OTHER_TEXT) };
    if release.at_least(major, minor) {
        return Ok(());
    }
    Err(AttachError::Kernel { found: release.text.clone(), needed })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn kernels_that_are_documented_are_taken() {
        let check = |text: &str, is_x86| check_release(&text.parse().unwrap(), is_x86);
        for text in ["6.1.0-40-cloud-amd64", "6.1.0", "6.12.48", "7.2"] {
            check(text, true).unwrap();
            check(text, false).unwrap();
        }
        for text in ["6.0.19", "5.18.0", "5.14.0-503.el9.x86_64", "5.10.0-46-cloud-amd64"] {
            check(text, true).unwrap();
            let expected = format!("kernel {text} is too old: the programs need 6.1 or later");
            assert_eq!(check(text, false).unwrap_err().to_string(), expected);
        }
        for text in ["5.9.16", "5.4.0-200-generic", "4.19.0"] {
            let expected = format!("kernel {text} is too old: the programs need 5.10 or later");
            assert_eq!(check(text, true).unwrap_err().to_string(), expected);
        }
        assert_eq!(format!("{}.{}", OLDEST.0, OLDEST.1), OLDEST_TEXT);
        assert_eq!(format!("{}.{}", OLDEST_OTHER.0, OLDEST_OTHER.1), OLDEST_OTHER_TEXT);
    }
}

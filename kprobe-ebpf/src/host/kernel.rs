use std::fmt;
use std::str::FromStr;

use kprobe_core::event::BootId;

use super::HostError;
use super::error::read;

/// Which kernel runs: `uname -r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRelease {
    /// As the kernel says it, for example `6.1.0-40-cloud-amd64`.
    pub text: String,
    /// The numbers at its beginning; a third one that is not there is 0. Distributions keep the third number while they change the code, so
    /// nothing may depend on it.
    pub version: (u16, u16, u16),
}

impl KernelRelease {
    /// This kernel is `major.minor` or later.
    #[must_use]
    pub const fn at_least(&self, major: u16, minor: u16) -> bool {
        let (own_major, own_minor, _) = self.version;
        own_major > major || own_major == major && own_minor >= minor
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KernelRelease {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..digits].split('.').map(str::parse::<u16>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), patch) => {
                // No third number, or an empty one (`6.1.`), says nothing.
                let patch = patch.and_then(Result::ok).unwrap_or(0);
                Ok(Self { text: text.into(), version: (major, minor, patch) })
            }
            _ => {
                let (what, expected) = ("the kernel release", "major.minor[.patch][-...]");
                Err(HostError::Unexpected { what, expected, found: text.into() })
            }
        }
    }
}

/// The running kernel.
///
/// # Errors
///
/// If its release does not begin with two numbers.
pub fn kernel_release() -> Result<KernelRelease, HostError> {
    rustix::system::uname().release().to_string_lossy().parse()
}

/// The host name as the kernel has it, which may be that of a container.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// This boot's identity.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn boot_id() -> Result<BootId, HostError> {
    let found = read("/proc/sys/kernel/random/boot_id")?;
    let parsed = found.parse();
    parsed.map_err(|_| HostError::Unexpected {
        what: "the boot id",
        expected: "a UUID",
        found: found.trim().into(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn releases_of_distributions() {
        let version = |text: &str| text.parse::<KernelRelease>().map(|release| release.version).ok();
        assert_eq!(version("6.1.0-40-cloud-amd64"), Some((6, 1, 0)));
        assert_eq!(version("6.12.48+deb12-cloud-amd64\n"), Some((6, 12, 48)));
        assert_eq!(version("5.10.0"), Some((5, 10, 0)));
        assert_eq!(version("7.2-rc1"), Some((7, 2, 0)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15, 167)));
        assert_eq!(version("4.18.0-553.el8_10.x86_64"), Some((4, 18, 0)));
        assert_eq!(version("6.1."), Some((6, 1, 0)));
        for wrong in ["", "6", "six.one", "6.x", ".6.1", "99999.1"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
        let error = "next".parse::<KernelRelease>().unwrap_err().to_string();
        assert_eq!(error, "the kernel release is \"next\", expected major.minor[.patch][-...]");
    }

    #[test]
    fn comparison_ignores_the_patch_level() {
        let release: KernelRelease = "6.1.0".parse().unwrap();
        assert!(release.at_least(6, 1) && release.at_least(6, 0) && release.at_least(5, 19));
        assert!(!release.at_least(6, 2) && !release.at_least(7, 0));
    }

    #[test]
    fn this_machine() {
        assert!(kernel_release().unwrap().at_least(4, 0));
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), BootId(0));
        assert_eq!(host_name(), read("/proc/sys/kernel/hostname").unwrap().trim());
    }
}

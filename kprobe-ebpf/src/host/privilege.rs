//! What this process and this kernel allow.

use caps::{CapSet, Capability};

use super::HostError;
use super::error::read;
use super::mounts::mounts;

/// The effective capabilities that matter to attaching.
///
/// They are those of this process's user namespace: outside the [initial one](super::in_initial_user_namespace) they
/// are worth nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `CAP_BPF`: load programs, create maps. Since Linux 5.8.
    pub bpf: bool,
    /// `CAP_PERFMON`: attach to tracing targets, read kernel memory. Since Linux 5.8.
    pub perfmon: bool,
    /// `CAP_SYS_ADMIN`: includes the first two.
    pub sys_admin: bool,
}

impl Capabilities {
    /// Those that this thread has in effect now.
    ///
    /// # Errors
    ///
    /// If `capget` fails, which it does not.
    pub fn effective() -> Result<Self, HostError> {
        let has = |capability| {
            let found = caps::has_cap(None, CapSet::Effective, capability);
            found.map_err(|error| HostError::Call {
                call: "capget",
                source: std::io::Error::other(error.to_string()),
            })
        };
        Ok(Self {
            bpf: has(Capability::CAP_BPF)?,
            perfmon: has(Capability::CAP_PERFMON)?,
            sys_admin: has(Capability::CAP_SYS_ADMIN)?,
        })
    }

    /// Names of the capabilities that recording needs and this process lacks; none if it may record.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        let needed =
            [(self.bpf || self.sys_admin, "CAP_BPF"), (self.perfmon || self.sys_admin, "CAP_PERFMON")];
        needed.into_iter().filter(|(held, _)| !held).map(|(_, name)| name).collect()
    }
}

/// How far the kernel is locked down against its own administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lockdown {
    /// Not at all.
    None,
    /// What can change the running kernel is refused; on some kernels that includes kprobes.
    Integrity,
    /// What can read kernel memory is refused too: no tracing program can be loaded.
    Confidentiality,
    /// The kernel does not say: securityfs is not mounted, may not be read, or there is no lockdown in this kernel.
    Unknown,
}

/// The lockdown mode.
#[must_use]
pub fn lockdown() -> Lockdown {
    let mounts = mounts().unwrap_or_default();
    let securityfs = mounts.iter().find(|mount| mount.kind == "securityfs");
    let found = securityfs.and_then(|mount| std::fs::read_to_string(mount.path.join("lockdown")).ok());
    found.map_or(Lockdown::Unknown, |text| parse_lockdown(&text))
}

fn parse_lockdown(text: &str) -> Lockdown {
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    match chosen.map(|(mode, _)| mode) {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// What `kernel.unprivileged_bpf_disabled` says. Recording never relies on it: tracing programs always need the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnprivilegedBpf {
    /// 0: everybody may load the few harmless kinds of programs.
    Allowed,
    /// 1: nobody without capabilities, until the next boot.
    DisabledForGood,
    /// 2: nobody without capabilities, until an administrator changes it.
    Disabled,
    /// The setting does not exist or cannot be read.
    Unknown,
}

/// The setting `kernel.unprivileged_bpf_disabled`.
#[must_use]
pub fn unprivileged_bpf() -> UnprivilegedBpf {
    match read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref().map(str::trim) {
        Ok("0") => UnprivilegedBpf::Allowed,
        Ok("1") => UnprivilegedBpf::DisabledForGood,
        Ok("2") => UnprivilegedBpf::Disabled,
        _ => UnprivilegedBpf::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lockdown_modes() {
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse_lockdown("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
        for odd in ["", "none integrity", "[", "[new]", "]none["] {
            assert_eq!(parse_lockdown(odd), Lockdown::Unknown, "{odd}");
        }
    }

    #[test]
    fn what_is_missing_has_a_name() {
        let none = Capabilities { bpf: false, perfmon: false, sys_admin: false };
        assert_eq!(none.missing(), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(Capabilities { bpf: true, ..none }.missing(), ["CAP_PERFMON"]);
        assert_eq!(Capabilities { perfmon: true, ..none }.missing(), ["CAP_BPF"]);
        assert!(Capabilities { bpf: true, perfmon: true, ..none }.missing().is_empty());
        assert!(Capabilities { sys_admin: true, ..none }.missing().is_empty());
    }

    #[test]
    fn capabilities_are_those_of_proc() {
        let status = read("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let mask = u64::from_str_radix(line.trim(), 16).unwrap();
        let has = |number: u32| mask >> number & 1 != 0;
        let expected = Capabilities { bpf: has(39), perfmon: has(38), sys_admin: has(21) };
        assert_eq!(Capabilities::effective().unwrap(), expected);
    }
}

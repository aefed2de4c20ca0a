use std::{borrow::Cow, fmt};

use crate::abi::COMM_LEN;

/// Process: a thread group id in the initial pid namespace, what `ps` calls PID.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Tgid(pub u32);

/// Thread: a kernel pid in the initial pid namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Tid(pub u32);

impl fmt::Display for Tgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of one boot of one machine (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

impl fmt::Display for BootId {
    /// As the kernel prints it: 8-4-4-4-12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl std::str::FromStr for BootId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(&text.trim().replace('-', ""), 16).map(Self)
    }
}

impl serde::Serialize for BootId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BootId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Resolution of [`ProcessKey::start_ns`]: one tick of `/proc/PID/stat`, 10 ms on every architecture kprobe runs on.
pub const START_GRANULARITY_NS: u64 = 10_000_000;

/// A process for all time: pids are used again, this is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessKey {
    /// Boot it lived in.
    pub boot: BootId,
    /// Its id while it lived.
    pub tgid: Tgid,
    /// Its start: nanoseconds of `CLOCK_BOOTTIME`, cut to [`START_GRANULARITY_NS`] so that a key taken from a kernel
    /// record equals the one taken from `/proc`.
    pub start_ns: u64,
}

impl ProcessKey {
    /// Cuts `start_ns` to the granularity of a key.
    #[must_use]
    pub const fn new(boot: BootId, tgid: Tgid, start_ns: u64) -> Self {
        Self { boot, tgid, start_ns: start_ns - start_ns % START_GRANULARITY_NS }
    }
}

/// The name of a thread: at most 15 bytes, of any value but zero.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm([u8; COMM_LEN]);

impl Comm {
    /// Takes the kernel's field; what follows the first zero is cleared.
    #[must_use]
    pub const fn new(mut bytes: [u8; COMM_LEN]) -> Self {
        let mut at = 0;
        let mut ended = false;
        while at < COMM_LEN {
            ended |= bytes[at] == 0 || at == COMM_LEN - 1;
            if ended {
                bytes[at] = 0;
            }
            at += 1;
        }
        Self(bytes)
    }

    /// Takes the first 15 bytes of `text`, up to the first zero.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Self {
        let mut bytes = [0; COMM_LEN];
        let len = text.len().min(COMM_LEN - 1);
        bytes[..len].copy_from_slice(&text[..len]);
        Self::new(bytes)
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.0.iter().position(|&byte| byte == 0).unwrap_or(COMM_LEN)]
    }

    /// The field as the kernel has it, padded with zeros.
    #[must_use]
    pub const fn to_field(self) -> [u8; COMM_LEN] {
        self.0
    }

    /// No name is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// As text; what is not UTF-8 is replaced by U+FFFD.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Driver.
    pub major: u32,
    /// Device of that driver.
    pub minor: u32,
}

impl Device {
    /// From the kernel's own encoding (`MKDEV`), which differs from that of `stat`.
    #[must_use]
    pub const fn from_kernel(dev: u32) -> Self {
        Self { major: dev >> 20, minor: dev & 0xf_ffff }
    }

    /// The kernel's own encoding.
    #[must_use]
    pub const fn to_kernel(self) -> u32 {
        self.major << 20 | self.minor & 0xf_ffff
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

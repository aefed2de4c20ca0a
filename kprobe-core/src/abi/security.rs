use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::SECURITY_CAPABILITY`](super::Kind::SECURITY_CAPABILITY). The header names the thread that was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SecurityCapability {
    /// Number of the capability, as in `linux/capability.h`.
    pub capability: u32,
    /// 0 if it has it, else -errno.
    pub result: i32,
    /// How deep the user namespace is in which it was asked for: 0 is the initial one.
    pub user_ns_level: u32,
    /// `CAPABILITY_*`.
    pub flags: u32,
}

/// The kernel told with which intent it asked: [`CAPABILITY_NO_AUDIT`] and [`CAPABILITY_IN_SETID`] mean something.
pub const CAPABILITY_HAS_OPTIONS: u32 = 1;
/// The kernel only wanted to know: a refusal is no failure, and no audit record is made.
pub const CAPABILITY_NO_AUDIT: u32 = 2;
/// It was asked by `setuid`, `setgid` or one of their kin.
pub const CAPABILITY_IN_SETID: u32 = 4;

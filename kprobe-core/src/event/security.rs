use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value, capability_name, errno_name},
};

/// The kernel checked whether a thread has a capability. The origin names the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityCapability {
    /// The thread that was checked.
    pub origin: Origin,
    /// Number of the capability, as in `linux/capability.h`.
    pub capability: u32,
    /// 0 if it has it, else -errno (-1, `EPERM`).
    pub result: i32,
    /// How deep the user namespace is in which it was asked for: 0 is the initial one.
    pub user_ns_level: u32,
    /// What the kernel asked for it; `None` where it does not tell.
    pub purpose: Option<CheckPurpose>,
}

/// Why a capability is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckPurpose {
    /// A refusal would be worth an audit record. `false`: the kernel only wanted to know, and a refusal is no failure.
    pub audited: bool,
    /// It is about `setuid`, `setgid` or one of their kin.
    pub in_setid: bool,
}

impl SecurityCapability {
    /// The thread has the capability.
    #[must_use]
    pub const fn is_granted(&self) -> bool {
        self.result == 0
    }

    /// Its name, for example `CAP_NET_RAW`; `None` for a number that this version does not know.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        capability_name(self.capability)
    }
}

impl TypedEvent for SecurityCapability {
    const KIND: Kind = Kind::SECURITY_CAPABILITY;
    const NAME: &'static str = "security.capability";
    const FIELDS: &'static [Field] = &[
        Field::new("capability_nr", Type::U64, "number of the capability"),
        Field::new("capability", Type::Text, "its name").optional(),
        Field::new("ret", Type::I64, "0 if the thread has it, else -errno"),
        Field::new("errno", Type::Text, "name of the error, if it does not have it").optional(),
        Field::new(
            "user_ns_level",
            Type::U64,
            "depth of the user namespace it was asked for in; 0 is the initial one",
        ),
        Field::new(
            "audited",
            Type::Bool,
            "a refusal is worth an audit record; false: the kernel only wanted to know",
        )
        .optional(),
        Field::new("in_setid", Type::Bool, "it is about setuid, setgid or their kin").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::SecurityCapability = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            capability: body.capability,
            result: body.result,
            user_ns_level: body.user_ns_level,
            purpose: has(abi::CAPABILITY_HAS_OPTIONS).then_some(CheckPurpose {
                audited: !has(abi::CAPABILITY_NO_AUDIT),
                in_setid: has(abi::CAPABILITY_IN_SETID),
            }),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("capability_nr", Value::U64(self.capability.into()));
        if let Some(name) = self.name() {
            put("capability", Value::Text(name));
        }
        put("ret", Value::I64(self.result.into()));
        let errno = (self.result < 0).then(|| self.result.unsigned_abs());
        if let Some(name) = errno.and_then(errno_name) {
            put("errno", Value::Text(name));
        }
        put("user_ns_level", Value::U64(self.user_ns_level.into()));
        if let Some(purpose) = self.purpose {
            put("audited", Value::Bool(purpose.audited));
            put("in_setid", Value::Bool(purpose.in_setid));
        }
    }
}

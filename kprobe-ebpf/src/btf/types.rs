use std::collections::HashMap;
use std::ops::Range;

/// Number of a type in its BTF; what a `BPF_PSEUDO_BTF_ID` instruction carries. 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: Self = Self(0);
}

/// Parsed type information. See the [module](super) for what it can be asked.
#[derive(Clone, Debug)]
pub struct Btf {
    /// By type number; the first is `void`.
    pub(super) types: Vec<Type>,
    /// Members of all structs, in the order of the structs.
    pub(super) members: Vec<RawMember>,
    /// Parameters of all function types, likewise.
    pub(super) params: Vec<RawParam>,
    /// Constants of all enumerations, likewise.
    pub(super) constants: Vec<Constant>,
    /// Zero-terminated names.
    pub(super) strings: String,
    /// The first struct or union of each name.
    pub(super) structs: HashMap<Box<str>, TypeId>,
}

/// A position in the strings that parsing has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) u32);

#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) name: Name,
    pub(super) shape: Shape,
}

/// What a type is. Type numbers in it exist and ranges are within their tables.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Void,
    Int {
        size: u32,
        bit_offset: u8,
        bits: u8,
    },
    Float {
        size: u32,
    },
    Ptr(TypeId),
    Array {
        element: TypeId,
        count: u32,
    },
    /// `bitfields`: member offsets carry a width in their high byte.
    Struct {
        size: u32,
        members: Range<u32>,
        bitfields: bool,
        union: bool,
    },
    Enum {
        size: u32,
        constants: Range<u32>,
    },
    Forward {
        union: bool,
    },
    Typedef(TypeId),
    /// `const`, `volatile`, `restrict` or a type tag.
    Modifier {
        keyword: &'static str,
        of: TypeId,
    },
    /// With its prototype.
    Func(TypeId),
    FuncProto {
        returns: TypeId,
        params: Range<u32>,
    },
    Var(TypeId),
    DataSection,
    DeclTag,
    /// A kind that only the blob's own table of kinds explains.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RawMember {
    pub(super) name: Name,
    pub(super) of: TypeId,
    pub(super) offset: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RawParam {
    pub(super) name: Name,
    pub(super) of: TypeId,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Constant {
    pub(super) name: Name,
    pub(super) value: i64,
}

impl Btf {
    /// The type, or `void` for a number that does not exist: those inside are checked, a caller's may be from elsewhere.
    pub(super) fn shape(&self, id: TypeId) -> &Shape {
        self.types.get(id.0 as usize).map_or(&Shape::Void, |found| &found.shape)
    }

    pub(super) fn text(&self, name: Name) -> &str {
        let tail = self.strings.get(name.0 as usize..).unwrap_or("");
        tail.split('\0').next().unwrap_or("")
    }

    pub(super) fn members_in(&self, range: &Range<u32>) -> &[RawMember] {
        slice(&self.members, range)
    }

    pub(super) fn params_in(&self, range: &Range<u32>) -> &[RawParam] {
        slice(&self.params, range)
    }

    pub(super) fn constants_in(&self, range: &Range<u32>) -> &[Constant] {
        slice(&self.constants, range)
    }

    /// The name of a type; `None` for one without (pointers, anonymous structs, ...).
    #[must_use]
    pub fn name(&self, id: TypeId) -> Option<&str> {
        let name = self.text(self.types.get(id.0 as usize)?.name);
        (!name.is_empty()).then_some(name)
    }

    /// How many types there are, `void` not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.len().saturating_sub(1)
    }

    /// No type but `void`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first type with this name that `wanted` accepts. Linear: for the few names that are not structs.
    pub(super) fn find(&self, name: &str, wanted: impl Fn(&Shape) -> bool) -> Option<TypeId> {
        let at =
            self.types.iter().position(|found| wanted(&found.shape) && self.is_called(found.name, name))?;
        u32::try_from(at).ok().map(TypeId)
    }

    fn is_called(&self, name: Name, wanted: &str) -> bool {
        let tail = self.strings.as_bytes().get(name.0 as usize..).unwrap_or(&[]);
        tail.get(wanted.len()) == Some(&0) && tail.starts_with(wanted.as_bytes()) && !wanted.contains('\0')
    }
}

fn slice<'a, T>(table: &'a [T], range: &Range<u32>) -> &'a [T] {
    table.get(range.start as usize..range.end as usize).unwrap_or(&[])
}

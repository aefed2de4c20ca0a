/// One field of an event, for help texts, schemas and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name with its unit, as in JSON.
    pub name: &'static str,
    /// What it holds.
    pub ty: Type,
    /// The event can be without it.
    pub optional: bool,
    /// One line about it.
    pub doc: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// Unsigned 64-bit number.
    U64,
    /// Signed 64-bit number.
    I64,
    /// True or false.
    Bool,
    /// Text; bytes that are not UTF-8 are replaced when it is shown.
    Text,
    /// Pairs of unsigned numbers.
    Pairs,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// See [`Type::U64`].
    U64(u64),
    /// See [`Type::I64`].
    I64(i64),
    /// See [`Type::Bool`].
    Bool(bool),
    /// See [`Type::Text`].
    Text(&'a str),
    /// See [`Type::Pairs`].
    Pairs(&'a [(u64, u64)]),
}

impl Field {
    /// A field that is always there.
    #[must_use]
    pub const fn new(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self { name, ty, optional: false, doc }
    }

    /// The same field, but absent where the kernel or the event does not supply it.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

impl Value<'_> {
    /// The type of this value.
    #[must_use]
    pub const fn ty(&self) -> Type {
        match self {
            Self::U64(_) => Type::U64,
            Self::I64(_) => Type::I64,
            Self::Bool(_) => Type::Bool,
            Self::Text(_) => Type::Text,
            Self::Pairs(_) => Type::Pairs,
        }
    }
}

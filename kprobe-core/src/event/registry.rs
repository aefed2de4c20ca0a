use std::{collections::BTreeMap, fmt};

use crate::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{Arch, Field, TypedEvent, Value},
};

/// Which kinds can be decoded, and how: what a sink needs to show records without knowing their types.
#[derive(Clone)]
pub struct Registry {
    entries: BTreeMap<Kind, Entry>,
}

/// What a [`Registry`] knows of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// See [`TypedEvent::NAME`].
    pub name: &'static str,
    /// See [`TypedEvent::FIELDS`].
    pub fields: &'static [Field],
    describe: Describe,
}

type Describe = fn(Record<'_>, Arch, &mut dyn FnMut(&'static str, Value<'_>)) -> Result<(), DecodeError>;

impl Entry {
    /// Decodes `record` and gives its fields to `put`. `put` is not called if decoding fails.
    ///
    /// # Errors
    /// As [`TypedEvent::decode`].
    pub fn fields_of(
        &self,
        record: Record<'_>,
        arch: Arch,
        put: &mut dyn FnMut(&'static str, Value<'_>),
    ) -> Result<(), DecodeError> {
        (self.describe)(record, arch, put)
    }
}

impl Registry {
    /// Knows nothing yet. See [`builtin`](Self::builtin) for one that knows the events of kprobe.
    #[must_use]
    pub fn empty() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Adds a type of event; the last one registered for a kind counts.
    pub fn register<E: TypedEvent>(&mut self) {
        self.entries.insert(
            E::KIND,
            Entry {
                name: E::NAME,
                fields: E::FIELDS,
                describe: |record, arch, put| E::decode(record).map(|event| event.fields(arch, put)),
            },
        );
    }

    /// What is known of `kind`.
    #[inline]
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Entry> {
        self.entries.get(&kind)
    }

    /// All kinds, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Entry)> {
        self.entries.iter().map(|(kind, entry)| (*kind, entry))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(kind, entry)| (kind, entry.name))).finish()
    }
}

//! Hand-made BTF: what a kernel without a certain struct or field would show.
#![expect(clippy::cast_possible_truncation, reason = "test data is small")]

use super::TypeId;

/// Appends types and gives their numbers; [`blob`](Self::blob) is what `Btf::parse` reads.
#[derive(Debug)]
pub(crate) struct BtfBuilder {
    types: Vec<u8>,
    strings: Vec<u8>,
    kinds: Option<Vec<u8>>,
    count: u32,
}

impl BtfBuilder {
    pub(crate) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], kinds: None, count: 0 }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// Any type: its three words and what follows them.
    pub(crate) fn raw(&mut self, name: &str, info: u32, word: u32, rest: &[u32]) -> TypeId {
        let name = self.string(name);
        for value in [name, info, word].iter().chain(rest) {
            self.types.extend_from_slice(&value.to_le_bytes());
        }
        self.count += 1;
        TypeId(self.count)
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> TypeId {
        self.raw(name, 1 << 24, size, &[size * 8])
    }

    pub(crate) fn ptr(&mut self, of: TypeId) -> TypeId {
        self.raw("", 2 << 24, of.0, &[])
    }

    pub(crate) fn array(&mut self, of: TypeId, count: u32) -> TypeId {
        self.raw("", 3 << 24, 0, &[of.0, 0, count])
    }

    /// A struct of members (name, type, byte offset).
    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        let bits: Vec<_> = members.iter().map(|(name, of, offset)| (*name, *of, offset * 8)).collect();
        self.aggregate(name, 4 << 24, size, &bits)
    }

    pub(crate) fn union(&mut self, name: &str, size: u32, members: &[(&str, TypeId)]) -> TypeId {
        let bits: Vec<_> = members.iter().map(|(name, of)| (*name, *of, 0)).collect();
        self.aggregate(name, 5 << 24, size, &bits)
    }

    /// A struct whose members may be bit-fields: (name, type, bit offset, width or 0).
    pub(crate) fn bitfields(
        &mut self,
        name: &str,
        size: u32,
        members: &[(&str, TypeId, u32, u32)],
    ) -> TypeId {
        let bits: Vec<_> =
            members.iter().map(|(name, of, bit, width)| (*name, *of, bit | width << 24)).collect();
        self.aggregate(name, 1 << 31 | 4 << 24, size, &bits)
    }

    fn aggregate(&mut self, name: &str, info: u32, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        let mut rest = Vec::new();
        for (name, of, offset) in members {
            rest.extend([self.string(name), of.0, *offset]);
        }
        self.raw(name, info | members.len() as u32, size, &rest)
    }

    pub(crate) fn typedef(&mut self, name: &str, of: TypeId) -> TypeId {
        self.raw(name, 8 << 24, of.0, &[])
    }

    pub(crate) fn constant(&mut self, of: TypeId) -> TypeId {
        self.raw("", 10 << 24, of.0, &[])
    }

    pub(crate) fn func_proto(&mut self, returns: TypeId, params: &[(&str, TypeId)]) -> TypeId {
        let mut rest = Vec::new();
        for (name, of) in params {
            rest.extend([self.string(name), of.0]);
        }
        self.raw("", 13 << 24 | params.len() as u32, returns.0, &rest)
    }

    pub(crate) fn func(&mut self, name: &str, prototype: TypeId) -> TypeId {
        self.raw(name, 12 << 24, prototype.0, &[])
    }

    pub(crate) fn var(&mut self, name: &str, of: TypeId) -> TypeId {
        self.raw(name, 14 << 24, of.0, &[1])
    }

    /// Offset of a new name, for `raw`.
    pub(crate) fn name(&mut self, text: &str) -> u32 {
        self.string(text)
    }

    /// Adds the table of kinds of Linux 7.1: (size once, size per element) by kind.
    pub(crate) fn kinds(&mut self, table: &[(u8, u8)]) {
        self.kinds = Some(table.iter().flat_map(|(once, each)| [*once, *each, 0, 0]).collect());
    }

    pub(crate) fn blob(&self) -> Vec<u8> {
        let header_len: u32 = if self.kinds.is_some() { 32 } else { 24 };
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut words = vec![0x0001_eb9f, header_len, 0, types, types, strings];
        if let Some(kinds) = &self.kinds {
            words.extend([types + strings, kinds.len() as u32]);
        }
        let mut blob: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        blob.extend_from_slice(&self.types);
        blob.extend_from_slice(&self.strings);
        blob.extend_from_slice(self.kinds.as_deref().unwrap_or(&[]));
        blob
    }
}

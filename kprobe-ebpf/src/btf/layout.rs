//! Sizes, and where members are.

use super::types::{Btf, RawMember, Shape, TypeId};
use super::{MissingMember, MissingType};

/// Kernels with BTF that kprobe runs on are 64-bit, and so are BPF programs.
const POINTER: u32 = 8;
/// As deep as the kernel itself follows a chain of types.
const MAX_DEPTH: u32 = 32;
/// Anonymous members that a search may enter; the kernel's largest struct has some hundred.
const MAX_ANONYMOUS: u32 = 10_000;

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost struct. Of a bit-field: of the integer to load.
    pub byte_offset: u32,
    /// Size in bytes; 0 for a flexible array (`type name[];`). Of a bit-field: of the integer to load.
    pub size: u32,
    /// Which bits of the loaded little-endian integer, for a bit-field.
    pub bitfield: Option<Bitfield>,
    /// The member's type.
    pub of: TypeId,
}

/// The bits of a bit-field: `integer >> shift & ((1 << width) - 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitfield {
    /// Bits below it.
    pub shift: u8,
    /// Its own bits, 1 to 64.
    pub width: u8,
}

/// One line of a struct's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name; empty for an anonymous struct or union.
    pub name: &'a str,
    /// Where it is.
    pub member: Member,
}

/// A path that is being followed, for what errors say.
struct Path<'a> {
    structure: &'a str,
    path: &'a str,
}

impl Path<'_> {
    fn nonsense(&self, what: &'static str) -> MissingMember {
        MissingMember::Nonsense { structure: self.structure.into(), path: self.path.into(), what }
    }
}

impl Btf {
    /// Finds a member by its path, for example `("task_struct", "thread_info.status")`.
    ///
    /// Anonymous structs and unions are looked into, typedefs and `const` are seen through, `a[2].b` is the third element's `b`, and
    /// `a.b` on an array is its first element's. Pointers are not followed. If several structs have the name, it is the first.
    ///
    /// # Errors
    ///
    /// [`MissingMember`] says which part of it this kernel does not have.
    pub fn member_offset(&self, structure: &str, path: &str) -> Result<Member, MissingMember> {
        let asked = Path { structure, path };
        let outer =
            self.struct_id(structure).ok_or(MissingMember::NoStruct { structure: structure.into() })?;
        let mut found = Member { byte_offset: 0, size: 0, bitfield: None, of: outer };
        let mut before: Option<&str> = None;
        let parts: Option<Vec<_>> = path.split('.').map(split_index).collect();
        for (name, index) in parts.ok_or_else(|| MissingMember::Path { path: path.into() })? {
            let base = found.byte_offset;
            found = self.field(found.of, before, name, &asked)?;
            if let Some(index) = index {
                found = self.element(found, name, index, &asked)?;
            }
            let sum = base.checked_add(found.byte_offset);
            found.byte_offset = sum.ok_or_else(|| asked.nonsense("an offset beyond 4 GiB"))?;
            before = Some(name);
        }
        Ok(found)
    }

    /// Size of a struct or union in bytes.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn struct_size(&self, structure: &str) -> Result<u32, MissingType> {
        let id = self.struct_id(structure);
        let size = id.and_then(|id| self.size_of(id));
        size.ok_or_else(|| MissingType::NoType { what: "struct", name: structure.into() })
    }

    /// The first struct or union with this name.
    #[must_use]
    pub fn struct_id(&self, name: &str) -> Option<TypeId> {
        self.structs.get(name).copied()
    }

    /// Every struct and union with this name: different ones may share it.
    pub fn structs_named(&self, name: &str) -> impl Iterator<Item = TypeId> {
        let all = (0..).map(TypeId).zip(&self.types);
        let structs = all.filter(|(_, found)| matches!(found.shape, Shape::Struct { .. }));
        structs.filter(move |(_, found)| self.text(found.name) == name).map(|(id, _)| id)
    }

    /// The members of a struct as they are written, anonymous ones included and not looked into.
    ///
    /// # Errors
    ///
    /// If `id` is not a struct or union, or a member makes no sense.
    pub fn members(&self, id: TypeId) -> Result<Vec<Field<'_>>, MissingMember> {
        let structure = self.name(id).unwrap_or("(anonymous)");
        let Shape::Struct { members, bitfields, .. } = self.shape(id) else {
            return Err(MissingMember::NoStruct { structure: structure.into() });
        };
        let members = self.members_in(members).iter();
        let fields = members.map(|raw| {
            let name = self.text(raw.name);
            let member = self.place(raw, *bitfields, &Path { structure, path: name })?;
            Ok(Field { name, member })
        });
        fields.collect()
    }

    /// Size of a type in bytes, typedefs seen through; `None` for one without (`void`, functions, incomplete types).
    #[must_use]
    pub fn size_of(&self, id: TypeId) -> Option<u32> {
        let (mut id, mut times) = (id, 1_u32);
        for _ in 0..MAX_DEPTH {
            id = match self.shape(id) {
                Shape::Int { size, .. } | Shape::Float { size } => return size.checked_mul(times),
                Shape::Struct { size, .. } | Shape::Enum { size, .. } => return size.checked_mul(times),
                Shape::Ptr(_) => return POINTER.checked_mul(times),
                Shape::Array { element, count } => {
                    times = times.checked_mul(*count)?;
                    *element
                }
                Shape::Typedef(of) | Shape::Modifier { of, .. } | Shape::Var(of) => *of,
                _ => return None,
            };
        }
        None
    }

    /// The type behind typedefs, qualifiers and tags; `None` behind an endless chain.
    pub(super) fn resolve(&self, mut id: TypeId) -> Option<TypeId> {
        for _ in 0..MAX_DEPTH {
            match self.shape(id) {
                Shape::Typedef(of) | Shape::Modifier { of, .. } => id = *of,
                _ => return Some(id),
            }
        }
        None
    }

    /// The member `name` of the struct that `of` is or, for an array, consists of.
    fn field(
        &self,
        of: TypeId,
        before: Option<&str>,
        name: &str,
        asked: &Path<'_>,
    ) -> Result<Member, MissingMember> {
        let mut id = of;
        for _ in 0..MAX_DEPTH {
            match self.shape(id) {
                Shape::Typedef(of) | Shape::Modifier { of, .. } => id = *of,
                Shape::Array { element, .. } => id = *element,
                _ => break,
            }
        }
        if !matches!(self.shape(id), Shape::Struct { .. }) {
            return Err(MissingMember::NotAStruct {
                field: before.unwrap_or(asked.structure).into(),
                next: name.into(),
                path: asked.path.into(),
                found: self.type_name(of),
            });
        }
        let mut budget = MAX_ANONYMOUS;
        let found = self.search(id, 0, name, MAX_DEPTH, &mut budget, asked)?;
        found.ok_or_else(|| MissingMember::NoField {
            structure: self.name(id).unwrap_or("(anonymous)").into(),
            field: name.into(),
            path: asked.path.into(),
        })
    }

    /// Depth first through anonymous members, as C does. Depth and work are bounded: a blob may nest without end.
    fn search(
        &self,
        id: TypeId,
        base: u32,
        name: &str,
        depth: u32,
        budget: &mut u32,
        asked: &Path<'_>,
    ) -> Result<Option<Member>, MissingMember> {
        let Shape::Struct { members, bitfields, .. } = self.shape(id) else { return Ok(None) };
        for raw in self.members_in(members) {
            let text = self.text(raw.name);
            if text == name {
                let mut member = self.place(raw, *bitfields, asked)?;
                let sum = base.checked_add(member.byte_offset);
                member.byte_offset = sum.ok_or_else(|| asked.nonsense("an offset beyond 4 GiB"))?;
                return Ok(Some(member));
            }
            let inner = self.resolve(raw.of).unwrap_or(TypeId::VOID);
            if !text.is_empty() || !matches!(self.shape(inner), Shape::Struct { .. }) {
                continue;
            }
            *budget = budget.checked_sub(1).ok_or_else(|| asked.nonsense("too many anonymous members"))?;
            let depth =
                depth.checked_sub(1).ok_or_else(|| asked.nonsense("anonymous members without end"))?;
            let inside = self.place(raw, *bitfields, asked)?;
            let base = base.checked_add(inside.byte_offset);
            let base = base.ok_or_else(|| asked.nonsense("an offset beyond 4 GiB"))?;
            if let Some(found) = self.search(inner, base, name, depth, budget, asked)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn element(
        &self,
        array: Member,
        name: &str,
        index: u32,
        asked: &Path<'_>,
    ) -> Result<Member, MissingMember> {
        let no_element = || MissingMember::NoElement {
            field: name.into(),
            index,
            path: asked.path.into(),
            found: self.type_name(array.of),
        };
        let id = self.resolve(array.of).ok_or_else(no_element)?;
        let Shape::Array { element, count } = self.shape(id) else { return Err(no_element()) };
        // A count of 0 is a flexible array: it has as many elements as were allocated.
        if *count != 0 && index >= *count {
            return Err(no_element());
        }
        let size = self.size_of(*element).ok_or_else(|| asked.nonsense("elements without a size"))?;
        let offset = size.checked_mul(index).and_then(|start| start.checked_add(array.byte_offset));
        let byte_offset = offset.ok_or_else(|| asked.nonsense("an offset beyond 4 GiB"))?;
        Ok(Member { byte_offset, size, bitfield: None, of: *element })
    }

    fn place(&self, raw: &RawMember, bitfields: bool, asked: &Path<'_>) -> Result<Member, MissingMember> {
        let size = self.size_of(raw.of).ok_or_else(|| asked.nonsense("a member without a size"))?;
        let (mut bit, mut width) = (raw.offset, 0);
        if bitfields {
            (bit, width) = (raw.offset & 0xff_ffff, raw.offset >> 24);
        } else if let Some(Shape::Int { size, bit_offset, bits }) =
            self.resolve(raw.of).map(|id| self.shape(id))
        {
            // Before kind_flag, a bit-field was a member of an integer type with fewer bits than its bytes have.
            if u32::from(*bits) != size.saturating_mul(8) {
                bit = bit.saturating_add(u32::from(*bit_offset));
                width = u32::from(*bits);
            }
        }
        if width == 0 {
            if bit % 8 != 0 {
                return Err(asked.nonsense("a member that is no bit-field begins within a byte"));
            }
            return Ok(Member { byte_offset: bit / 8, size, bitfield: None, of: raw.of });
        }
        let (byte_offset, size, shift) =
            load_for(bit, width, size).ok_or_else(|| asked.nonsense("a bit-field that no integer holds"))?;
        // Both are at most 64 here.
        #[expect(clippy::cast_possible_truncation, reason = "load_for bounds both by 64")]
        let bitfield = Some(Bitfield { shift: shift as u8, width: width as u8 });
        Ok(Member { byte_offset, size, bitfield, of: raw.of })
    }
}

/// The aligned integer that holds the bits: that of the declared size if it can, else the smallest that does.
fn load_for(bit: u32, width: u32, declared: u32) -> Option<(u32, u32, u32)> {
    let fits = |size: u32| {
        let unit = size * 8;
        let shift = bit % unit;
        (shift + width <= unit).then_some((bit / unit * size, size, shift))
    };
    let declared = [1, 2, 4, 8].into_iter().find(|size| *size == declared);
    declared.and_then(fits).or_else(|| [1, 2, 4, 8].into_iter().find_map(fits))
}

/// `name` or `name[index]`.
fn split_index(part: &str) -> Option<(&str, Option<u32>)> {
    let (name, index) = match part.strip_suffix(']') {
        Some(rest) => {
            let (name, index) = rest.split_once('[')?;
            (name, Some(index.parse().ok()?))
        }
        None => (part, None),
    };
    let plain = !name.is_empty() && !name.contains(['[', ']']);
    plain.then_some((name, index))
}

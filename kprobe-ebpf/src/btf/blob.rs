//! From bytes to [`Btf`]. The layout is that of the kernel's `include/uapi/linux/btf.h`.

use std::collections::HashMap;
use std::ops::Range;

use super::BtfError;
use super::types::{Btf, Constant, Name, RawMember, RawParam, Shape, Type, TypeId};

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: u32 = 24;
/// Since Linux 7.1 the header also says where the table of kinds is.
const HEADER_LEN_LAYOUT: u32 = 32;
const LAST_KIND: u8 = 19;

impl Btf {
    /// Reads BTF: the whole of `/sys/kernel/btf/vmlinux`, or the section `.BTF` of an object file.
    ///
    /// # Errors
    ///
    /// If the bytes are not complete, consistent BTF in this machine's byte order; the error says where and why.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let header = Header::read(bytes)?;
        let strings = strings(bytes, &header.strings)?;
        let kinds = Reader { bytes, at: header.kinds.start, end: header.kinds.end };
        let reader = Reader { bytes, at: header.types.start, end: header.types.end };
        let mut parser = Parser {
            reader,
            kinds,
            refs: Vec::new(),
            btf: Self {
                types: vec![Type { name: Name(0), shape: Shape::Void }],
                members: Vec::new(),
                params: Vec::new(),
                constants: Vec::new(),
                strings,
                structs: HashMap::new(),
            },
        };
        while parser.reader.at < parser.reader.end {
            parser.next_type()?;
        }
        parser.finish()
    }
}

/// Where the sections are, in bytes from the start of the input.
struct Header {
    types: Range<usize>,
    strings: Range<usize>,
    kinds: Range<usize>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut reader = Reader { bytes, at: 0, end: bytes.len() };
        let magic = reader.u16("the magic number")?;
        if magic != MAGIC {
            let expected = if magic == MAGIC.swap_bytes() {
                "0xeb9f (it is byte-swapped: from a machine of the other byte order)"
            } else {
                "0xeb9f"
            };
            return Err(BtfError::Header {
                what: "the magic number",
                offset: 0,
                expected,
                found: magic.into(),
            });
        }
        let version = reader.u8("the version")?;
        if version != 1 {
            let (what, expected) = ("the version", "1");
            return Err(BtfError::Header { what, offset: 2, expected, found: version.into() });
        }
        reader.u8("the flags")?;
        let len = reader.u32("the header length")?;
        if len < HEADER_LEN {
            let (what, expected) = ("the header length", "24 or more");
            return Err(BtfError::Header { what, offset: 4, expected, found: len.into() });
        }
        let types = reader.section(len, "the types")?;
        let strings = reader.section(len, "the strings")?;
        let kinds = if len >= HEADER_LEN_LAYOUT { reader.section(len, "the table of kinds")? } else { 0..0 };
        Ok(Self { types, strings, kinds })
    }
}

fn strings(bytes: &[u8], range: &Range<usize>) -> Result<String, BtfError> {
    let section = bytes.get(range.clone()).unwrap_or(&[]);
    if section.first() != Some(&0) {
        return Err(BtfError::Strings { offset: range.start });
    }
    if section.last() != Some(&0) {
        return Err(BtfError::Strings { offset: range.end });
    }
    match std::str::from_utf8(section) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(BtfError::Strings { offset: range.start + error.valid_up_to() }),
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    kinds: Reader<'a>,
    /// References to types not read yet, with the place of each.
    refs: Vec<(u32, u32)>,
    btf: Btf,
}

impl Parser<'_> {
    fn next_type(&mut self) -> Result<(), BtfError> {
        let start = self.reader.at;
        let id = TypeId(self.count());
        let name = self.name()?;
        let info = self.reader.u32("a type")?;
        // 24 and 7 bits since Linux 7.1; before, 16 and 5 bits with zeros between.
        let (len, kind, flag) = (info & 0xff_ffff, (info >> 24 & 0x7f) as u8, info >> 31 != 0);
        let word_at = self.reader.at;
        let word = self.reader.u32("a type")?;
        let shape = match kind {
            1 => self.int(word)?,
            2 => Shape::Ptr(self.reference(word, word_at)),
            3 => self.array()?,
            4 | 5 => {
                Shape::Struct { size: word, members: self.members(len)?, bitfields: flag, union: kind == 5 }
            }
            6 => Shape::Enum { size: word, constants: self.constants(len, flag, false)? },
            7 => Shape::Forward { union: flag },
            8 => Shape::Typedef(self.reference(word, word_at)),
            9 => self.modifier("volatile", word, word_at),
            10 => self.modifier("const", word, word_at),
            11 => self.modifier("restrict", word, word_at),
            12 => Shape::Func(self.reference(word, word_at)),
            13 => self.func_proto(len, word, word_at)?,
            14 => {
                self.reader.u32("the linkage of a variable")?;
                Shape::Var(self.reference(word, word_at))
            }
            15 => self.data_section(len)?,
            16 => Shape::Float { size: word },
            17 => {
                self.reference(word, word_at);
                self.reader.u32("the index of a tag")?;
                Shape::DeclTag
            }
            18 => self.modifier("", word, word_at),
            19 => Shape::Enum { size: word, constants: self.constants(len, flag, true)? },
            kind => self.unknown(id, start, kind, len)?,
        };
        if let Shape::Struct { .. } = shape {
            let text = self.btf.text(name);
            if !text.is_empty() && !self.btf.structs.contains_key(text) {
                self.btf.structs.insert(text.into(), id);
            }
        }
        self.btf.types.push(Type { name, shape });
        Ok(())
    }

    fn int(&mut self, size: u32) -> Result<Shape, BtfError> {
        let [bits, _, bit_offset, _] = self.reader.u32("the encoding of an integer")?.to_le_bytes();
        Ok(Shape::Int { size, bit_offset, bits })
    }

    fn array(&mut self) -> Result<Shape, BtfError> {
        let element_at = self.reader.at;
        let element = self.reader.u32("an array")?;
        let index_at = self.reader.at;
        let index = self.reader.u32("an array")?;
        let count = self.reader.u32("an array")?;
        self.reference(index, index_at);
        Ok(Shape::Array { element: self.reference(element, element_at), count })
    }

    fn modifier(&mut self, keyword: &'static str, word: u32, at: usize) -> Shape {
        Shape::Modifier { keyword, of: self.reference(word, at) }
    }

    fn members(&mut self, len: u32) -> Result<Range<u32>, BtfError> {
        self.reader.room(len, 12, "the members of a struct")?;
        let start = index(self.btf.members.len());
        for _ in 0..len {
            let name = self.name()?;
            let of_at = self.reader.at;
            let of = self.reader.u32("a member")?;
            let offset = self.reader.u32("a member")?;
            let of = self.reference(of, of_at);
            self.btf.members.push(RawMember { name, of, offset });
        }
        Ok(start..index(self.btf.members.len()))
    }

    fn func_proto(&mut self, len: u32, returns: u32, at: usize) -> Result<Shape, BtfError> {
        let returns = self.reference(returns, at);
        self.reader.room(len, 8, "the parameters of a function")?;
        let start = index(self.btf.params.len());
        for _ in 0..len {
            let name = self.name()?;
            let of_at = self.reader.at;
            let of = self.reader.u32("a parameter")?;
            let of = self.reference(of, of_at);
            self.btf.params.push(RawParam { name, of });
        }
        Ok(Shape::FuncProto { returns, params: start..index(self.btf.params.len()) })
    }

    fn constants(&mut self, len: u32, signed: bool, wide: bool) -> Result<Range<u32>, BtfError> {
        self.reader.room(len, if wide { 12 } else { 8 }, "the constants of an enumeration")?;
        let start = index(self.btf.constants.len());
        for _ in 0..len {
            let name = self.name()?;
            let low = self.reader.u32("a constant")?;
            let value = match (wide, signed) {
                (true, _) => (u64::from(self.reader.u32("a constant")?) << 32 | u64::from(low)).cast_signed(),
                (false, true) => i64::from(low.cast_signed()),
                (false, false) => i64::from(low),
            };
            self.btf.constants.push(Constant { name, value });
        }
        Ok(start..index(self.btf.constants.len()))
    }

    fn data_section(&mut self, len: u32) -> Result<Shape, BtfError> {
        self.reader.room(len, 12, "the variables of a section")?;
        for _ in 0..len {
            let at = self.reader.at;
            let of = self.reader.u32("a variable of a section")?;
            self.reference(of, at);
            self.reader.u32("a variable of a section")?;
            self.reader.u32("a variable of a section")?;
        }
        Ok(Shape::DataSection)
    }

    /// A kind newer than this reader is skipped if the blob tells how long it is.
    fn unknown(&mut self, id: TypeId, offset: usize, kind: u8, len: u32) -> Result<Shape, BtfError> {
        let entry = self.kinds.at.checked_add(usize::from(kind) * 4);
        let known = match entry {
            Some(at) if kind > LAST_KIND => Reader { at, ..self.kinds }.u16("the table of kinds").ok(),
            _ => None,
        };
        let Some(lens) = known else {
            return Err(BtfError::Kind { id: id.0, offset, expected: LAST_KIND, found: kind });
        };
        let [once, each] = lens.to_le_bytes();
        self.reader.skip(u64::from(once) + u64::from(each) * u64::from(len), "a type of a new kind")?;
        Ok(Shape::Unknown)
    }

    fn name(&mut self) -> Result<Name, BtfError> {
        let offset = self.reader.at;
        let found = self.reader.u32("a name")?;
        let strings = &self.btf.strings;
        if (found as usize) < strings.len() && strings.is_char_boundary(found as usize) {
            return Ok(Name(found));
        }
        Err(BtfError::Name { offset, expected: strings.len() as u64, found })
    }

    /// Types may be used before they are defined: those are looked at again in the end.
    fn reference(&mut self, found: u32, at: usize) -> TypeId {
        if found >= self.count() {
            self.refs.push((found, index(at)));
        }
        TypeId(found)
    }

    fn count(&self) -> u32 {
        index(self.btf.types.len())
    }

    fn finish(self) -> Result<Btf, BtfError> {
        let count = self.count();
        for (found, at) in self.refs {
            if found >= count {
                return Err(BtfError::TypeRef { offset: at as usize, expected: count - 1, found });
            }
        }
        Ok(self.btf)
    }
}

/// Sections are at most 4 GiB long and every entry is at least 8 bytes, so positions and counts fit.
fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A cursor over `bytes` that ends at `end`, however long the input is.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BtfError> {
        let rest: &'a [u8] = self.bytes.get(self.at..self.end).unwrap_or(&[]);
        match rest.first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.truncated(what, N as u64)),
        }
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, BtfError> {
        Ok(self.take::<1>(what)?[0])
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, BtfError> {
        Ok(u16::from_le_bytes(self.take(what)?))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, BtfError> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    /// Refuses a count that the input cannot hold before anything is reserved for it.
    fn room(&self, count: u32, each: u64, what: &'static str) -> Result<(), BtfError> {
        let expected = u64::from(count) * each;
        if expected > self.rest() { Err(self.truncated(what, expected)) } else { Ok(()) }
    }

    fn skip(&mut self, len: u64, what: &'static str) -> Result<(), BtfError> {
        match usize::try_from(len) {
            Ok(len) if len as u64 <= self.rest() => {
                self.at += len;
                Ok(())
            }
            _ => Err(self.truncated(what, len)),
        }
    }

    fn rest(&self) -> u64 {
        self.end.saturating_sub(self.at) as u64
    }

    fn truncated(&self, what: &'static str, expected: u64) -> BtfError {
        BtfError::Truncated { what, offset: self.at, expected, found: self.rest() }
    }

    /// A section that the header describes by its distance from the header's end and its length.
    fn section(&mut self, header: u32, what: &'static str) -> Result<Range<usize>, BtfError> {
        let offset = u64::from(self.u32(what)?) + u64::from(header);
        let len = u64::from(self.u32(what)?);
        let all = self.bytes.len() as u64;
        if offset + len > all {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            return Err(BtfError::Truncated {
                what,
                offset: at,
                expected: len,
                found: all.saturating_sub(offset),
            });
        }
        // Both are within the input, whose length is a usize.
        Ok(usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(offset + len).unwrap_or(usize::MAX))
    }
}

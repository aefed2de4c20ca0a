/// The contents of a section of a 64-bit little-endian ELF file, such as `.BTF` of a program object; `None` if it is
/// not there or the file is not such a file.
#[must_use]
pub fn elf_section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    if elf.get(..4)? != b"\x7fELF" || *elf.get(4)? != CLASS_64 || *elf.get(5)? != LITTLE_ENDIAN {
        return None;
    }
    let table = long(elf, 0x28)?;
    let (entry, count, names) = (half(elf, 0x3a)?, half(elf, 0x3c)?, half(elf, 0x3e)?);
    let header = |index: usize| elf.get(table.checked_add(index.checked_mul(entry)?)?..);
    let contents = |header: &[u8]| {
        let (start, len) = (long(header, 0x18)?, long(header, 0x20)?);
        elf.get(start..start.checked_add(len)?)
    };
    let names = contents(header(names)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let text = names.get(usize::try_from(u32::from_le_bytes(*header.first_chunk()?)).ok()?..)?;
        let is_it = text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0);
        if is_it { contents(header) } else { None }
    })
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

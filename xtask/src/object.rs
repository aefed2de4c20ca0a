//! The built ELF object: without what no loader reads, and where two of them differ.

use anyhow::{Context as _, Result};
use object::{
    Object as _, ObjectSection as _,
    build::{
        ByteString,
        elf::{Builder, SectionData},
    },
};

/// The object without what no loader reads: DWARF, and the relocations of BTF, whose values are in place already. Nine tenths of its bytes.
pub(crate) fn for_loaders(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).context("the linker's output is no ELF object")?;
    for section in &mut builder.sections {
        let name = &section.name[..];
        section.delete =
            [&b".debug_"[..], b".rel.debug_", b".rel.BTF"].iter().any(|unread| name.starts_with(unread));
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the writer wants two.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ByteString::from(&b".shstrtab"[..]);
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the object without the sections that no loader reads")?;
    Ok(stripped)
}

/// One line per section that is not the same in both.
pub(crate) fn difference(name: &str, committed: &[u8], built: &[u8]) -> String {
    let head = format!("{name}: {} bytes committed, {} built", committed.len(), built.len());
    let (Ok(a), Ok(b)) = (object::File::parse(committed), object::File::parse(built)) else {
        return match (std::str::from_utf8(committed), std::str::from_utf8(built)) {
            (Ok(a), Ok(b)) => format!("{head}\n{}", lines(a, b)),
            _ => format!("{head}; not both are ELF objects"),
        };
    };
    let mut names: Vec<String> = Vec::new();
    for section in a.sections().chain(b.sections()) {
        let section = section.name().unwrap_or("?").to_owned();
        if !names.contains(&section) {
            names.push(section);
        }
    }
    let differing: Vec<String> =
        names.iter().filter_map(|section| section_difference(&a, &b, section)).collect();
    if differing.is_empty() {
        return format!("{head}; every section is the same: the headers or the symbol table differ");
    }
    format!("{head}\n{}", differing.join("\n"))
}

fn section_difference(a: &object::File<'_>, b: &object::File<'_>, name: &str) -> Option<String> {
    let bytes = |file: &object::File<'_>| {
        file.section_by_name(name).map(|section| section.data().map(<[u8]>::to_vec).unwrap_or_default())
    };
    match (bytes(a), bytes(b)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(a), Some(b)) => {
            let at = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
            Some(format!("    {name}: {} and {} bytes, first difference at byte {at}", a.len(), b.len()))
        }
        (Some(a), None) => Some(format!("    {name}: only committed ({} bytes)", a.len())),
        (None, Some(b)) => Some(format!("    {name}: only built ({} bytes)", b.len())),
        (None, None) => None,
    }
}

fn lines(a: &str, b: &str) -> String {
    let only = |one: &str, other: &str, mark: char| {
        one.lines()
            .filter(|line| !other.lines().any(|l| l == *line))
            .map(|line| format!("    {mark} {line}\n"))
            .collect::<String>()
    };
    format!("{}{}", only(a, b, '-'), only(b, a, '+')).trim_end().to_owned()
}

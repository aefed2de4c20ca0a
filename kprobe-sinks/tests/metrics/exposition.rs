//! The text format 0.0.4, read as strictly as it is written down.

use std::collections::{BTreeMap, BTreeSet};

/// A metric by its name.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// By labels.
    pub(crate) series: BTreeMap<BTreeMap<String, String>, f64>,
}

/// Reads a page; whatever is not as it should be is a panic.
pub(crate) fn read(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let family = Family { help: help.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            if name != current {
                assert!(families.insert(name.to_owned(), Family::default()).is_none(), "{name} comes twice");
                name.clone_into(&mut current);
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.kind.is_empty() && family.series.is_empty(), "{line}");
            kind.clone_into(&mut family.kind);
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (name, labels, value) = sample(line);
            assert_eq!(name, current, "a sample among those of another name: {line}");
            let family = families.get_mut(name).unwrap();
            assert!(!family.kind.is_empty(), "a sample before its type: {line}");
            assert!(family.series.insert(labels, value).is_none(), "comes twice: {line}");
        }
    }
    families
}

fn sample(line: &str) -> (&str, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert_name(name);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        let mut names = BTreeSet::new();
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert_name(label);
            assert!(names.insert(label), "{line}");
            let (value, after) = quoted(after);
            labels.insert(label.to_owned(), value);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap();
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "a time stamp: {line}");
    (name, labels, value.parse().unwrap())
}

/// Up to the closing quote, and what is behind it.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    loop {
        match chars.next().unwrap() {
            (at, '"') => return (value, &text[at + 1..]),
            (_, '\\') => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => panic!("\\{other} is no escape"),
            }),
            (_, other) => value.push(other),
        }
    }
}

fn assert_name(name: &str) {
    let mut chars = name.chars();
    let first = chars.next().unwrap();
    assert!(first.is_ascii_lowercase(), "{name}");
    assert!(chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
}

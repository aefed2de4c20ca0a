//! The committed schema is what the tables of fields give, every line follows it, and wrong lines do not.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use crate::support::{batch, everything, info, schema::generate};
use kprobe_core::{
    abi::Header,
    event::Registry,
    pipeline::{Ledger, ProbeRow, Sink},
};
use kprobe_sinks::stdout::{COMMON_FIELDS, END_FIELDS, JsonSink, START_FIELDS, describe_events};
use serde_json::{Value, json};
use zerocopy::FromBytes as _;

fn docs(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path)
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&generate(&Registry::builtin())).expect("the schema is one")
}

/// Every line that a stream of everything has, without the user's own events.
fn lines() -> Vec<Value> {
    let mut bytes = Vec::new();
    let mut sink = JsonSink::new(&mut bytes, &info(), &Registry::builtin()).with_seeds(true);
    sink.write(&batch(&everything())).expect("a Vec takes everything");
    let probe = ProbeRow { probe: "syscall".to_owned(), cpu: Some(0), submitted: 9, lost: 1, sampled_out: 2 };
    let ledger = Ledger::new(vec![probe], Vec::new(), Vec::new());
    sink.finish(&ledger, Some("torn at byte 17")).expect("a Vec takes everything");
    drop(sink);
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

#[test]
fn the_committed_schema_is_generated() {
    let path = docs("schema/kprobe-events-v1.schema.json");
    let generated = format!("{:#}\n", generate(&Registry::builtin()));
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &generated).expect("docs/schema can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{} is out of date: run this test with UPDATE=1", path.display());
}

/// Records of a kind all have the same length, in the ring of 8 bytes more.
#[test]
fn the_bytes_of_each_event_are_documented() {
    const BEGIN: &str = "<!-- bytes:begin -->\n";
    let path = docs("src/overhead.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the begin of the table");
    let (_, after) = rest.split_once("<!-- bytes:end -->").expect("its end");
    let mut table = String::from("| event | bytes |\n|---|---|\n");
    let samples = everything();
    for (kind, entry) in Registry::builtin().iter().filter(|(kind, _)| kind.slot().is_some()) {
        let of = samples.iter().filter(|sample| {
            Header::read_from_prefix(&sample.bytes).is_ok_and(|(header, _)| header.kind == kind.0)
        });
        let lengths: BTreeSet<_> = of.map(|sample| sample.bytes.len()).collect();
        let length = lengths.first().expect("a sample of each kind");
        assert_eq!(lengths.len(), 1, "{}: {lengths:?}", entry.name);
        table += &format!("| `{}` | {length} |\n", entry.name);
    }
    let generated = format!("{before}{BEGIN}{table}<!-- bytes:end -->{after}");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &generated).expect("the page can be written");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == generated, "{} is out of date: run this test with UPDATE=1", path.display());
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::meta::is_valid(&generate(&Registry::builtin())));
}

#[test]
fn every_line_follows_the_schema() {
    let validator = validator();
    let lines = lines();
    for line in &lines {
        if let Err(error) = validator.validate(line) {
            panic!("{error}\n{line}");
        }
    }
    for (_, entry) in Registry::builtin().iter() {
        assert!(lines.iter().any(|line| line["kind"] == entry.name), "no line of {}", entry.name);
    }
    assert_eq!(lines.first().map(|line| &line["kind"]), Some(&json!("meta.start")));
    assert_eq!(lines.last().map(|line| &line["kind"]), Some(&json!("meta.end")));
}

/// For each field of each line: without it, with another type, and with one more field.
#[test]
fn wrong_lines_do_not() {
    let validator = validator();
    let schema = generate(&Registry::builtin());
    for line in lines() {
        let kind = line["kind"].as_str().expect("kind is text");
        let required = schema["$defs"][kind]["required"].as_array().expect("a list");
        let object = line.as_object().expect("a line is an object");
        for (name, value) in object {
            let mut without = object.clone();
            without.remove(name);
            let needed = required.iter().any(|required| required == name);
            assert_eq!(validator.is_valid(&without.into()), !needed, "{kind} without {name}");

            let wrong = if value.is_string() { json!(1) } else { json!("1") };
            let mut changed = object.clone();
            changed.insert(name.clone(), wrong);
            assert!(!validator.is_valid(&changed.clone().into()), "{kind} with another {name}");
            changed.insert(name.clone(), Value::Null);
            assert!(!validator.is_valid(&changed.into()), "{kind} with {name} null");
        }
        let mut more = object.clone();
        more.insert("surprise".to_owned(), json!(1));
        assert!(!validator.is_valid(&more.into()), "{kind} with a field more");
    }
    assert!(!validator.is_valid(&json!({ "kind": "no.such" })));
    assert!(!validator.is_valid(&json!({})));
}

#[test]
fn the_lines_in_the_docs_follow_the_schema() {
    let validator = validator();
    let page = fs::read_to_string(docs("src/json.md")).expect("docs/src/json.md is there");
    let pages =
        fs::read_dir(docs("src")).expect("docs/src is there").map(|page| page.expect("a page").path());
    let texts: Vec<_> = pages.map(|page| fs::read_to_string(page).expect("a page is text")).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    let examples: Vec<_> = lines.filter(|line| line.starts_with("{\"kind\"")).collect();
    for line in &examples {
        let line = serde_json::from_str(line).expect("an example is JSON");
        if let Err(error) = validator.validate(&line) {
            panic!("{error}\n{line}");
        }
    }
    for (_, entry) in Registry::builtin().iter() {
        assert!(
            examples.iter().any(|line| line.contains(&format!("\"{}\"", entry.name))),
            "no {}",
            entry.name
        );
    }
    for field in [COMMON_FIELDS, START_FIELDS, END_FIELDS].concat() {
        assert!(page.contains(&format!("| `{}` |", field.name)), "{} is not explained", field.name);
    }
}

#[test]
fn the_table_of_events_has_every_field() {
    let registry = Registry::builtin();
    let table = describe_events(&registry).to_string();
    for (_, entry) in registry.iter() {
        assert!(table.contains(&format!("\n{}\n", entry.name)));
        for field in entry.fields {
            assert!(table.contains(&format!("  {} ", field.name)) && table.contains(field.doc));
        }
    }
    assert!(
        table.contains(
            "  duration_ns      unsigned * from entry to return, in ns; absent if it never returns\n"
        )
    );
    assert!(table.lines().all(|line| line.len() <= 110 && line.trim_end() == line), "{table}");
}

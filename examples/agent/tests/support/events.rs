//! The lines of JSON, held against the schema and the books.

use std::sync::LazyLock;

use serde_json::Value;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = include_str!("../../../../docs/schema/kprobe-events-v1.schema.json");
    jsonschema::draft202012::new(&serde_json::from_str(schema).unwrap()).unwrap()
});

/// A whole stream: every line valid, `meta.start` first, `meta.end` last, nothing lost or unaccounted for.
pub fn lossless(text: &str) -> Vec<Value> {
    let (events, end) = stream(text);
    assert_eq!(end["lost"], 0, "{end}");
    assert_eq!(end["complete"], true, "{end}");
    assert!(!events.iter().any(|event| event["kind"] == "meta.lost"));
    events
}

/// The events between `meta.start` and `meta.end`, and the latter, whose sums are right.
pub fn stream(text: &str) -> (Vec<Value>, Value) {
    assert!(text.ends_with('\n'), "half a line at the end: {text}");
    let mut events: Vec<Value> = text.lines().map(line).collect();
    let end = events.pop().unwrap();
    let start = events.remove(0);
    assert_eq!(start["kind"], "meta.start");
    assert_eq!(end["kind"], "meta.end");
    assert_eq!(end["balance"], 0, "{end}");
    assert_eq!(end["delivered"], events.len());
    let number = |name: &str| end[name].as_u64().unwrap();
    let sum = ["delivered", "lost", "dropped", "undecodable"].map(number).iter().sum::<u64>();
    assert_eq!(number("submitted"), sum, "{end}");
    (events, end)
}

/// One line, which follows the schema.
pub fn line(text: &str) -> Value {
    let line = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if let Err(error) = SCHEMA.validate(&line) {
        panic!("{error}\n{text}");
    }
    line
}

/// Those of one kind.
pub fn of_kind<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["kind"] == kind)
}

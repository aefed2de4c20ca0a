//! The JSON Schema of the lines, from the tables of fields.

use kprobe_core::{
    abi::{Family, Kind},
    event::{Entry, Field, Registry, Type},
};
use kprobe_sinks::stdout::{COMMON_FIELDS, END_FIELDS, SCHEMA_VERSION, START_FIELDS};
use serde_json::{Map, Value, json};

/// What every line of a record that the kernel made has.
const OF_THE_KERNEL: [&str; 4] = ["cpu", "tgid", "tid", "seq"];

/// The schema for the events of `registry`.
pub(crate) fn generate(registry: &Registry) -> Value {
    let mut defs = Map::new();
    defs.insert("meta.start".to_owned(), object("meta.start", START_FIELDS.iter().copied()));
    for (kind, entry) in registry.iter() {
        defs.insert(entry.name.to_owned(), of_kind(kind, entry));
    }
    defs.insert("meta.end".to_owned(), object("meta.end", END_FIELDS.iter().copied()));
    let one_of: Vec<_> = defs.keys().map(|name| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("A line of kprobe's JSON, schema version {SCHEMA_VERSION}"),
        "description": "Generated from the tables of fields in the sources; see docs/src/json.md. Later versions can add kinds and fields, so a reader skips what it does not know.",
        "oneOf": one_of,
        "$defs": defs,
    })
}

fn of_kind(kind: Kind, entry: &Entry) -> Value {
    let own = |name: &str| entry.fields.iter().any(|field| field.name == name);
    let from_kernel = kind.family() != Some(Family::Meta);
    let common = COMMON_FIELDS.iter().filter(|field| !own(field.name)).map(|field| Field {
        optional: field.optional && !(from_kernel && OF_THE_KERNEL.contains(&field.name)),
        ..*field
    });
    object(entry.name, common.chain(entry.fields.iter().copied()))
}

fn object(kind: &str, fields: impl Iterator<Item = Field>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = match (field.name, field.ty) {
            ("kind", _) => json!({ "const": kind }),
            ("time", _) => json!({
                "type": "string",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$",
            }),
            (_, Type::U64) => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
            (_, Type::I64) => json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
            (_, Type::Bool) => json!({ "type": "boolean" }),
            (_, Type::Pairs) => {
                let number = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
                let pair = json!({ "type": "array", "items": number, "minItems": 2, "maxItems": 2 });
                json!({ "type": "array", "items": pair })
            }
            _ => json!({ "type": "string" }),
        };
        schema["description"] = field.doc.into();
        properties.insert(field.name.to_owned(), schema);
        if !field.optional {
            required.push(field.name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

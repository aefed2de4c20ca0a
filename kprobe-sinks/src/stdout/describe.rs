use std::fmt;

use kprobe_core::event::{Field, Registry, Type};

use super::COMMON_FIELDS;

/// A table of all events of `registry` with their fields, for help texts.
pub fn describe_events(registry: &Registry) -> impl fmt::Display {
    Description { events: registry.iter().map(|(_, entry)| (entry.name, entry.fields)).collect() }
}

struct Description {
    events: Vec<(&'static str, &'static [Field])>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every event (* where known)\n")?;
        describe_fields(f, COMMON_FIELDS)?;
        for (name, fields) in &self.events {
            write!(f, "\n{name}\n")?;
            describe_fields(f, fields)?;
        }
        Ok(())
    }
}

fn describe_fields(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    for field in fields {
        let ty = match field.ty {
            Type::U64 => "unsigned",
            Type::I64 => "integer",
            Type::Bool => "boolean",
            Type::Pairs => "pairs",
            _ => "text",
        };
        let mark = if field.optional { '*' } else { ' ' };
        writeln!(f, "  {:<16} {ty:<8} {mark} {}", field.name, field.doc)?;
    }
    Ok(())
}

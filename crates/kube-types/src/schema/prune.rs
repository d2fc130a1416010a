//! Dropping what a schema doesn't know, and the nulls and empty lists that the original never stores.

use serde_json::{Map, Value};

use super::{Format, Kind, Schema};
use crate::field::{Path, go_quote};
use crate::quantity::Quantity;
use crate::time::Timestamp;

/// So many unknown fields are named; the rest is dropped in silence.
const REPORTED_MAX: usize = 100;

/// Drops fields that the schema lacks; says which, as strict decoding prints it: `unknown field "spec.foo"`.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(schema, object, Path::ROOT, &mut found);
    found
}

fn visit(schema: &Schema, value: &mut Value, path: Path<'_>, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            drop_unknown(schema, map, path, found);
            for (name, value) in map.iter_mut() {
                if let Some(child) = schema.child(name) {
                    visit(child, value, path.field(name), found);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    visit(item_schema, item, path.index(index), found);
                }
            }
        }
        _ => {}
    }
}

fn drop_unknown(
    schema: &Schema,
    map: &mut Map<String, Value>,
    path: Path<'_>,
    found: &mut Vec<String>,
) {
    if schema.preserve_unknown || schema.additional.is_some() || schema.kind == Kind::Any {
        return;
    }
    let embedded =
        |name: &str| schema.embedded_resource && matches!(name, "apiVersion" | "kind" | "metadata");
    // A map without any schema of its entries is an object whose fields nobody named: nothing is known, all goes.
    map.retain(|name, _| {
        let keep = schema.properties.contains_key(name) || embedded(name);
        if !keep && found.len() < REPORTED_MAX {
            found.push(format!(
                "unknown field {}",
                go_quote(&path.field(name).to_string())
            ));
        }
        keep
    });
}

/// Drops nulls, and empty texts, lists and maps where they mean the same as nothing, and writes amounts and times in their
/// canonical form, as decoding into the original's types does. For built-in kinds.
pub fn normalize(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| match value {
                Value::Null => schema.kind == Kind::Any,
                Value::Bool(false) => !is_omitted(schema, name),
                Value::String(text) if text.is_empty() => !is_omitted(schema, name),
                Value::Number(number) if number.as_i64() == Some(0) => !is_omitted(schema, name),
                Value::Array(items) if items.is_empty() => keeps_empty(schema, name),
                // An empty map of entries is nothing; an empty object is a choice that was made (`emptyDir: {}`).
                Value::Object(entries) if entries.is_empty() => schema
                    .child(name)
                    .is_none_or(|child| child.additional.is_none()),
                _ => true,
            });
            for (name, value) in map.iter_mut() {
                if let Some(child) = schema.child(name) {
                    normalize(child, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| normalize(schema, item));
            }
        }
        Value::String(_) | Value::Number(_) => canonical(schema.format, value),
        _ => {}
    }
}

fn is_omitted(schema: &Schema, name: &str) -> bool {
    schema.omitted_when_zero.contains(&name)
}

/// Amounts and times are stored in one form, however they were written.
fn canonical(format: Format, value: &mut Value) {
    let text = match format {
        Format::Quantity => Quantity::from_value(value).ok().map(|q| q.to_string()),
        Format::DateTime => value
            .as_str()
            .and_then(Timestamp::parse)
            .map(Timestamp::to_seconds_text),
        Format::MicroTime => value
            .as_str()
            .and_then(Timestamp::parse)
            .map(Timestamp::to_micros_text),
        _ => None,
    };
    if let Some(text) = text.filter(|text| value != text.as_str()) {
        *value = text.into();
    }
}

/// Whether an empty list is kept: required lists are, and those inside values of no schema.
fn keeps_empty(schema: &Schema, name: &str) -> bool {
    schema.required.iter().any(|r| r == name)
        || schema.child(name).is_none_or(|c| c.kind != Kind::Array)
}

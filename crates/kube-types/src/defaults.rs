//! The defaults of built-in kinds, filled in when an object is decoded.
//!
//! A rule belongs to a type, not to a kind: a pod's template has the defaults of a pod wherever it is. Defaults are the
//! same for one object however often they are applied.

mod kinds;
mod pod;
mod service;
mod workload;

use serde_json::{Map, Value};

use crate::object::fill;
use crate::resources::Resource;
use crate::schema::{Format, Kind, Schema};

/// Fills in the defaults of the object's kind.
pub fn apply(resource: &Resource, object: &mut Value) {
    if resource.custom {
        crate::schema::default(&resource.schema, object);
    } else {
        visit(&resource.schema, object);
    }
}

/// Fills in the defaults of a built-in definition, as that of a subresource's kind.
pub fn apply_schema(schema: &Schema, object: &mut Value) {
    visit(schema, object);
}

fn visit(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if !schema.name.is_empty() {
                rule(schema, map);
            }
            for (name, value) in map.iter_mut() {
                match schema.child(name) {
                    Some(child) if leads_on(child) => visit(child, value),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_ref().filter(|s| leads_on(s)) {
                items.iter_mut().for_each(|item| visit(schema, item));
            }
        }
        _ => {}
    }
}

/// Whether defaults may be inside: texts and numbers have none, and metadata has none.
fn leads_on(schema: &Schema) -> bool {
    matches!(schema.kind, Kind::Object | Kind::Array)
        && schema.name != "ObjectMeta"
        && schema.format == Format::None
}

fn rule(schema: &Schema, map: &mut Map<String, Value>) {
    let _ = pod::rule(schema.name, map)
        || service::rule(schema, map)
        || workload::rule(schema, map)
        || kinds::rule(schema, map);
}

/// The field as an object, if it is one.
fn object<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

/// The field as an object, made if absent.
fn made<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    fill(map, field, Map::new());
    object(map, field)
}

/// Sets a field that is absent, null, or the empty text or zero that mean the same.
fn fill_empty(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    let empty = match map.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if empty {
        map.insert(field.to_owned(), value.into());
    }
}

/// The text of a field, or empty.
fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Checking custom objects against their schema's types and limits, in the original's words.

mod combine;
mod formats;
mod limits;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Format, Kind, ListType, Schema};
use crate::field::{FieldError, Path};

/// So many faults are told; a body can't make the answer grow without bound.
const REPORTED_MAX: usize = 100;

/// Everything wrong with a value by its schema: types, required fields, limits, repeated items.
pub fn check(schema: &Schema, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(schema, value, Path::ROOT, &mut errors);
    errors
}

/// As [`check`], but faults that the old value has at the same place with the same value are let pass.
pub fn check_update(schema: &Schema, new: &Value, old: &Value) -> Vec<FieldError> {
    let errors = check(schema, new);
    if errors.is_empty() {
        return errors;
    }
    let before = check(schema, old);
    errors
        .into_iter()
        .filter(|error| error.kind == crate::FieldErrorKind::Required || !before.contains(error))
        .collect()
}

fn visit(schema: &Schema, value: &Value, path: Path<'_>, errors: &mut Vec<FieldError>) {
    if errors.len() >= REPORTED_MAX || (value.is_null() && schema.nullable) {
        return;
    }
    if !type_fits(schema, value) {
        errors.push(type_error(schema, value, &path));
        return;
    }
    if let Some(limits) = &schema.limits {
        self::limits::check(limits, value, &path, errors);
        combine::check(limits, value, &path, errors);
    }
    match value {
        Value::Object(map) => fields(schema, map, path, errors),
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    visit(item_schema, item, path.index(index), errors);
                }
            }
            repeated(schema, items, path, errors);
        }
        _ => {}
    }
}

fn fields(schema: &Schema, map: &Map<String, Value>, path: Path<'_>, errors: &mut Vec<FieldError>) {
    for name in &schema.required {
        if !map.contains_key(name) {
            errors.push(FieldError::required(&path.field(name), ""));
        }
    }
    for (name, value) in map {
        if let Some(child) = schema.child(name) {
            visit(child, value, path.field(name), errors);
        }
    }
}

/// Items that are there twice in a set, or share the keys of a map.
fn repeated(schema: &Schema, items: &[Value], path: Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = match schema.list_type {
            ListType::Atomic => return,
            ListType::Set => item.clone(),
            ListType::Map => {
                let keys = schema.list_keys.iter();
                let part: Map<String, Value> = keys
                    .filter_map(|key| item.get(key).map(|value| (key.clone(), value.clone())))
                    .collect();
                part.into()
            }
        };
        if !seen.insert(identity.to_string()) {
            errors.push(FieldError::duplicate(&path.index(index), identity));
        }
    }
}

fn type_fits(schema: &Schema, value: &Value) -> bool {
    match schema.kind {
        Kind::Any if schema.format == Format::IntOrString => value.is_string() || is_integer(value),
        Kind::Any => true,
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::String if schema.format == Format::IntOrString => {
            value.is_string() || is_integer(value)
        }
        Kind::String if schema.format == Format::Quantity => value.is_string() || value.is_number(),
        Kind::String => value.is_string(),
        Kind::Boolean => value.is_boolean(),
        Kind::Number => value.is_number(),
        Kind::Integer => is_integer(value),
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64()
        || value.is_u64()
        || value
            .as_f64()
            .is_some_and(|f| f.fract() == 0.0 && f.abs() < 9e15)
}

fn type_error(schema: &Schema, value: &Value, path: &Path<'_>) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let expected = match (schema.kind, schema.format) {
        (_, Format::IntOrString) => "integer,string",
        (Kind::Object, _) => "object",
        (Kind::Array, _) => "array",
        (Kind::String, _) => "string",
        (Kind::Integer, _) => "integer",
        (Kind::Number, _) => "number",
        (Kind::Boolean, _) => "boolean",
        (Kind::Any, _) => "any",
    };
    let detail = format!("{path} in body must be of type {expected}: \"{found}\"");
    FieldError::type_invalid(path, found, detail)
}

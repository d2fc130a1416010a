//! Short ways to the parts of an object: its metadata, and fields by a dotted path.

use serde_json::{Map, Value};

/// The metadata, made if it is absent or not an object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    object_mut(object, "metadata")
}

/// The named field as an object, made if it is absent or of another type.
pub fn object_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object[field];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    text(object, "metadata.name")
}

/// `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    text(object, "metadata.namespace")
}

/// The value at a dotted path of fields; `None` if any step is absent or null.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut here = value;
    for step in path.split('.') {
        here = here.get(step)?;
    }
    (!here.is_null()).then_some(here)
}

/// The text at a dotted path, or empty.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a dotted path.
pub fn int(value: &Value, path: &str) -> Option<i64> {
    at(value, path).and_then(Value::as_i64)
}

/// The boolean at a dotted path, or false.
pub fn flag(value: &Value, path: &str) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a dotted path, or none.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The entries of the object at a dotted path, or none.
pub fn map<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, path)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// Sets `field` of `object` if it is absent or null.
pub fn fill(object: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    match object.get_mut(field) {
        Some(slot) if !slot.is_null() => {}
        Some(slot) => *slot = value.into(),
        None => {
            object.insert(field.to_owned(), value.into());
        }
    }
}

/// Moves `field` from `from` to `to`: set, or removed where `from` lacks it.
pub fn carry(to: &mut Value, from: &Value, field: &str) {
    let Some(to) = to.as_object_mut() else {
        return;
    };
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.shift_remove(field);
        }
    }
}

/// Whether two values mean the same: null, absent and empty containers are one.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    fn empty(v: Option<&Value>) -> bool {
        match v {
            None | Some(Value::Null) => true,
            Some(Value::Array(a)) => a.is_empty(),
            Some(Value::Object(m)) => m.is_empty(),
            _ => false,
        }
    }
    match (a, b) {
        (a, b) if empty(a) && empty(b) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(k, v)| same(Some(v), b.get(k)))
                && b.iter()
                    .all(|(k, v)| a.contains_key(k) || same(None, Some(v)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b,
    }
}

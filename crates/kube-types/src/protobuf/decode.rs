//! Reading messages into JSON.

use serde_json::{Map, Value};

use super::base64::base64_encode;
use super::fields::{self, Count, Field, Type};
use super::wire::{self, Raw};
use super::{DEPTH_MAX, ProtobufError, error, special};

/// Reads a message by its table. Unknown fields are left out; empty values that mean the same as none too.
pub(super) fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    if depth > DEPTH_MAX {
        return error("the message is nested too deep");
    }
    if let Some(special) = special::of(name) {
        return special::read(special, bytes, depth);
    }
    let Some(known) = fields::of(name) else {
        return error(format!("the message {name} is not known"));
    };
    let mut map = Map::new();
    let mut rest = bytes;
    while let Some((number, raw)) = wire::next(&mut rest)? {
        let Some(field) = known.iter().find(|f| f.number == number) else {
            continue;
        };
        put(field, raw, &mut map, depth)?;
    }
    Ok(map.into())
}

fn put(
    field: &Field,
    raw: Raw<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if field.count == Count::Map {
        let (key, value) = entry(field, raw, depth)?;
        let slot = map.entry(field.name).or_insert_with(|| Map::new().into());
        if let Some(entries) = slot.as_object_mut() {
            entries.insert(key, value);
        }
        return Ok(());
    }
    let value = value(field.kind, raw, depth)?;
    if field.count == Count::List {
        let slot = map
            .entry(field.name)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Some(items) = slot.as_array_mut() {
            items.push(value);
        }
        return Ok(());
    }
    if field.name.is_empty() {
        if let Value::Object(inner) = value {
            map.extend(inner);
        }
        return Ok(());
    }
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !field.keeps_zero,
        Value::Bool(flag) => !flag && !field.keeps_zero,
        Value::Number(number) => number.as_f64() == Some(0.0) && !field.keeps_zero,
        Value::Object(inner) => inner.is_empty() && !field.keeps_zero,
        Value::Array(items) => items.is_empty() && !field.keeps_zero,
    };
    if !empty {
        map.insert(field.name.to_owned(), value);
    }
    Ok(())
}

/// An entry of a map is a message of a key and a value.
fn entry(field: &Field, raw: Raw<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Raw::Bytes(mut bytes) = raw else {
        return error(format!("{}: wrong wire type", field.name));
    };
    let mut key = String::new();
    let mut found = None;
    while let Some((number, raw)) = wire::next(&mut bytes)? {
        match (number, raw) {
            (1, Raw::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, raw) => found = Some(value(field.kind, raw, depth)?),
            _ => {}
        }
    }
    let found = match (found, field.kind) {
        (Some(found), _) => found,
        (None, Type::Message(name)) => message(name, b"", depth + 1)?,
        (None, Type::Bool) => false.into(),
        (None, Type::Int | Type::Double) => 0.into(),
        (None, Type::Text | Type::Bytes) => "".into(),
    };
    Ok((key, found))
}

fn utf8(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).or_else(|_| error("a text is not UTF-8"))
}

fn value(kind: Type, raw: Raw<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (kind, raw) {
        (Type::Text, Raw::Bytes(bytes)) => utf8(bytes)?.into(),
        (Type::Bytes, Raw::Bytes(bytes)) => base64_encode(bytes).into(),
        (Type::Bool, Raw::Varint(flag)) => (flag != 0).into(),
        (Type::Int, Raw::Varint(number)) => (number as i64).into(),
        (Type::Int, Raw::Fixed64(number)) => (number as i64).into(),
        (Type::Int, Raw::Fixed32(number)) => (number as i32).into(),
        (Type::Double, Raw::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Message(name), Raw::Bytes(bytes)) => message(name, bytes, depth + 1)?,
        _ => return error("a field has the wrong wire type"),
    })
}

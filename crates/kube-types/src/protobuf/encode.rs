//! Writing JSON as messages.

use serde_json::Value;

use super::base64::base64_decode;
use super::fields::{self, Count, Field, Type};
use super::{DEPTH_MAX, ProtobufError, error, special, wire};

/// Writes an object by the table of its message.
pub(super) fn message(name: &str, value: &Value, depth: usize) -> Result<Vec<u8>, ProtobufError> {
    if depth > DEPTH_MAX {
        return error("the object is nested too deep");
    }
    if let Some(special) = special::of(name) {
        return special::write(special, value, depth);
    }
    let Some(known) = fields::of(name) else {
        return error(format!("the message {name} is not known"));
    };
    let mut out = Vec::new();
    for field in known {
        if field.name.is_empty() {
            // The inner message takes its fields from the same object.
            if let Type::Message(inner) = field.kind {
                let part = message(inner, value, depth + 1)?;
                wire::bytes(&mut out, field.number, &part);
            }
            continue;
        }
        match value.get(field.name) {
            None | Some(Value::Null) => {}
            Some(found) => put(field, found, &mut out, depth)?,
        }
    }
    Ok(out)
}

fn put(field: &Field, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), ProtobufError> {
    match (field.count, value) {
        (Count::One, value) => one(field.kind, field, value, out, depth),
        (Count::List, Value::Array(items)) => items
            .iter()
            .try_for_each(|item| one(field.kind, field, item, out, depth)),
        (Count::Map, Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
            let mut entry = Vec::new();
            wire::bytes(&mut entry, 1, key.as_bytes());
            let inner = Field {
                number: 2,
                ..*field
            };
            one(field.kind, &inner, value, &mut entry, depth)?;
            wire::bytes(out, field.number, &entry);
            Ok(())
        }),
        _ => misfit(field),
    }
}

fn misfit<T>(field: &Field) -> Result<T, ProtobufError> {
    error(format!("the value of {} doesn't fit its type", field.name))
}

fn one(
    kind: Type,
    field: &Field,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let number = field.number;
    match (kind, value) {
        (Type::Text, Value::String(text)) => wire::bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            let bytes = base64_decode(text).or_else(|_| misfit(field))?;
            wire::bytes(out, number, &bytes);
        }
        (Type::Bool, Value::Bool(flag)) => wire::integer(out, number, i64::from(*flag)),
        (Type::Int, Value::Number(n)) => match n.as_i64() {
            Some(n) => wire::integer(out, number, n),
            None => return misfit(field),
        },
        (Type::Double, Value::Number(n)) => {
            wire::double(out, number, n.as_f64().unwrap_or_default())
        }
        (Type::Message(name), value) => {
            let inner = message(name, value, depth + 1)?;
            wire::bytes(out, number, &inner);
        }
        // An entry without a value is the empty one.
        (_, Value::Null) => {}
        _ => return misfit(field),
    }
    Ok(())
}

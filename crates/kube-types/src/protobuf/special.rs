//! Messages whose JSON has another shape than their fields.

use serde_json::{Value, json};

use super::wire::{self, Raw};
use super::{ProtobufError, decode, encode, error};
use crate::time::Timestamp;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The shapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// JSON text in a field of bytes.
    Json,
    /// A list that is a message of its own.
    Items,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

/// The special shape of a message, if it has one.
pub(super) fn of(message: &str) -> Option<Special> {
    let short = message.rsplit('.').next()?;
    Some(match short {
        "Quantity" => Special::Quantity,
        "IntOrString" => Special::IntOrString,
        "Time" => Special::Time,
        "MicroTime" => Special::MicroTime,
        "RawExtension" | "FieldsV1" | "JSON" => Special::Json,
        "ExtraValue" | "Verbs" => Special::Items,
        "JSONSchemaPropsOrArray" => Special::SchemaOrArray,
        "JSONSchemaPropsOrBool" => Special::SchemaOrBool,
        "JSONSchemaPropsOrStringArray" => Special::SchemaOrStrings,
        _ => return None,
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).or_else(|_| error("a text is not UTF-8"))
}

/// Reads a message of a special shape.
pub(super) fn read(
    special: Special,
    mut bytes: &[u8],
    depth: usize,
) -> Result<Value, ProtobufError> {
    let mut fields: Vec<(u32, Raw<'_>)> = Vec::new();
    while let Some(field) = wire::next(&mut bytes)? {
        fields.push(field);
    }
    let number = |n: u32| {
        fields.iter().rev().find_map(|(number, raw)| match raw {
            Raw::Varint(v) if *number == n => Some(*v as i64),
            _ => None,
        })
    };
    let data = |n: u32| {
        fields.iter().rev().find_map(|(number, raw)| match raw {
            Raw::Bytes(b) if *number == n => Some(*b),
            _ => None,
        })
    };
    let texts = |n: u32| -> Result<Value, ProtobufError> {
        let found = fields.iter().filter_map(|(number, raw)| match raw {
            Raw::Bytes(b) if *number == n => Some(utf8(b).map(Value::from)),
            _ => None,
        });
        found.collect::<Result<Vec<_>, _>>().map(Value::from)
    };
    Ok(match special {
        Special::Quantity => utf8(data(1).unwrap_or(b"0"))
            .map(|t| if t.is_empty() { "0" } else { t })?
            .into(),
        Special::IntOrString if number(1) == Some(1) => utf8(data(3).unwrap_or_default())?.into(),
        Special::IntOrString => number(2).unwrap_or_default().into(),
        // A time of no fields is no time.
        Special::Time | Special::MicroTime if fields.is_empty() => Value::Null,
        Special::Time | Special::MicroTime => time(special, number(1), number(2)),
        Special::Json => match data(1) {
            None | Some([]) => Value::Null,
            Some(raw) => serde_json::from_slice(raw).map_err(|e| ProtobufError(e.to_string()))?,
        },
        Special::Items => texts(1)?,
        Special::SchemaOrArray => match data(1) {
            Some(schema) => decode::message(SCHEMA, schema, depth + 1)?,
            None => {
                let all = fields.iter().filter_map(|(number, raw)| match raw {
                    Raw::Bytes(b) if *number == 2 => Some(decode::message(SCHEMA, b, depth + 1)),
                    _ => None,
                });
                all.collect::<Result<Vec<_>, _>>()?.into()
            }
        },
        Special::SchemaOrBool => match data(2) {
            Some(schema) => decode::message(SCHEMA, schema, depth + 1)?,
            None => (number(1) == Some(1)).into(),
        },
        Special::SchemaOrStrings => match data(1) {
            Some(schema) => decode::message(SCHEMA, schema, depth + 1)?,
            None => texts(2)?,
        },
    })
}

fn time(special: Special, seconds: Option<i64>, nanos: Option<i64>) -> Value {
    let nanos = u32::try_from(nanos.unwrap_or_default())
        .unwrap_or_default()
        .min(999_999_999);
    // Years beyond four digits can't be written as RFC 3339.
    let seconds = seconds
        .unwrap_or_default()
        .clamp(-62_135_596_800, 253_402_300_799);
    let time = Timestamp { seconds, nanos };
    match special {
        Special::MicroTime => time.to_micros_text().into(),
        _ => time.to_seconds_text().into(),
    }
}

/// Writes a value as a message of a special shape.
pub(super) fn write(
    special: Special,
    value: &Value,
    depth: usize,
) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::new();
    match (special, value) {
        (Special::Quantity, Value::String(text)) => wire::bytes(&mut out, 1, text.as_bytes()),
        (Special::Quantity, Value::Number(number)) => {
            wire::bytes(&mut out, 1, number.to_string().as_bytes())
        }
        (Special::IntOrString, Value::String(text)) => {
            wire::integer(&mut out, 1, 1);
            wire::integer(&mut out, 2, 0);
            wire::bytes(&mut out, 3, text.as_bytes());
        }
        (Special::IntOrString, Value::Number(number)) => {
            wire::integer(&mut out, 1, 0);
            wire::integer(&mut out, 2, number.as_i64().unwrap_or_default());
            wire::bytes(&mut out, 3, b"");
        }
        (Special::Time | Special::MicroTime, Value::String(text)) => {
            let Some(time) = Timestamp::parse(text) else {
                return error(format!("{text:?} is no time"));
            };
            wire::integer(&mut out, 1, time.seconds);
            wire::integer(
                &mut out,
                2,
                if special == Special::MicroTime {
                    i64::from(time.nanos)
                } else {
                    0
                },
            );
        }
        (_, Value::Null) if special != Special::Json => {}
        (Special::Json, value) => wire::bytes(&mut out, 1, value.to_string().as_bytes()),
        (Special::Items, Value::Array(items)) => strings(&mut out, 1, items),
        (Special::SchemaOrBool, Value::Bool(allows)) => {
            wire::integer(&mut out, 1, i64::from(*allows))
        }
        (Special::SchemaOrBool, schema) => {
            wire::integer(&mut out, 1, 1);
            wire::bytes(&mut out, 2, &encode::message(SCHEMA, schema, depth + 1)?);
        }
        (Special::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                wire::bytes(&mut out, 2, &encode::message(SCHEMA, item, depth + 1)?);
            }
        }
        (Special::SchemaOrStrings, Value::Array(items)) => strings(&mut out, 2, items),
        (Special::SchemaOrArray | Special::SchemaOrStrings, schema) => {
            wire::bytes(&mut out, 1, &encode::message(SCHEMA, schema, depth + 1)?);
        }
        _ => return error(format!("{} doesn't fit its type", json!(value))),
    }
    Ok(out)
}

fn strings(out: &mut Vec<u8>, number: u32, items: &[Value]) {
    for item in items.iter().filter_map(Value::as_str) {
        wire::bytes(out, number, item.as_bytes());
    }
}

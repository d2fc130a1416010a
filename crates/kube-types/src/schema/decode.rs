//! Whether a value can be read as a built-in kind at all: the original answers 400 to wrong types, not 422.

use serde_json::Value;

use super::{Format, Kind, Schema};
use crate::quantity::Quantity;
use crate::time::Timestamp;

/// The first type that doesn't fit, in the words of the original's decoder:
/// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
pub fn decode(schema: &Schema, value: &Value) -> Option<String> {
    let mut path = Vec::new();
    visit(schema, value, "", &mut path)
}

fn visit<'a>(
    schema: &'a Schema,
    value: &'a Value,
    holder: &'a str,
    path: &mut Vec<&'a str>,
) -> Option<String> {
    if value.is_null() {
        return None;
    }
    if let Some(message) = own(schema, value, holder, path) {
        return Some(message);
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(name, value)| {
            let child = schema.child(name)?;
            path.push(name);
            let holder = if schema.name.is_empty() {
                holder
            } else {
                schema.name
            };
            let message = visit(child, value, holder, path);
            path.pop();
            message
        }),
        Value::Array(items) => {
            let schema = schema.items.as_ref()?;
            items
                .iter()
                .find_map(|item| visit(schema, item, holder, path))
        }
        _ => None,
    }
}

/// What is wrong with this value itself.
fn own(schema: &Schema, value: &Value, holder: &str, path: &[&str]) -> Option<String> {
    let fits = match schema.kind {
        Kind::Any => true,
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::Boolean => value.is_boolean(),
        Kind::Number => value.is_number(),
        Kind::Integer => integer_fits(schema.format, value),
        Kind::String => match schema.format {
            Format::Quantity => return quantity(value),
            Format::IntOrString => value.is_string() || value.is_i64(),
            Format::DateTime | Format::MicroTime => return time(value, holder, path),
            Format::Byte => return bytes(value),
            _ => value.is_string(),
        },
    };
    if fits {
        return None;
    }
    let found = match value {
        Value::Object(_) => "object".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) if schema.kind == Kind::Integer => format!("number {n}"),
        _ => "number".to_owned(),
    };
    let at = if path.is_empty() {
        "Go value".to_owned()
    } else {
        format!("Go struct field {holder}.{}", path.join("."))
    };
    Some(format!(
        "json: cannot unmarshal {found} into {at} of type {}",
        go_type(schema)
    ))
}

fn integer_fits(format: Format, value: &Value) -> bool {
    match (format, value.as_i64()) {
        (Format::Int32, Some(n)) => i32::try_from(n).is_ok(),
        (_, found) => found.is_some(),
    }
}

fn quantity(value: &Value) -> Option<String> {
    let bad = match value {
        Value::String(text) => Quantity::parse(text).is_err(),
        Value::Number(number) => Quantity::parse(&number.to_string()).is_err(),
        _ => true,
    };
    bad.then(|| {
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
    })
}

fn time(value: &Value, holder: &str, path: &[&str]) -> Option<String> {
    let Some(text) = value.as_str() else {
        let at = path.join(".");
        return Some(format!(
            "json: cannot unmarshal {} into Go struct field {holder}.{at} of type string",
            if value.is_number() {
                "number"
            } else {
                "object"
            }
        ));
    };
    if Timestamp::parse(text).is_some() {
        return None;
    }
    Some(format!(
        "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
    ))
}

fn bytes(value: &Value) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(
            "json: cannot unmarshal a value that is no string into Go value of type []uint8"
                .to_owned(),
        );
    };
    crate::protobuf::base64_error(text).map(|at| format!("illegal base64 data at input byte {at}"))
}

fn go_type(schema: &Schema) -> String {
    match (schema.kind, schema.format) {
        (Kind::Integer, Format::Int32) => "int32".to_owned(),
        (Kind::Integer, _) => "int64".to_owned(),
        (Kind::Number, _) => "float64".to_owned(),
        (Kind::Boolean, _) => "bool".to_owned(),
        (Kind::String, Format::IntOrString) => "intstr.IntOrString".to_owned(),
        (Kind::Array, _) => match &schema.items {
            Some(items) => format!("[]{}", go_type(items)),
            None => "[]interface {}".to_owned(),
        },
        (Kind::Object, _) => match (&schema.additional, schema.definition()) {
            (Some(entries), _) => format!("map[string]{}", go_type(entries)),
            (None, Some(full)) => {
                let mut words = full.rsplit('.');
                let name = words.next().unwrap_or_default();
                let version = words.next().unwrap_or("v1");
                format!("{version}.{name}")
            }
            (None, None) => "map[string]interface {}".to_owned(),
        },
        _ => "string".to_owned(),
    }
}

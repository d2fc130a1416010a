//! Go's comparison of template values.

use std::cmp::Ordering;

use super::value::Value;

/// `eq`: whether the first equals any of the others.
pub fn equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    for other in others {
        if one_equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_nil(value: &Value) -> bool {
    matches!(
        value,
        Value::Nil | Value::Missing | Value::NilPointer | Value::List(None) | Value::Map(None)
    )
}

fn one_equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        _ if is_nil(a) || is_nil(b) => Ok(is_nil(a) && is_nil(b)),
        (Value::List(_) | Value::Map(_), _) => Err(format!(
            "non-comparable type {}: {}",
            show(a),
            a.type_name()
        )),
        (_, Value::List(_) | Value::Map(_)) => Err(format!(
            "non-comparable type {}: {}",
            show(b),
            b.type_name()
        )),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn show(value: &Value) -> String {
    super::print::show(value)
}

/// Order of two values of the same basic kind.
pub fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Equal)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (
            Value::Int(_) | Value::Float(_) | Value::Text(_),
            Value::Int(_) | Value::Float(_) | Value::Text(_),
        ) => Err("incompatible types for comparison".into()),
        _ => Err("invalid type for comparison".into()),
    }
}

//! What operators do with values.

use std::cmp::Ordering;

use super::ast::Operator;
use super::eval::{EvalError, Result};
use super::value::Value;
use crate::time::Timestamp;

const NANOS: i64 = 1_000_000_000;

/// Every operator but `&&` and `||`, which need not look at both sides.
pub fn apply<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    match operator {
        Operator::Equal => Ok(Value::Bool(left.equals(right))),
        Operator::NotEqual => Ok(Value::Bool(!left.equals(right))),
        Operator::Less => order(left, right, Ordering::is_lt),
        Operator::LessOrEqual => order(left, right, Ordering::is_le),
        Operator::Greater => order(left, right, Ordering::is_gt),
        Operator::GreaterOrEqual => order(left, right, Ordering::is_ge),
        Operator::In => contains(left, right),
        Operator::Add => add(left, right),
        Operator::Subtract => subtract(left, right),
        _ => multiply(operator, left, right),
    }
}

fn order<'a>(
    left: &Value<'_>,
    right: &Value<'_>,
    holds: fn(Ordering) -> bool,
) -> Result<Value<'a>> {
    match left.compare(right) {
        Some(ordering) => Ok(Value::Bool(holds(ordering))),
        // No order at all is an error; NaN is in none.
        None if matches!((left, right), (Value::Double(_), _) | (_, Value::Double(_))) => {
            Ok(Value::Bool(false))
        }
        None => Err(EvalError::no_overload()),
    }
}

fn contains<'a>(item: &Value<'_>, among: &Value<'_>) -> Result<Value<'a>> {
    if among.is_list() {
        return Ok(Value::Bool(
            among.items().iter().any(|known| known.equals(item)),
        ));
    }
    if among.is_map() {
        return Ok(Value::Bool(among.entry(item).is_some()));
    }
    Err(EvalError::no_overload())
}

fn overflow() -> EvalError {
    EvalError::new("integer overflow")
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_add(*b)
                .ok_or_else(|| EvalError::new("unsigned integer overflow"))?,
        ),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => Value::text(format!("{a}{b}")),
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&a[..], &b[..]].concat().into()),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(overflow)?)
        }
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => {
            Value::Timestamp(shift(*time, *nanos)?)
        }
        (a, b) if a.is_list() && b.is_list() => {
            let mut items = a.items();
            for item in b.items() {
                // A set stays one.
                if !a.is_set() || !items.iter().any(|known| known.equals(&item)) {
                    items.push(item);
                }
            }
            Value::list(items)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn subtract<'a>(left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>> {
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_sub(*b)
                .ok_or_else(|| EvalError::new("unsigned integer overflow"))?,
        ),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or_else(overflow)?)
        }
        (Value::Timestamp(time), Value::Duration(nanos)) => {
            Value::Timestamp(shift(*time, nanos.checked_neg().ok_or_else(overflow)?)?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let seconds = a
                .seconds
                .checked_sub(b.seconds)
                .and_then(|s| s.checked_mul(NANOS));
            let nanos =
                seconds.and_then(|s| s.checked_add(i64::from(a.nanos) - i64::from(b.nanos)));
            Value::Duration(nanos.ok_or_else(overflow)?)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn shift(time: Timestamp, nanos: i64) -> Result<Timestamp> {
    let total =
        i128::from(time.seconds) * i128::from(NANOS) + i128::from(time.nanos) + i128::from(nanos);
    let seconds = i64::try_from(total.div_euclid(i128::from(NANOS))).map_err(|_| overflow())?;
    // Years 1 to 9999.
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return Err(EvalError::new("timestamp overflow"));
    }
    let nanos = u32::try_from(total.rem_euclid(i128::from(NANOS))).map_err(|_| overflow())?;
    Ok(Timestamp { seconds, nanos })
}

fn multiply<'a>(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>> {
    let by_zero = || match operator {
        Operator::Modulo => EvalError::new("modulus by zero"),
        _ => EvalError::new("division by zero"),
    };
    Ok(match (operator, left, right) {
        (Operator::Divide | Operator::Modulo, Value::Int(_), Value::Int(0))
        | (Operator::Divide | Operator::Modulo, Value::Uint(_), Value::Uint(0)) => {
            return Err(by_zero());
        }
        (Operator::Multiply, Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_mul(*b).ok_or_else(overflow)?)
        }
        (Operator::Divide, Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_div(*b).ok_or_else(overflow)?)
        }
        (Operator::Modulo, Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_rem(*b).ok_or_else(overflow)?)
        }
        (Operator::Multiply, Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_mul(*b)
                .ok_or_else(|| EvalError::new("unsigned integer overflow"))?,
        ),
        (Operator::Divide, Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Operator::Modulo, Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        (Operator::Multiply, Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        (Operator::Divide, Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(EvalError::no_overload()),
    })
}

/// `-a`.
pub fn negate<'a>(value: &Value<'_>) -> Result<Value<'a>> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(nanos) => nanos
            .checked_neg()
            .map(Value::Duration)
            .ok_or_else(overflow),
        _ => Err(EvalError::no_overload()),
    }
}

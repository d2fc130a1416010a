//! JSON patch, RFC 6902.

use serde_json::Value;

use super::PatchError;
use crate::field::go_quote;

/// As many operations as the original takes.
const OPERATIONS_MAX: usize = 10_000;
/// Copies may not make an object greater than this: bytes of values copied.
const COPIED_MAX: usize = 3 * 1024 * 1024;

/// Applies a JSON patch: at most 10,000 operations, and copies of at most 3 MiB.
///
/// # Errors
/// The patch is malformed, or an operation fails; the object is then unchanged.
pub fn json_patch(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Some(operations) = patch.as_array() else {
        return Err(PatchError::Malformed(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch".to_owned(),
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut work = object.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut work, operation, &mut copied)?;
    }
    *object = work;
    Ok(())
}

fn apply(object: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let text = |field: &str| operation[field].as_str();
    let kind = text("op").unwrap_or_default();
    let path = text("path").ok_or_else(|| {
        PatchError::Malformed(format!(
            "{kind} operation failed to decode path: missing value"
        ))
    })?;
    let value = || {
        operation.get("value").cloned().ok_or_else(|| {
            PatchError::Malformed(format!(
                "{kind} operation failed to decode value: missing value"
            ))
        })
    };
    let from = || {
        text("from").ok_or_else(|| {
            PatchError::Malformed(format!(
                "{kind} operation failed to decode from: missing value"
            ))
        })
    };
    match kind {
        "add" => add(object, path, value()?, kind),
        "remove" => remove(object, path, kind).map(|_| ()),
        "replace" => {
            let slot = find_mut(object, path).ok_or_else(|| missing(kind, path))?;
            *slot = value()?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            // Moving a value into itself would lose it.
            if path.starts_with(&format!("{from}/")) {
                return Err(PatchError::Unfit(format!(
                    "move operation into its own child: {}",
                    go_quote(path)
                )));
            }
            let moved = remove(object, from, kind)?;
            add(object, path, moved, kind)
        }
        "copy" => {
            let found = find(object, from()?)
                .ok_or_else(|| missing(kind, path))?
                .clone();
            *copied += size(&found);
            if *copied > COPIED_MAX {
                return Err(PatchError::TooLarge(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_MAX}"
                )));
            }
            add(object, path, found, kind)
        }
        "test" => {
            let found = find(object, path).unwrap_or(&Value::Null);
            if same(found, operation.get("value").unwrap_or(&Value::Null)) {
                Ok(())
            } else {
                Err(PatchError::Unfit(format!(
                    "testing value {path} failed: test failed"
                )))
            }
        }
        other => Err(PatchError::Malformed(format!("Unexpected kind: {other}"))),
    }
}

fn missing(kind: &str, path: &str) -> PatchError {
    PatchError::Unfit(format!(
        "{kind} operation does not apply: doc is missing path: {}: missing value",
        go_quote(path)
    ))
}

/// Numbers are the same by value: 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|b| same(v, b)))
        }
        (a, b) => a == b,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|v| size(v) + 1).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter()
                .map(|(k, v)| k.len() + size(v) + 4)
                .sum::<usize>()
                + 2
        }
        _ => 8,
    }
}

fn decoded(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// The pointer to the parent, and the last step.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, decoded(last)))
}

/// An index into a list of `length`: decimal, or negative from its end as the original allows.
fn index(step: &str, length: usize) -> Option<usize> {
    if let Some(back) = step.strip_prefix('-') {
        return length.checked_sub(back.parse().ok().filter(|n| *n > 0)?);
    }
    step.parse().ok()
}

fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut here = object;
    for step in path.split('/').skip(1) {
        here = match here {
            Value::Object(map) => map.get(&decoded(step))?,
            Value::Array(items) => items.get(index(step, items.len())?)?,
            _ => return None,
        };
    }
    Some(here)
}

fn find_mut<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut here = object;
    for step in path.split('/').skip(1) {
        here = match here {
            Value::Object(map) => map.get_mut(&decoded(step))?,
            Value::Array(items) => {
                let at = index(step, items.len())?;
                items.get_mut(at)?
            }
            _ => return None,
        };
    }
    Some(here)
}

fn add(object: &mut Value, path: &str, value: Value, kind: &str) -> Result<(), PatchError> {
    let Some((parent, last)) = split(path) else {
        *object = value;
        return Ok(());
    };
    match find_mut(object, parent) {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let at = if last == "-" {
                Some(items.len())
            } else {
                index(&last, items.len() + 1)
            };
            match at.filter(|at| *at <= items.len()) {
                Some(at) => {
                    items.insert(at, value);
                    Ok(())
                }
                None => Err(PatchError::Unfit(format!(
                    "{kind} operation does not apply: doc is missing path: {}: Unable to access invalid index: {last}: invalid index referenced",
                    go_quote(path)
                ))),
            }
        }
        _ => Err(missing(kind, path)),
    }
}

fn remove(object: &mut Value, path: &str, kind: &str) -> Result<Value, PatchError> {
    let gone = || {
        PatchError::Unfit(format!(
            "{kind} operation does not apply: doc is missing key: {path}: missing value"
        ))
    };
    let (parent, last) = split(path).ok_or_else(gone)?;
    match find_mut(object, parent) {
        Some(Value::Object(map)) => map.shift_remove(&last).ok_or_else(gone),
        Some(Value::Array(items)) => {
            let at = index(&last, items.len())
                .filter(|at| *at < items.len())
                .ok_or_else(gone)?;
            Ok(items.remove(at))
        }
        _ => Err(missing(kind, path)),
    }
}

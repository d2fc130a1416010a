//! Strategic merge patch: a merge patch that knows how lists merge, with directives.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::PatchError;
use super::order::arrange;
use crate::schema::Schema;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch by the schema's patch strategies and merge keys.
///
/// # Errors
/// The patch is malformed, as an unknown directive or an item without its merge key.
pub fn strategic_merge(
    schema: &Schema,
    object: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    let Some(patch) = patch.as_object() else {
        return Err(PatchError::Malformed("invalid JSON document".to_owned()));
    };
    let before = match object {
        Value::Object(map) => std::mem::take(map),
        _ => Map::new(),
    };
    *object = merge_map(Some(schema), before, patch)?.into();
    Ok(())
}

fn malformed<T>(message: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(message.into()))
}

fn merge_map(
    schema: Option<&Schema>,
    mut object: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
        None => {}
        Some("replace") => {
            let mut patch = patch.clone();
            patch.shift_remove(DIRECTIVE);
            return Ok(patch);
        }
        Some("delete") => return Ok(Map::new()),
        Some("merge") if patch.len() > 1 => {}
        Some(other) => {
            return malformed(format!(
                "unknown patch type {other:?} in map: {}",
                Value::from(patch.clone())
            ));
        }
    }
    if let Some(keys) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut object, patch, keys)?;
    }
    for (name, value) in patch {
        let child = schema.and_then(|s| s.child(name));
        if name == DIRECTIVE || name == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = name.strip_prefix(DELETE_FROM) {
            delete_from(&mut object, field, value)?;
            continue;
        }
        if let Some(field) = name.strip_prefix(SET_ORDER) {
            let child = schema.and_then(|s| s.child(field));
            order_alone(child, &mut object, patch, field, value)?;
            continue;
        }
        merge_field(child, &mut object, patch, name, value)?;
    }
    Ok(object)
}

fn merge_field(
    schema: Option<&Schema>,
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    name: &str,
    value: &Value,
) -> Result<(), PatchError> {
    if value.is_null() {
        object.shift_remove(name);
        return Ok(());
    }
    let order = patch.get(&format!("{SET_ORDER}{name}"));
    let merged = match (object.get_mut(name).map(std::mem::take), value) {
        (Some(Value::Object(before)), Value::Object(patch)) => {
            merge_map(schema, before, patch)?.into()
        }
        (Some(Value::Array(before)), Value::Array(items))
            if schema.is_some_and(|s| s.patch_merge) =>
        {
            let schema = schema.filter(|s| s.patch_merge);
            let previous = order.map(|_| before.clone()).unwrap_or_default();
            let mut merged = merge_list(schema, before, items, name)?;
            if let Some(order) = order {
                let wanted = as_list(order)?;
                let key = schema.and_then(|s| s.merge_key.as_deref());
                fits_order(items, wanted, key)?;
                merged = arrange(merged, wanted, &previous, key);
            }
            merged.into()
        }
        _ => match without_directives(value) {
            Some(value) => value,
            None => {
                object.shift_remove(name);
                return Ok(());
            }
        },
    };
    object.insert(name.to_owned(), merged);
    Ok(())
}

/// A value taken from the patch as it is: nulls, and items and objects that carry a directive, are left out.
fn without_directives(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get(DIRECTIVE).is_some_and(|d| d == "delete") => None,
        Value::Object(map) => Some(
            map.iter()
                .filter(|(name, value)| !value.is_null() && !name.starts_with('$'))
                .filter_map(|(name, value)| Some((name.clone(), without_directives(value)?)))
                .collect::<Map<_, _>>()
                .into(),
        ),
        Value::Array(items) => Some(
            items
                .iter()
                .filter_map(without_directives)
                .collect::<Vec<_>>()
                .into(),
        ),
        value => Some(value.clone()),
    }
}

fn merge_list(
    schema: Option<&Schema>,
    before: Vec<Value>,
    items: &[Value],
    name: &str,
) -> Result<Vec<Value>, PatchError> {
    if items.iter().chain(&before).any(Value::is_array) {
        return malformed("lists of lists are not supported");
    }
    if !items.iter().chain(&before).any(Value::is_object) {
        return Ok(union(before, items));
    }
    let Some(key) = schema.and_then(|s| s.merge_key.as_deref()) else {
        return malformed(format!("cannot merge lists without merge key for {name}"));
    };
    let item_schema = schema.and_then(|s| s.items.as_ref());
    if items.iter().any(|item| item[DIRECTIVE] == "replace") {
        return Ok(items
            .iter()
            .filter(|item| item.get(DIRECTIVE).is_none())
            .cloned()
            .collect());
    }
    merge_items(item_schema, before, items, key)
}

fn union(before: Vec<Value>, items: &[Value]) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    before
        .into_iter()
        .chain(items.iter().cloned())
        .filter(|item| seen.insert(item.to_string()))
        .collect()
}

fn merge_items(
    schema: Option<&Schema>,
    before: Vec<Value>,
    items: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let mut merged: Vec<Option<Value>> = Vec::with_capacity(before.len());
    // Several items may share a key, as a port's number with two protocols: the first is the one that is met.
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for item in before {
        places
            .entry(item[key].to_string())
            .or_default()
            .push(merged.len());
        merged.push(Some(item));
    }
    let identity = |item: &Value| match item.get(key) {
        Some(value) if item.is_object() => Ok(value.to_string()),
        _ => malformed(format!(
            "map: {item} does not contain declared merge key: {key}"
        )),
    };
    let (directed, plain): (Vec<&Value>, Vec<&Value>) =
        items.iter().partition(|item| item.get(DIRECTIVE).is_some());
    for item in directed {
        match item[DIRECTIVE].as_str().unwrap_or_default() {
            "delete" => {
                for at in places.remove(&identity(item)?).unwrap_or_default() {
                    merged[at] = None;
                }
            }
            "merge" => return malformed("merging lists cannot yet be specified in the patch"),
            other => return malformed(format!("unknown patch type {other:?} in map: {item}")),
        }
    }
    for item in plain {
        let identity = identity(item)?;
        let slot = places.get(&identity).and_then(|at| at.first()).copied();
        match (slot.and_then(|at| merged[at].take()), item) {
            (Some(Value::Object(before)), Value::Object(patch)) => {
                let at = slot.unwrap_or_default();
                merged[at] = Some(merge_map(schema, before, patch)?.into());
            }
            _ => {
                places.insert(identity, vec![merged.len()]);
                merged.push(without_directives(item));
            }
        }
    }
    Ok(merged.into_iter().flatten().collect())
}

fn retain_keys(
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), PatchError> {
    const FORM: &str = "invalid patch format of retainKeys";
    let Some(keys) = keys.as_array() else {
        return malformed(FORM);
    };
    let retained = |name: &str| keys.iter().any(|key| key == name);
    if patch
        .iter()
        .any(|(name, value)| !name.starts_with('$') && !value.is_null() && !retained(name))
    {
        return malformed(FORM);
    }
    object.retain(|name, _| retained(name));
    Ok(())
}

fn as_list(value: &Value) -> Result<&[Value], PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => malformed("invalid patch format of setElementOrder list"),
    }
}

fn delete_from(
    object: &mut Map<String, Value>,
    field: &str,
    value: &Value,
) -> Result<(), PatchError> {
    let Value::Array(gone) = value else {
        return malformed("invalid patch format of primitive list");
    };
    if let Some(Value::Array(items)) = object.get_mut(field) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Every item of the patch must be in the order, and in that order.
fn fits_order(items: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let identity = |item: &Value| key.map_or(item.to_string(), |key| item[key].to_string());
    let mut left = wanted.iter().map(identity);
    for item in items.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted_item = identity(item);
        if !left.any(|w| w == wanted_item) {
            return malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(items.to_vec()),
                Value::from(wanted.to_vec())
            ));
        }
    }
    Ok(())
}

/// An order for a list that the patch does not otherwise touch.
fn order_alone(
    schema: Option<&Schema>,
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    order: &Value,
) -> Result<(), PatchError> {
    let wanted = as_list(order)?;
    if patch.contains_key(field) {
        return Ok(());
    }
    let key = schema.and_then(|s| s.merge_key.as_deref());
    let gone = patch
        .get(&format!("{DELETE_FROM}{field}"))
        .and_then(Value::as_array);
    if let Some(Value::Array(items)) = object.get_mut(field) {
        let before = items.clone();
        let mut left = std::mem::take(items);
        left.retain(|item| gone.is_none_or(|gone| !gone.contains(item)));
        *items = arrange(left, wanted, &before, key);
    }
    Ok(())
}

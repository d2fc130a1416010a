//! Merging a configuration into an object, and removing a set of fields from one.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::compare::{Shape, item_step, shape};
use super::set::FieldSet;
use crate::schema::Schema;

/// The object with the configuration's fields.
pub(super) fn merge(schema: &Schema, old: &Value, config: &Value) -> Value {
    both(Some(schema), old, config)
}

/// What of a partial object could only replace whole what others own in parts: lists and maps that are one value.
pub(super) fn atomic(schema: Option<&Schema>, value: &Value, path: &str) -> Option<String> {
    match (shape(schema, value), value) {
        (Shape::Leaf, Value::Array(_) | Value::Object(_)) => Some(path.to_owned()),
        (Shape::Leaf, _) => None,
        (Shape::Map(map), _) => map.iter().find_map(|(name, value)| {
            let child = schema.and_then(|s| s.child(name));
            atomic(child, value, &format!("{path}.{name}"))
        }),
        (Shape::List(items), _) => {
            let schema = schema.and_then(|s| s.items.as_ref());
            let mut all = items.iter().enumerate();
            all.find_map(|(index, item)| atomic(schema, item, &format!("{path}[{index}]")))
        }
    }
}

fn both(schema: Option<&Schema>, old: &Value, config: &Value) -> Value {
    match (shape(schema, old), shape(schema, config)) {
        (Shape::Map(old), Shape::Map(config)) => {
            let mut out = old.clone();
            for (name, value) in config {
                let merged = match old.get(name) {
                    Some(before) => both(schema.and_then(|s| s.child(name)), before, value),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            out.into()
        }
        (Shape::List(old), Shape::List(config)) => match schema {
            Some(schema) => lists(schema, old, config).into(),
            None => config.to_vec().into(),
        },
        _ => config.clone(),
    }
}

/// Items of the configuration come in its order; the others keep their places before what follows them.
fn lists(schema: &Schema, old: &[Value], config: &[Value]) -> Vec<Value> {
    let step = |item: &Value| item_step(schema, item).unwrap_or_default();
    let wanted: HashMap<String, usize> = config
        .iter()
        .enumerate()
        .map(|(at, item)| (step(item), at))
        .collect();
    let before: HashMap<String, &Value> = old.iter().map(|item| (step(item), item)).collect();
    let mut out = Vec::with_capacity(old.len() + config.len());
    let mut next = 0;
    let take = |item: &Value| match before.get(&step(item)) {
        Some(old) => both(schema.items.as_ref(), old, item),
        None => item.clone(),
    };
    for item in old {
        match wanted.get(&step(item)) {
            None => out.push(item.clone()),
            Some(at) if *at >= next => {
                out.extend(config[next..=*at].iter().map(take));
                next = at + 1;
            }
            Some(_) => {}
        }
    }
    out.extend(config[next..].iter().map(take));
    out
}

/// Removes the fields of a set; what is emptied by that goes with them.
pub(super) fn remove(schema: &Schema, object: &mut Value, gone: &FieldSet) {
    below(Some(schema), object, gone);
}

/// Tells whether the value was emptied.
fn below(schema: Option<&Schema>, value: &mut Value, gone: &FieldSet) -> bool {
    match value {
        Value::Object(map) => {
            let before = map.len();
            fields(schema, map, gone);
            before > 0 && map.is_empty()
        }
        Value::Array(items) => {
            let Some(schema) = schema else {
                return false;
            };
            let before = items.len();
            items.retain_mut(|item| {
                let step = item_step(schema, item).unwrap_or_default();
                match gone.children.get(&step) {
                    Some(set) if set.member => false,
                    Some(set) => {
                        below(schema.items.as_ref(), item, set);
                        true
                    }
                    None => true,
                }
            });
            before > 0 && items.is_empty()
        }
        _ => false,
    }
}

fn fields(schema: Option<&Schema>, map: &mut Map<String, Value>, gone: &FieldSet) {
    for (step, set) in &gone.children {
        let Some(name) = step.strip_prefix("f:") else {
            continue;
        };
        let emptied = match map.get_mut(name) {
            _ if set.member => true,
            Some(value) => below(schema.and_then(|s| s.child(name)), value, set),
            None => false,
        };
        if emptied {
            map.shift_remove(name);
        }
    }
}

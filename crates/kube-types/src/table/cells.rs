//! The cells of each built-in kind but pods.

mod kinds;
mod network;
mod workload;

use serde_json::{Value, json};

use super::age;
use crate::object::{self, at, list, map, text};
use crate::resources::Resource;
use crate::selector::LabelSelector;
use crate::time::Timestamp;

/// The cells of an object, in the order of its kind's columns.
pub(super) fn of(resource: &Resource, value: &Value, now: Timestamp) -> Vec<Value> {
    let name = object::name(value);
    let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
    if (group, plural) == ("", "pods") {
        return super::pod::cells(value, now);
    }
    let found = workload::cells(plural, value, now)
        .or_else(|| network::cells(group, plural, value, now))
        .or_else(|| kinds::cells(plural, value, now));
    found.unwrap_or_else(|| {
        vec![
            name.into(),
            text(value, "metadata.creationTimestamp").into(),
        ]
    })
}

/// The number at a path, zero if absent.
fn number(value: &Value, path: &str) -> Value {
    object::int(value, path).unwrap_or_default().into()
}

/// The text at a path, or another.
fn or(value: &Value, path: &str, other: &str) -> Value {
    match text(value, path) {
        "" => other.into(),
        found => found.into(),
    }
}

fn names_and_images(value: &Value, path: &str) -> [Value; 2] {
    let containers = list(value, path);
    ["name", "image"].map(|field| {
        containers
            .iter()
            .map(|c| text(c, field))
            .collect::<Vec<_>>()
            .join(",")
            .into()
    })
}

/// Labels as `a=b,c=d` in order, or `<none>`.
fn labels(value: &Value, path: &str) -> Value {
    let mut pairs: Vec<String> = map(value, path)
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    match pairs.as_slice() {
        [] => "<none>".into(),
        pairs => pairs.join(",").into(),
    }
}

/// A label selector object in its text form.
fn selector(value: &Value, path: &str) -> Value {
    match at(value, path) {
        None => "<none>".into(),
        Some(found) => match LabelSelector::from_object(Some(found)) {
            Ok(selector) if selector.is_everything() => "<none>".into(),
            Ok(selector) => sorted(&selector).into(),
            Err(_) => "<error>".into(),
        },
    }
}

fn sorted(selector: &LabelSelector) -> String {
    let shown = selector.to_string();
    let mut parts: Vec<&str> = shown.split(',').collect();
    // Sets carry commas of their own: only plain pairs are put in order.
    if !shown.contains('(') {
        parts.sort_unstable();
    }
    parts.join(",")
}

fn row(cells: impl IntoIterator<Item = Value>) -> Option<Vec<Value>> {
    Some(cells.into_iter().collect())
}

fn name_and_age(value: &Value, now: Timestamp) -> (Value, Value) {
    (object::name(value).into(), age(value, now).into())
}

/// A list cut to its first `max` items.
fn cut(items: &[String], max: usize) -> String {
    if items.is_empty() {
        return "<unset>".to_owned();
    }
    let shown = items[..items.len().min(max)].join(",");
    if items.len() > max {
        format!("{shown} + {} more...", items.len() - max)
    } else {
        shown
    }
}

fn flag(value: &Value, path: &str, absent: bool) -> Value {
    at(value, path).cloned().unwrap_or(json!(absent))
}

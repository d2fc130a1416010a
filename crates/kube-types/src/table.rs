//! The columns and rows that lists are shown with.

mod cells;
mod columns;
mod json_path;
mod pod;

use serde_json::{Value, json};

use crate::object;
use crate::resources::Resource;
use crate::time::{Timestamp, human_duration};

pub use json_path::json_path;

/// A column of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// The format, as `name`; may be empty.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown, more only in wide output.
    pub priority: i64,
    /// Where a custom resource keeps the value: a JSONPath.
    pub json_path: String,
}

impl Column {
    /// The definition as clients get it.
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }
}

/// The columns that a resource is shown with.
pub fn columns(resource: &Resource) -> Vec<Column> {
    if resource.custom {
        let name = columns::parse("Name*");
        let own = if resource.columns.is_empty() {
            columns::age()
        } else {
            resource.columns.clone()
        };
        return name.into_iter().chain(own).collect();
    }
    columns::parse(columns::of(&resource.group, &resource.plural))
}

/// The cells of one object, in the order of [`columns`].
pub fn row(resource: &Resource, value: &Value, now: Timestamp) -> Vec<Value> {
    if !resource.custom {
        return cells::of(resource, value, now);
    }
    let age = columns::age();
    let own = if resource.columns.is_empty() {
        &age
    } else {
        &resource.columns
    };
    let mut cells = vec![object::name(value).into()];
    cells.extend(own.iter().map(|column| custom_cell(column, value, now)));
    cells
}

fn custom_cell(column: &Column, value: &Value, now: Timestamp) -> Value {
    let found = json_path(value, &column.json_path);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match column.kind.as_str() {
        "integer" if first.is_i64() || first.is_u64() => (*first).clone(),
        "integer" => first.as_f64().map_or(Value::Null, |f| (f as i64).into()),
        "number" if first.is_number() => (*first).clone(),
        "boolean" if first.is_boolean() => (*first).clone(),
        "date" => match first.as_str() {
            Some(text) => since(text, now).into(),
            None => "<unknown>".into(),
        },
        "string" => {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            found
                .iter()
                .map(|v| text(v))
                .collect::<Vec<_>>()
                .join(" ")
                .into()
        }
        _ => Value::Null,
    }
}

/// The age of an object at `now`, as the AGE column shows it.
pub fn age(value: &Value, now: Timestamp) -> String {
    since(object::text(value, "metadata.creationTimestamp"), now)
}

/// How long ago a time was, or `<unknown>`.
fn since(time: &str, now: Timestamp) -> String {
    match Timestamp::parse(time) {
        Some(time) => human_duration(now.seconds - time.seconds),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests;

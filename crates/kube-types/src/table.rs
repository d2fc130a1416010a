//! The columns and rows that lists are shown with.

use serde_json::{Value, json};

use crate::object;
use crate::resources::Resource;
use crate::time::{Timestamp, human_duration};

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub fn columns(_resource: &Resource) -> Vec<Column> {
    let column = |name: &str, kind: &str, format: &str| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: format.to_owned(),
        description: String::new(),
        priority: 0,
        json_path: String::new(),
    };
    vec![
        column("Name", "string", "name"),
        column("Created At", "date", ""),
    ]
}

/// The cells of one object, in the order of [`columns`].
pub fn row(_resource: &Resource, value: &Value, _now: Timestamp) -> Vec<Value> {
    vec![
        object::name(value).into(),
        object::text(value, "metadata.creationTimestamp").into(),
    ]
}

/// The age of an object at `now`, as the AGE column shows it.
pub fn age(value: &Value, now: Timestamp) -> String {
    match Timestamp::parse(object::text(value, "metadata.creationTimestamp")) {
        Some(created) => human_duration(now.seconds - created.seconds),
        None => "<unknown>".to_owned(),
    }
}

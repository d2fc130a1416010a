//! Server-side apply: who owns which field, conflicts, and what happens to fields that nobody owns any more.

use serde_json::Value;

use crate::schema::Schema;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager's name.
    pub name: &'a str,
    /// The version the object is written in, as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource it is written through; empty for the object itself.
    pub subresource: &'a str,
    /// The time to note, as RFC 3339 to the second.
    pub now: &'a str,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, in the words of the message.
    pub manager: String,
    /// The field, as `.spec.replicas`.
    pub field: String,
}

/// Why an object can't be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own fields with other values.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The object or its managed fields make no sense.
    #[error("{0}")]
    Invalid(String),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    format!("Apply failed with {} conflicts", conflicts.len())
}

/// Notes in `new`'s managed fields what a create, update or patch changed against `old`.
pub fn track(_schema: &Schema, _old: Option<&Value>, _new: &mut Value, _manager: Manager<'_>) {}

/// Applies a configuration to the live object and gives the object to store, with its managed fields.
///
/// # Errors
/// Conflicts (unless forced), or a configuration that makes no sense.
pub fn apply(
    _schema: &Schema,
    _live: Option<&Value>,
    config: &Value,
    _manager: Manager<'_>,
    _force: bool,
) -> Result<Value, ApplyError> {
    Ok(config.clone())
}

//! Server-side apply: who owns which field, conflicts, and what happens to fields that nobody owns any more.
//!
//! As the structured merge library of the original does it: a manager's set holds the fields it last wrote. An apply
//! merges the configuration into the live object, removes what this manager owned and no longer wants if nobody else
//! owns it, and is in conflict where it changes what another manager owns.

mod compare;
mod managers;
mod merge;
mod set;

use std::fmt;

use serde_json::{Value, json};

pub use managers::Managers;
pub use set::FieldSet;

use crate::field::go_quote;
use crate::resources::Resource;

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
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyError {
    /// Other managers own fields with other values: 409 with [`ApplyError::causes`].
    Conflicts(Vec<Conflict>),
    /// The object or its managed fields make no sense: 400 or 422.
    Invalid(String),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conflicts = match self {
            Self::Invalid(message) => return f.write_str(message),
            Self::Conflicts(conflicts) => conflicts,
        };
        if let [one] = conflicts.as_slice() {
            return write!(
                f,
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.manager, one.field
            );
        }
        let mut lines = Vec::new();
        let mut last = None;
        for conflict in conflicts {
            if last != Some(&conflict.manager) {
                lines.push(format!("conflicts with {}:", conflict.manager));
                last = Some(&conflict.manager);
            }
            lines.push(format!("- {}", conflict.field));
        }
        write!(
            f,
            "Apply failed with {} conflicts: {}",
            conflicts.len(),
            lines.join("\n")
        )
    }
}

impl std::error::Error for ApplyError {}

impl ApplyError {
    /// The causes of the Status that tells the conflicts.
    pub fn causes(&self) -> Value {
        let Self::Conflicts(conflicts) = self else {
            return json!([]);
        };
        conflicts
            .iter()
            .map(|c| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager), "field": c.field})
            })
            .collect()
    }
}

/// Notes in `new`'s managed fields what a create, update or patch changed against `old`. Call it with the object as it
/// will be stored, after defaults, strategy and admission.
pub fn track(resource: &Resource, old: Option<&Value>, new: &mut Value, manager: Manager<'_>) {
    let empty = json!({"metadata": {}});
    let live = old.unwrap_or(&empty);
    let mut managers = Managers::of_update(live, new);
    let changes = compare::compare(&resource.schema, resource.custom, live, new)
        .without(&ignored(resource, manager));
    let id = Managers::id(&manager, "Update");
    managers.lose(&changes, &id);
    let own = managers.set(&id).cloned().unwrap_or_default();
    let own = own
        .difference(&changes.removed)
        .union(&changes.modified)
        .union(&changes.added);
    managers.put(&id, own, manager);
    managers.write(new);
}

/// The object with the fields of a partial one, as an admission policy applies it: nobody owns anything of it.
///
/// # Errors
/// A field that the schema lacks, an item without its keys, a list or map that is one value.
pub fn merge_partial(
    resource: &Resource,
    object: &Value,
    partial: &Value,
) -> Result<Value, String> {
    if let Some(path) = merge::atomic(Some(&resource.schema), partial, "") {
        return Err(format!(
            "may not mutate atomic arrays, maps or structs: {path}"
        ));
    }
    compare::fields(&resource.schema, partial)?;
    Ok(merge::merge(&resource.schema, object, partial))
}

/// Applies a configuration to the live object and gives the object to store, with its managed fields, before defaults.
///
/// # Errors
/// Conflicts (unless forced), or a configuration that makes no sense.
pub fn apply(
    resource: &Resource,
    live: Option<&Value>,
    config: &Value,
    manager: Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if config["metadata"]
        .get("managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(ApplyError::Invalid(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let empty = json!({"metadata": {}});
    let old = live.unwrap_or(&empty);
    let ignored = ignored(resource, manager);
    let mut managers = Managers::read(old);
    if live.is_some() && managers.is_empty() {
        let owned = compare::fields(&resource.schema, old).map(|s| s.without(&ignored));
        managers.adopt(owned.unwrap_or_default(), manager);
    }
    let place = describe(config, manager);
    let invalid = |e| {
        ApplyError::Invalid(format!(
            "failed to create typed patch object ({place}): {e}"
        ))
    };
    let wanted = compare::fields(&resource.schema, config)
        .map_err(invalid)?
        .without(&ignored);
    let mut merged = merge::merge(&resource.schema, old, config);
    let id = Managers::id(&manager, "Apply");
    let last = managers.set(&id).cloned();
    let others = managers
        .union_of_others(&id)
        .union(&wanted)
        .with_named(&resource.schema);
    if let Some(last) = &last {
        let gone = last.with_named(&resource.schema).difference(&others);
        merge::remove(&resource.schema, &mut merged, &gone);
    }
    let changes =
        compare::compare(&resource.schema, resource.custom, old, &merged).without(&ignored);
    let conflicts = managers.conflicts(&changes, &id);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    managers.lose(&changes, &id);
    managers.put(&id, wanted, manager);
    managers.write(&mut merged);
    Ok(merged)
}

fn describe(config: &Value, manager: Manager<'_>) -> String {
    let (namespace, name) = (
        crate::object::namespace(config),
        crate::object::name(config),
    );
    let kind = crate::object::text(config, "kind");
    format!("{namespace}/{name}; {}, Kind={kind}", manager.api_version)
}

/// Fields that nobody owns, or that are not written this way.
fn ignored(resource: &Resource, manager: Manager<'_>) -> Vec<Vec<&'static str>> {
    let mut paths = vec![vec!["f:apiVersion"], vec!["f:kind"]];
    let meta = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ];
    paths.extend(meta.iter().map(|field| vec!["f:metadata", field]));
    match manager.subresource {
        "status" => {
            paths.push(vec!["f:spec"]);
            if resource.custom {
                paths.push(vec!["f:metadata"]);
            }
        }
        "" if resource.has_status() => paths.push(vec!["f:status"]),
        _ => {}
    }
    paths
}

/// A manager in the words of a conflict.
fn in_words(entry: &Value) -> String {
    let text = |field: &str| crate::object::text(entry, field);
    let mut words = go_quote(text("manager"));
    if !text("subresource").is_empty() {
        words.push_str(&format!(
            " with subresource {}",
            go_quote(text("subresource"))
        ));
    }
    if text("operation") == "Update" {
        words.push_str(&format!(" using {}", text("apiVersion")));
        if !text("time").is_empty() {
            words.push_str(&format!(" at {}", text("time")));
        }
    }
    words
}

#[cfg(test)]
mod tests;

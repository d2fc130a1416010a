//! What the server decides about an object before it is validated: which fields a client may not set, and the generation.

use serde_json::{Value, json};

use crate::object::{carry, metadata_mut, same};
use crate::resources::Resource;

/// Fields of the metadata that only the server sets.
const SERVER_FIELDS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
];

/// Prepares a new object: drops what only the server sets, empties the status, starts the generation.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    let meta = metadata_mut(object);
    for field in SERVER_FIELDS {
        meta.shift_remove(field);
    }
    meta.shift_remove("resourceVersion");
    if resource.has_status()
        && let Some(object) = object.as_object_mut()
    {
        object.shift_remove("status");
    }
    if counts_generations(resource) {
        metadata_mut(object).insert("generation".to_owned(), json!(1));
    }
}

/// Prepares an object that replaces `old`: the status stays as it was, and the generation counts changes.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value) {
    keep_server_fields(new, old);
    if resource.has_status() {
        carry(new, old, "status");
    }
    if counts_generations(resource) && changed(resource, new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        metadata_mut(new).insert("generation".to_owned(), json!(generation + 1));
    }
}

/// Prepares a new status: everything but the status and the metadata's harmless parts stays as it was.
pub fn prepare_status_update(_resource: &Resource, new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let labels = new["metadata"].clone();
    let mut kept = old.clone();
    kept["metadata"] = labels;
    match status {
        Some(status) => kept["status"] = status,
        None => {
            kept.as_object_mut().map(|map| map.shift_remove("status"));
        }
    }
    *new = kept;
    keep_server_fields(new, old);
}

fn keep_server_fields(new: &mut Value, old: &Value) {
    for field in SERVER_FIELDS {
        let from = &old["metadata"];
        metadata_mut(new);
        carry(&mut new["metadata"], from, field);
    }
}

fn counts_generations(resource: &Resource) -> bool {
    resource.custom
}

fn changed(_resource: &Resource, new: &Value, old: &Value) -> bool {
    !same(new.get("spec"), old.get("spec"))
}

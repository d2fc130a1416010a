//! What the server decides about an object before it is validated: which fields a client may not set, and the generation.
//!
//! The server itself sets `metadata.name` (from generateName), `namespace`, `uid` and `creationTimestamp` before
//! [`prepare_create`], which uses them and never takes them away.

mod pod;
mod service;
mod status;

use serde_json::{Map, Value, json};

use crate::object::{self, carry, metadata_mut, same};
use crate::resources::Resource;

pub use pod::quality_of_service;
pub use status::empty_status;

/// Fields of the metadata that stay as they are whatever a client writes.
const SERVER_FIELDS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
];

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Prepares a new object: drops what only the server sets, empties the status, starts the generation.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    let meta = metadata_mut(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "resourceVersion",
    ] {
        meta.shift_remove(field);
    }
    status::reset(resource, object);
    if counts_generations(resource) {
        metadata_mut(object).insert("generation".to_owned(), json!(1));
    }
    if resource.custom {
        return;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::create(object),
        ("", "services") => service::create(object),
        ("", "namespaces") => namespace(object),
        ("apps", "daemonsets") => {
            annotate(object, TEMPLATE_GENERATION, "1");
        }
        ("batch", "jobs") => job_selector(object),
        _ => {}
    }
}

/// Prepares an object that replaces `old`: the status stays as it was, and the generation counts changes.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value) {
    keep_server_fields(new, old);
    if keeps_status(resource) {
        carry(new, old, "status");
    }
    if !resource.custom {
        update_kind(resource, new, old);
    }
    if counts_generations(resource) && changed(resource, new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        metadata_mut(new).insert("generation".to_owned(), json!(generation + 1));
    }
}

fn update_kind(resource: &Resource, new: &mut Value, old: &Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => service::update(new, old),
        ("", "namespaces") => {
            let finalizers = &old["spec"];
            object::object_mut(new, "spec");
            carry(&mut new["spec"], finalizers, "finalizers");
            let name = object::name(new).to_owned();
            let labels = metadata_mut(new)
                .entry("labels")
                .or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
        }
        ("", "secrets") if object::text(new, "type").is_empty() => carry(new, old, "type"),
        ("apps", "daemonsets") => template_generation(new, old),
        ("certificates.k8s.io", "certificatesigningrequests") => carry(new, old, "spec"),
        ("apiextensions.k8s.io", "customresourcedefinitions") => store_version(new),
        _ => {}
    }
}

/// Objects may be stored in the storage version from now on.
fn store_version(definition: &mut Value) {
    let Some(version) = crate::crd::storage_version(definition).map(str::to_owned) else {
        return;
    };
    let status = object::object_mut(definition, "status");
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = stored.as_array_mut()
        && !list.iter().any(|known| *known == version.as_str())
    {
        list.push(version.into());
    }
}

/// Prepares a new status: everything but the status and the metadata's harmless parts stays as it was.
pub fn prepare_status_update(resource: &Resource, new: &mut Value, old: &Value) {
    if resource.custom {
        return status::update_custom(new, old);
    }
    status::update(resource, new, old);
    keep_server_fields(new, old);
}

/// Prepares what is written through another subresource of a built-in kind: `approval`, `finalize`,
/// `ephemeralcontainers` or `resize`.
pub fn prepare_subresource_update(
    resource: &Resource,
    subresource: &str,
    new: &mut Value,
    old: &Value,
) {
    match subresource {
        "status" => return prepare_status_update(resource, new, old),
        "finalize" => carry(new, old, "status"),
        "approval" => {
            let conditions = new["status"].get("conditions").cloned();
            carry(new, old, "spec");
            carry(new, old, "status");
            if let Some(conditions) = conditions {
                object::object_mut(new, "status").insert("conditions".to_owned(), conditions);
            }
        }
        "ephemeralcontainers" => pod::keep_only(new, old, pod::ephemeral_containers),
        "resize" => pod::keep_only(new, old, pod::resources),
        _ => {}
    }
    keep_server_fields(new, old);
    if counts_generations(resource) && changed(resource, new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        metadata_mut(new).insert("generation".to_owned(), json!(generation + 1));
    }
}

fn keep_server_fields(new: &mut Value, old: &Value) {
    metadata_mut(new);
    for field in SERVER_FIELDS {
        carry(&mut new["metadata"], &old["metadata"], field);
    }
}

/// Whether an update through the object itself leaves the status alone.
fn keeps_status(resource: &Resource) -> bool {
    resource.has_status()
}

/// Kinds whose generation counts changes of what is wished for.
pub fn counts_generations(resource: &Resource) -> bool {
    if resource.custom {
        return true;
    }
    match resource.group.as_str() {
        "" => matches!(
            resource.plural.as_str(),
            "pods" | "podtemplates" | "replicationcontrollers"
        ),
        "apps" => resource.plural != "controllerrevisions",
        "batch"
        | "policy"
        | "flowcontrol.apiserver.k8s.io"
        | "discovery.k8s.io"
        | "admissionregistration.k8s.io"
        | "apiextensions.k8s.io" => true,
        "networking.k8s.io" => {
            matches!(
                resource.plural.as_str(),
                "ingresses" | "ingressclasses" | "networkpolicies"
            )
        }
        "scheduling.k8s.io" => true,
        "resource.k8s.io" => matches!(resource.plural.as_str(), "resourceslices" | "deviceclasses"),
        _ => false,
    }
}

/// Whether more than metadata and status changed.
fn changed(resource: &Resource, new: &Value, old: &Value) -> bool {
    let deployment = resource.is("apps", "deployments");
    if deployment
        && !same(
            new["metadata"].get("annotations"),
            old["metadata"].get("annotations"),
        )
    {
        return true;
    }
    if resource.is("discovery.k8s.io", "endpointslices")
        && !same(new["metadata"].get("labels"), old["metadata"].get("labels"))
    {
        return true;
    }
    if resource.is("scheduling.k8s.io", "priorityclasses") {
        return false;
    }
    let apart = |field: &str| {
        matches!(field, "metadata" | "apiVersion" | "kind")
            || field == "status" && (resource.has_status() || !resource.custom)
    };
    let none = Map::new();
    let (new, old) = (
        new.as_object().unwrap_or(&none),
        old.as_object().unwrap_or(&none),
    );
    new.keys()
        .chain(old.keys())
        .any(|field| !apart(field) && !same(new.get(field), old.get(field)))
}

fn annotate(object: &mut Value, name: &str, text: &str) {
    let annotations = metadata_mut(object)
        .entry("annotations")
        .or_insert_with(|| json!({}));
    if annotations.is_object() {
        annotations[name] = text.into();
    }
}

fn template_generation(new: &mut Value, old: &Value) {
    let before: i64 = old["metadata"]["annotations"][TEMPLATE_GENERATION]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let moved = !same(new["spec"].get("template"), old["spec"].get("template"));
    annotate(
        new,
        TEMPLATE_GENERATION,
        &(before + i64::from(moved)).to_string(),
    );
}

/// A namespace stays until the server's own finalizer is gone.
fn namespace(object: &mut Value) {
    let spec = object::object_mut(object, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

/// A job finds its pods by its uid, unless its author chose the selector.
fn job_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true || !object["spec"]["template"].is_object() {
        return;
    }
    let (name, uid) = (
        object["metadata"]["name"].clone(),
        object["metadata"]["uid"].clone(),
    );
    let labels = &mut object["spec"]["template"]["metadata"]["labels"];
    if labels.is_null() {
        *labels = json!({});
    }
    let Some(labels) = labels.as_object_mut() else {
        return;
    };
    for (label, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        object::fill(labels, label, value.clone());
    }
    let selector = object::object_mut(&mut object["spec"], "selector");
    let wanted = selector.entry("matchLabels").or_insert_with(|| json!({}));
    if let Some(wanted) = wanted.as_object_mut() {
        object::fill(wanted, "batch.kubernetes.io/controller-uid", uid);
    }
}

#[cfg(test)]
mod tests;

//! The status: what it is at first, and what may be written with it.

use serde_json::{Value, json};

use crate::object::{carry, same};
use crate::resources::Resource;

/// The status that a new object of a built-in kind has.
pub fn empty_status(resource: &Resource) -> Value {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") | ("networking.k8s.io", "ingresses") => json!({"loadBalancer": {}}),
        ("", "namespaces") => json!({"phase": "Active"}),
        ("", "persistentvolumes" | "persistentvolumeclaims" | "pods") => {
            json!({"phase": "Pending"})
        }
        ("", "replicationcontrollers") | ("apps", "replicasets") => json!({"replicas": 0}),
        ("apps", "statefulsets") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "daemonsets") => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
        ("policy", "poddisruptionbudgets") => json!({
            "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        ("autoscaling", "horizontalpodautoscalers") if resource.version == "v1" => {
            json!({"currentReplicas": 0, "desiredReplicas": 0})
        }
        ("autoscaling", "horizontalpodautoscalers") => {
            json!({"currentMetrics": null, "desiredReplicas": 0})
        }
        _ => json!({}),
    }
}

/// Empties the status of a new object.
pub(super) fn reset(resource: &Resource, object: &mut Value) {
    // A node registers itself with its status; a definition's status knows the stored versions by default.
    if !resource.has_status() || resource.is("", "nodes") {
        return;
    }
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        let stored = object["status"]["storedVersions"].clone();
        object["status"] = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
        return;
    }
    if resource.custom {
        if let Some(object) = object.as_object_mut() {
            object.shift_remove("status");
        }
        return;
    }
    object["status"] = empty_status(resource);
}

/// Everything of a built-in object but status and metadata stays as it was.
pub(super) fn update(resource: &Resource, new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    kept["metadata"] = new["metadata"].clone();
    carry(&mut kept, new, "status");
    if resource.is("apps", "deployments")
        || resource.is("apiextensions.k8s.io", "customresourcedefinitions")
    {
        carry(&mut kept["metadata"], &old["metadata"], "labels");
    }
    if resource.is("", "pods") {
        carry(&mut kept["metadata"], &old["metadata"], "ownerReferences");
        if kept["status"].is_object() && kept["status"]["qosClass"].is_null() {
            carry(&mut kept["status"], &old["status"], "qosClass");
        }
    }
    if resource.is("certificates.k8s.io", "certificatesigningrequests") {
        keep_decisions(&mut kept, old);
    }
    *new = kept;
}

/// Only the approval subresource approves or denies.
fn keep_decisions(new: &mut Value, old: &Value) {
    let decision = |c: &Value| matches!(c["type"].as_str(), Some("Approved" | "Denied"));
    let conditions = |object: &Value| crate::object::list(object, "status.conditions").to_vec();
    let kept = conditions(old).into_iter().filter(decision);
    let merged: Vec<Value> = kept
        .chain(conditions(new).into_iter().filter(|c| !decision(c)))
        .collect();
    if !merged.is_empty() {
        crate::object::object_mut(new, "status").insert("conditions".to_owned(), merged.into());
    }
}

/// Of a custom object only the status may change, and the managed fields with it.
pub(super) fn update_custom(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for field in ["managedFields", "resourceVersion"] {
        carry(&mut kept["metadata"], &new["metadata"], field);
    }
    carry(&mut kept, new, "status");
    debug_assert!(same(kept.get("spec"), old.get("spec")));
    *new = kept;
}

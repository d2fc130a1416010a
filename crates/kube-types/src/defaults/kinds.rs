//! Defaults of all other kinds.

use serde_json::{Map, Value, json};

use super::{fill_empty, made, object, text};
use crate::object::fill;
use crate::schema::Schema;

type Fields = Map<String, Value>;

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn rule(schema: &Schema, map: &mut Fields) -> bool {
    core(schema, map)
        || storage(schema.name, map)
        || admission(schema.name, map)
        || other(schema, map)
}

fn core(schema: &Schema, map: &mut Fields) -> bool {
    match schema.name {
        "Namespace" => namespace(map),
        "Secret" => {
            fill_empty(map, "type", "Opaque");
            string_data(map);
        }
        "LimitRangeItem" => limit_range(map),
        "NodeStatus" => {
            if let Some(capacity) = map.get("capacity").cloned() {
                fill(map, "allocatable", capacity);
            }
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            if let Some(role) = object(map, "roleRef") {
                fill_empty(role, "apiGroup", RBAC);
            }
        }
        // Flow control has subjects too, of another shape.
        "Subject" if schema.child("apiGroup").is_some() => {
            if matches!(text(map, "kind"), "User" | "Group") {
                fill_empty(map, "apiGroup", RBAC);
            }
        }
        "PriorityClass" => fill(map, "preemptionPolicy", "PreemptLowerPriority"),
        "TokenRequestSpec" => fill(map, "expirationSeconds", 3_600),
        _ => return false,
    }
    true
}

fn namespace(map: &mut Fields) {
    let name = map
        .get("metadata")
        .map(|m| m["name"].clone())
        .filter(Value::is_string);
    if let Some(labels) = made(map, "metadata").and_then(|meta| {
        name.as_ref()?;
        made(meta, "labels")
    }) {
        labels.insert(
            "kubernetes.io/metadata.name".to_owned(),
            name.unwrap_or_default(),
        );
    }
    if let Some(status) = made(map, "status") {
        fill_empty(status, "phase", "Active");
    }
    fill(map, "spec", json!({}));
}

fn limit_range(map: &mut Fields) {
    if text(map, "type") != "Container" {
        return;
    }
    let of = |map: &Fields, field: &str| {
        map.get(field)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (max, min) = (of(map, "max"), of(map, "min"));
    let mut default = of(map, "default");
    for (name, amount) in max {
        fill(&mut default, &name, amount);
    }
    let mut request = of(map, "defaultRequest");
    for (name, amount) in default.iter().chain(&min) {
        fill(&mut request, name, amount.clone());
    }
    for (field, amounts) in [("default", default), ("defaultRequest", request)] {
        if !amounts.is_empty() {
            map.insert(field.to_owned(), amounts.into());
        }
    }
}

fn storage(name: &str, map: &mut Fields) -> bool {
    match name {
        "PersistentVolume" => {
            if let Some(spec) = object(map, "spec") {
                fill_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
                fill(spec, "volumeMode", "Filesystem");
            }
            if let Some(status) = made(map, "status") {
                fill_empty(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaim" => {
            if let Some(status) = made(map, "status") {
                fill_empty(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaimSpec" => {
            fill(map, "volumeMode", "Filesystem");
            fill(map, "resources", json!({}));
        }
        "StorageClass" => {
            fill(map, "reclaimPolicy", "Delete");
            fill(map, "volumeBindingMode", "Immediate");
        }
        "CSIDriverSpec" => {
            fill(map, "attachRequired", true);
            fill(map, "podInfoOnMount", false);
            fill(map, "storageCapacity", false);
            fill(map, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            fill(map, "volumeLifecycleModes", json!(["Persistent"]));
            fill(map, "requiresRepublish", false);
            fill(map, "seLinuxMount", false);
        }
        _ => return false,
    }
    true
}

fn admission(name: &str, map: &mut Fields) -> bool {
    match name {
        "ValidatingWebhook" | "MutatingWebhook" => {
            fill(map, "failurePolicy", "Fail");
            selectors(map);
            fill(map, "timeoutSeconds", 10);
            if name == "MutatingWebhook" {
                fill(map, "reinvocationPolicy", "Never");
            }
        }
        "MatchResources" => selectors(map),
        "RuleWithOperations" | "NamedRuleWithOperations" => fill(map, "scope", "*"),
        "ServiceReference" => fill(map, "port", 443),
        "ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec" => {
            fill(map, "failurePolicy", "Fail")
        }
        _ => return false,
    }
    true
}

/// Texts that are written as such are kept as bytes, and win over bytes of the same name.
fn string_data(map: &mut Fields) {
    let Some(Value::Object(texts)) = map.shift_remove("stringData") else {
        return;
    };
    let data = map.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (name, text) in texts {
            let bytes = text.as_str().unwrap_or_default().as_bytes();
            data.insert(name, crate::protobuf::base64_encode(bytes).into());
        }
    }
}

fn selectors(map: &mut Fields) {
    fill(map, "matchPolicy", "Equivalent");
    fill(map, "namespaceSelector", json!({}));
    fill(map, "objectSelector", json!({}));
}

fn other(schema: &Schema, map: &mut Fields) -> bool {
    match schema.name {
        "FlowSchemaSpec" => fill_empty(map, "matchingPrecedence", 1_000),
        "ExemptPriorityLevelConfiguration" => {
            fill(map, "nominalConcurrencyShares", 0);
            fill(map, "lendablePercent", 0);
        }
        "LimitedPriorityLevelConfiguration" => {
            fill(map, "nominalConcurrencyShares", 30);
            fill(map, "lendablePercent", 0);
        }
        "QueuingConfiguration" => {
            fill_empty(map, "handSize", 8);
            fill_empty(map, "queues", 64);
            fill_empty(map, "queueLengthLimit", 50);
        }
        "ExactDeviceRequest" | "DeviceSubRequest" => {
            fill_empty(map, "allocationMode", "ExactCount");
            if text(map, "allocationMode") == "ExactCount" {
                fill_empty(map, "count", 1);
            }
        }
        "CustomResourceDefinition" => definition(map),
        _ => return false,
    }
    true
}

fn definition(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    if let Some(names) = object(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            fill_empty(names, "singular", kind.to_lowercase());
            fill_empty(names, "listKind", format!("{kind}List"));
        }
    }
    fill(spec, "conversion", json!({"strategy": "None"}));
    let versions = spec.get("versions").and_then(Value::as_array);
    let stored = versions
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone());
    if let (Some(stored), Some(status)) = (stored, made(map, "status"))
        && status
            .get("storedVersions")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
    {
        status.insert("storedVersions".to_owned(), json!([stored]));
    }
}

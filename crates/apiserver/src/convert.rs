//! Between versions of a kind: the few built-in kinds that are served in two.

use serde_json::{Map, Value, json};
use wharf_kube_types::object;

use crate::registry::Kind;

/// Makes a stored object one of the version on the wire.
pub fn to(value: &mut Value, kind: &Kind) {
    let version = kind.api_version();
    change(value, &version);
}

/// Makes an object from the wire one of the stored version.
pub fn to_stored(value: &mut Value, kind: &Kind) {
    change(value, &kind.stored);
}

fn change(value: &mut Value, version: &str) {
    let from = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    match (from.as_str(), version) {
        ("v1", "events.k8s.io/v1") => event_to_new(value),
        ("events.k8s.io/v1", "v1") => event_to_old(value),
        ("autoscaling/v2", "autoscaling/v1") => scaler_to_v1(value),
        ("autoscaling/v1", "autoscaling/v2") => scaler_to_v2(value),
        _ => {}
    }
    value["apiVersion"] = version.into();
}

/// Old and new names of an event's fields.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(field) = map.shift_remove(from)
    {
        map.insert(to.to_owned(), field);
    }
}

fn event_to_new(value: &mut Value) {
    for (old, new) in EVENT_FIELDS {
        rename(value, old, new);
    }
}

fn event_to_old(value: &mut Value) {
    for (old, new) in EVENT_FIELDS {
        rename(value, new, old);
    }
}

const CPU: &str = "cpu";
/// Where v1 keeps what only v2 has a field for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == CPU
        && metric["resource"]["target"]["type"] == "Utilization"
}

fn keep_in_annotation(value: &mut Value, name: &str, kept: &Value) {
    let annotations = object::metadata_mut(value)
        .entry("annotations")
        .or_insert_with(|| json!({}));
    if annotations.is_object() {
        annotations[name] = kept.to_string().into();
    }
}

fn take_annotation(value: &mut Value, name: &str) -> Option<Value> {
    let annotations = value["metadata"]["annotations"].as_object_mut()?;
    let text = annotations.shift_remove(name)?;
    if annotations.is_empty() {
        object::metadata_mut(value).shift_remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn scaler_to_v1(value: &mut Value) {
    let spec = object::object_mut(value, "spec");
    let metrics = spec.shift_remove("metrics").unwrap_or_default();
    let behavior = spec.shift_remove("behavior");
    let mut others = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        if is_cpu(metric) {
            let target = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
        } else {
            others.push(metric.clone());
        }
    }
    if !others.is_empty() {
        keep_in_annotation(value, METRICS, &others.into());
    }
    if let Some(behavior) = behavior {
        keep_in_annotation(value, BEHAVIOR, &behavior);
    }
    let status = object::object_mut(value, "status");
    let current = status.shift_remove("currentMetrics").unwrap_or_default();
    status.shift_remove("conditions");
    let cpu = object::list(&json!({"m": current}), "m")
        .iter()
        .find(|m| m["resource"]["name"] == CPU)
        .map(|m| m["resource"]["current"]["averageUtilization"].clone());
    if let Some(cpu) = cpu.filter(|cpu| !cpu.is_null()) {
        status.insert("currentCPUUtilizationPercentage".to_owned(), cpu);
    }
}

fn scaler_to_v2(value: &mut Value) {
    let others = take_annotation(value, METRICS);
    let behavior = take_annotation(value, BEHAVIOR);
    let spec: &mut Map<String, Value> = object::object_mut(value, "spec");
    let mut metrics: Vec<Value> = Vec::new();
    if let Some(target) = spec.shift_remove("targetCPUUtilizationPercentage") {
        metrics.push(json!({"type": "Resource", "resource": {
            "name": CPU, "target": {"type": "Utilization", "averageUtilization": target}}}));
    }
    metrics.extend(
        others
            .and_then(|o| o.as_array().cloned())
            .unwrap_or_default(),
    );
    if !metrics.is_empty() {
        spec.insert("metrics".to_owned(), metrics.into());
    }
    if let Some(behavior) = behavior {
        spec.insert("behavior".to_owned(), behavior);
    }
}

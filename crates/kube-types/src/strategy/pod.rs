//! What the server decides about pods.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::object;
use crate::quantity::Quantity;

pub(super) fn create(pod: &mut Value) {
    selectors_from_label_keys(pod);
    let mut status = json!({"phase": "Pending", "qosClass": quality_of_service(pod)});
    if !object::list(pod, "spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
            "lastTransitionTime": null,
        }]);
    }
    pod["status"] = status;
}

/// Terms that name label keys select by the pod's own values of them.
fn selectors_from_label_keys(pod: &mut Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        by_own_labels(constraint, &labels);
    }
    for sort in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(sort)) else {
            continue;
        };
        for term in items_mut(affinity, REQUIRED) {
            by_own_labels(term, &labels);
        }
        for weighted in items_mut(affinity, PREFERRED) {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                by_own_labels(term, &labels);
            }
        }
    }
}

fn items_mut<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn by_own_labels(term: &mut Value, labels: &Value) {
    // Without a selector a term selects nothing, and keys don't change that.
    if !term["labelSelector"].is_object() {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = object::list(term, field)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        for key in keys {
            let Some(value) = labels.get(&key) else {
                continue;
            };
            let condition = json!({"key": key, "operator": operator, "values": [value]});
            let selector = object::object_mut(term, "labelSelector");
            let conditions = selector
                .entry("matchExpressions")
                .or_insert_with(|| json!([]));
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.push(condition);
            }
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits for cpu and memory.
pub fn quality_of_service(pod: &Value) -> &'static str {
    let whole = object::at(pod, "spec.resources");
    let lists = ["spec.containers", "spec.initContainers"];
    let parts: Vec<&Value> = match whole {
        Some(resources) => vec![resources],
        None => lists
            .iter()
            .flat_map(|list| object::list(pod, list))
            .map(|c| &c["resources"])
            .collect(),
    };
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut guaranteed = true;
    for resources in parts {
        add(&mut requests, &resources["requests"]);
        let limited = add(&mut limits, &resources["limits"]);
        guaranteed &= limited == 2;
    }
    match (
        requests.is_empty() && limits.is_empty(),
        guaranteed && requests == limits,
    ) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}

/// Adds what is asked of cpu and memory; tells how many of the two.
fn add(total: &mut BTreeMap<String, Quantity>, amounts: &Value) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let amount = amounts.get(name).and_then(|a| Quantity::from_value(a).ok());
        if let Some(amount) = amount.filter(|a| a.sign().is_gt()) {
            let sum = total.entry(name.to_owned()).or_insert(Quantity::ZERO);
            *sum = *sum + amount;
            found += 1;
        }
    }
    found
}

/// Takes from a write through a subresource only what `take` copies; the rest stays as it was.
pub(super) fn keep_only(new: &mut Value, old: &Value, take: fn(&mut Value, &Value)) {
    let mut kept = old.clone();
    for field in ["managedFields", "resourceVersion"] {
        object::carry(&mut kept["metadata"], &new["metadata"], field);
    }
    take(&mut kept["spec"], &new["spec"]);
    *new = kept;
}

pub(super) fn ephemeral_containers(spec: &mut Value, from: &Value) {
    object::carry(spec, from, "ephemeralContainers");
}

/// Resources and resize policies of containers that are the same by name and place; a list that isn't is taken whole,
/// for validation to refuse.
pub(super) fn resources(spec: &mut Value, from: &Value) {
    object::carry(spec, from, "resources");
    for list in ["containers", "initContainers"] {
        let names = |spec: &Value| -> Vec<Value> {
            object::list(spec, list)
                .iter()
                .map(|c| c["name"].clone())
                .collect()
        };
        if names(spec) != names(from) {
            object::carry(spec, from, list);
            continue;
        }
        let given = object::list(from, list).to_vec();
        for (container, given) in spec[list].as_array_mut().into_iter().flatten().zip(given) {
            object::carry(container, &given, "resources");
            object::carry(container, &given, "resizePolicy");
        }
    }
}

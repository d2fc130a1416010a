//! LimitRange: default requests and limits for containers, and bounds on them.

use std::cmp::Ordering;

use serde_json::{Value, json};
use wharf_kube_types::{Quantity, Status, object};

use super::{Attributes, Operation};
use crate::call::Call;

fn ranges(call: &Call) -> Result<Vec<Value>, Status> {
    let kind = call.api.builtin("", "limitranges")?;
    let all = kind.cache.all(&kind.range(&call.namespace));
    Ok(all
        .iter()
        .flat_map(|range| object::list(&range.record.to_value(), "spec.limits").to_vec())
        .collect())
}

fn concerns(call: &Call, what: &Attributes<'_>) -> bool {
    let resource = &call.kind.resource;
    what.operation == Operation::Create
        && call.subresource.is_empty()
        && (resource.is("", "pods") || resource.is("", "persistentvolumeclaims"))
}

/// Fills in what containers of a new pod don't say.
///
/// # Errors
/// The store's.
pub fn fill(call: &Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if !concerns(call, what) || !call.kind.resource.is("", "pods") {
        return Ok(());
    }
    let Some(pod) = what.object.as_deref_mut() else {
        return Ok(());
    };
    for limit in ranges(call)?
        .iter()
        .filter(|limit| limit["type"] == "Container")
    {
        for list in ["containers", "initContainers"] {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let resources = object::object_mut(container, "resources");
                for (field, source) in [("limits", "default"), ("requests", "defaultRequest")] {
                    for (name, amount) in object::map(limit, source) {
                        let own = resources.entry(field).or_insert_with(|| json!({}));
                        // A limit without a request is the request too.
                        if own[name.as_str()].is_null() {
                            own[name.as_str()] = amount.clone();
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Refuses what is over or under a namespace's bounds.
///
/// # Errors
/// 403 with all violations.
pub fn check(call: &Call, what: &Attributes<'_>) -> Result<(), Status> {
    let (Some(value), true) = (what.object.as_deref(), concerns(call, what)) else {
        return Ok(());
    };
    let mut faults = Vec::new();
    for limit in ranges(call)? {
        match object::text(&limit, "type") {
            "Container" if call.kind.resource.is("", "pods") => {
                for list in ["spec.initContainers", "spec.containers"] {
                    for container in object::list(value, list) {
                        bounds(&limit, &container["resources"], "Container", &mut faults);
                    }
                }
            }
            "Pod" if call.kind.resource.is("", "pods") => {
                bounds(&limit, &pod_sums(call, value), "Pod", &mut faults);
            }
            "PersistentVolumeClaim" if call.kind.resource.is("", "persistentvolumeclaims") => {
                bounds(
                    &limit,
                    &value["spec"]["resources"],
                    "PersistentVolumeClaim",
                    &mut faults,
                );
            }
            _ => {}
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let why = match faults.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let resource = &call.kind.resource;
    Err(Status::forbidden(
        &resource.group,
        &resource.plural,
        &call.name,
        &why,
    ))
}

fn pod_sums(call: &Call, pod: &Value) -> Value {
    let mut out = json!({"requests": {}, "limits": {}});
    for (name, amount) in super::quota::of(&call.kind, pod) {
        if let Some((field, name)) = name
            .split_once('.')
            .filter(|(f, _)| matches!(*f, "requests" | "limits"))
        {
            out[field][name] = amount.to_string().into();
        }
    }
    out
}

fn bounds(limit: &Value, resources: &Value, kind: &str, faults: &mut Vec<String>) {
    let amount = |value: &Value| Quantity::from_value(value).ok();
    for (name, min) in object::map(limit, "min") {
        let asked = amount(&resources["requests"][name.as_str()]);
        match (amount(min), asked) {
            (Some(min), None) => faults.push(format!(
                "minimum {name} usage per {kind} is {min}.  No request is specified"
            )),
            (Some(min), Some(asked)) if asked < min => {
                faults.push(format!(
                    "minimum {name} usage per {kind} is {min}, but request is {asked}"
                ));
            }
            _ => {}
        }
    }
    for (name, max) in object::map(limit, "max") {
        let field = if kind == "PersistentVolumeClaim" {
            "requests"
        } else {
            "limits"
        };
        let word = if field == "limits" {
            "limit"
        } else {
            "request"
        };
        let asked = amount(&resources[field][name.as_str()]);
        match (amount(max), asked) {
            (Some(max), None) => faults.push(format!(
                "maximum {name} usage per {kind} is {max}.  No {word} is specified"
            )),
            (Some(max), Some(asked)) if asked > max => {
                faults.push(format!(
                    "maximum {name} usage per {kind} is {max}, but {word} is {asked}"
                ));
            }
            _ => {}
        }
    }
    for (name, ratio) in object::map(limit, "maxLimitRequestRatio") {
        let (limit, request) = (
            amount(&resources["limits"][name.as_str()]),
            amount(&resources["requests"][name.as_str()]),
        );
        if let (Some(ratio), Some(limit), Some(request)) = (amount(ratio), limit, request)
            && request.sign() == Ordering::Greater
        {
            let is = limit.milli_value() as f64 / request.milli_value() as f64;
            if is > ratio.milli_value() as f64 / 1000.0 {
                faults.push(format!("{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {is:.6}"));
            }
        }
    }
}

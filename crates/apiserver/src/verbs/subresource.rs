//! Subresources that are not just a part of their object: scale, binding, eviction, token.

use serde_json::{Map, Value, json};
use wharf_kube_types::resources::ScalePaths;
use wharf_kube_types::selector::LabelSelector;
use wharf_kube_types::{FieldError, Path, Status, object};

use crate::call::Call;
use crate::clock;
use crate::object::Record;
use crate::output::wire;
use crate::verbs::update::{Demand, Made, change};
use crate::verbs::{delete, get, patch, write};

fn step<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    object::at(value, path.trim_start_matches('.'))
}

fn paths(call: &Call) -> ScalePaths {
    call.kind
        .resource
        .scale
        .clone()
        .unwrap_or_else(|| ScalePaths {
            spec_replicas: ".spec.replicas".to_owned(),
            status_replicas: ".status.replicas".to_owned(),
            label_selector: Some(".spec.selector".to_owned()),
        })
}

/// The scale of an object.
pub fn scale_of(call: &Call, value: &Value) -> Value {
    let paths = paths(call);
    let meta = &value["metadata"];
    let mut own = Map::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = meta.get(field) {
            own.insert(field.to_owned(), value.clone());
        }
    }
    let number = |path: &str| {
        step(value, path)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if let Some(selector) = paths.label_selector.as_deref().and_then(|p| step(value, p)) {
        let text = match selector {
            Value::String(text) => text.clone(),
            // A replication controller's selector is a plain map.
            map if call.kind.resource.is("", "replicationcontrollers") => {
                LabelSelector::from_map(Some(map)).to_string()
            }
            selector => LabelSelector::from_object(Some(selector))
                .map(|s| s.to_string())
                .unwrap_or_default(),
        };
        if !text.is_empty() {
            status["selector"] = text.into();
        }
    }
    let mut spec = json!({});
    let replicas = number(&paths.spec_replicas);
    if replicas != 0 {
        spec["replicas"] = replicas.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own, "spec": spec, "status": status})
}

/// The scale of the call's object.
///
/// # Errors
/// 404, or the store's.
pub async fn get_scale(call: &Call) -> Result<Value, Status> {
    let record = get::get(call).await?;
    Ok(scale_of(call, &wire(&call.kind, &record)))
}

fn set_replicas(value: &mut Value, path: &str, replicas: i64) {
    let mut here = value;
    let steps: Vec<&str> = path.trim_start_matches('.').split('.').collect();
    for step in &steps {
        if !here.is_object() {
            *here = json!({});
        }
        here = &mut here[*step];
    }
    *here = replicas.into();
}

fn wanted(call: &Call, scale: &Value) -> Result<i64, Status> {
    let replicas = object::int(scale, "spec.replicas").unwrap_or_default();
    if replicas < 0 {
        let path = Path::new("spec.replicas");
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(
            "autoscaling",
            "Scale",
            &call.name,
            &[error],
        ));
    }
    Ok(replicas)
}

/// Scales the object as `scale` says.
///
/// # Errors
/// Why it can't be scaled.
pub async fn put_scale(call: &mut Call, scale: &Value) -> Result<Value, Status> {
    let replicas = wanted(call, scale)?;
    let path = paths(call).spec_replicas;
    let demand = Demand::of(scale)?;
    let record = change(call, &demand, |call, old| {
        let mut new = old.clone();
        set_replicas(&mut new, &path, replicas);
        scaled(call, &mut new, old);
        Ok(Made::plain(new))
    })
    .await?;
    Ok(scale_of(call, &wire(&call.kind, &record)))
}

/// The number of replicas is a wish: it counts in the generation.
fn scaled(call: &Call, new: &mut Value, old: &Value) {
    if new != old {
        let resource = &call.kind.resource;
        wharf_kube_types::strategy::prepare_update(resource, new, old);
    }
}

/// Scales the object by a patch of its scale.
///
/// # Errors
/// Why it can't be scaled.
pub async fn patch_scale(call: &mut Call, body: crate::body::Body<'_>) -> Result<Value, Status> {
    let parse = || {
        wharf_kube_types::schema::parse(body.bytes).map_err(|e| Status::bad_request(e.to_string()))
    };
    let kind = match body.media_type() {
        "application/json-patch+json" => patch::Patch::Json(parse()?),
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            patch::Patch::Merge(parse()?)
        }
        "application/apply-patch+yaml" => patch::Patch::Merge(
            crate::yaml::read(body.bytes)
                .map_err(Status::bad_request)?
                .0,
        ),
        other => return Err(Status::unsupported_media_type(other)),
    };
    let path = paths(call).spec_replicas;
    let record = change(call, &Demand::default(), |call, old| {
        let mut scale = scale_of(call, old);
        patch::apply_patch(&call.kind.resource.schema, &mut scale, &kind)
            .map_err(|e| patch::patch_status(call, &e))?;
        let demand = Demand::of(&scale)?;
        let revision = object::text(old, "metadata.resourceVersion").parse().ok();
        if demand.version.is_some() && demand.version != revision {
            return Err(Status::modified(&call.kind.resource, &call.name));
        }
        let mut new = old.clone();
        set_replicas(&mut new, &path, wanted(call, &scale)?);
        scaled(call, &mut new, old);
        Ok(Made::plain(new))
    })
    .await?;
    Ok(scale_of(call, &wire(&call.kind, &record)))
}

/// Binds the pod to a node.
///
/// # Errors
/// The pod is bound already, or being deleted.
pub async fn bind(call: &mut Call, binding: &Value) -> Result<(), Status> {
    let node = object::text(binding, "target.name").to_owned();
    if node.is_empty() {
        let path = Path::new("target.name");
        let error = FieldError::required(&path, "");
        return Err(Status::invalid("", "Binding", &call.name, &[error]));
    }
    let demand = Demand {
        uid: Some(object::text(binding, "metadata.uid").to_owned()).filter(|uid| !uid.is_empty()),
        version: None,
    };
    let annotations = binding["metadata"]["annotations"].clone();
    change(call, &demand, |call, old| {
        let refuse = |cause: String| Err(Status::conflict(&call.kind.resource, &call.name, &cause));
        let bound = object::text(old, "spec.nodeName");
        if !bound.is_empty() {
            return refuse(format!(
                "pod {} is already assigned to node {bound:?}",
                call.name
            ));
        }
        if !object::text(old, "metadata.deletionTimestamp").is_empty() {
            return refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                call.name
            ));
        }
        let mut new = old.clone();
        object::object_mut(&mut new, "spec").insert("nodeName".to_owned(), node.clone().into());
        merge_annotations(&mut new, &annotations);
        set_scheduled(&mut new);
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}

fn merge_annotations(pod: &mut Value, annotations: &Value) {
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let own = object::metadata_mut(pod)
            .entry("annotations")
            .or_insert_with(|| json!({}));
        if own.is_object() {
            own[key.as_str()] = value.clone();
        }
    }
}

fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now_text()});
    let status = object::object_mut(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = conditions.as_array_mut() else {
        return;
    };
    list.retain(|c| c["type"] != "PodScheduled");
    list.push(condition);
}

/// Evicts the pod unless a disruption budget forbids it.
///
/// # Errors
/// 429 when a budget is used up.
pub async fn evict(call: &mut Call, eviction: &Value) -> Result<Record, Status> {
    let options = delete::Options {
        grace_seconds: object::int(eviction, "deleteOptions.gracePeriodSeconds"),
        uid: object::at(eviction, "deleteOptions.preconditions.uid")
            .and_then(Value::as_str)
            .map(str::to_owned),
        version: None,
        propagation: None,
    };
    call.dry_run |= object::list(eviction, "deleteOptions.dryRun")
        .iter()
        .any(|v| v == "All");
    let record = get::get(call).await?;
    let pod = record.to_value();
    let phase = object::text(&pod, "status.phase");
    if !matches!(phase, "Succeeded" | "Failed" | "Pending") {
        let budgets = call.api.builtin("policy", "poddisruptionbudgets")?;
        let mut found = Vec::new();
        for object in budgets.cache.all(&budgets.range(&call.namespace)) {
            let budget = object.record.to_value();
            let selector = LabelSelector::from_object(budget["spec"].get("selector"));
            if selector.is_ok_and(|s| s.matches(&pod)) {
                found.push(object.names().1.to_owned());
            }
        }
        match found.as_slice() {
            [] => {}
            [one] => use_budget(call, &budgets, one).await?,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    let mut deletion = call.clone().on("");
    match delete::delete(&mut deletion, &options).await? {
        delete::Deleted::Gone(record) | delete::Deleted::Pending(record) => Ok(record),
    }
}

async fn use_budget(
    call: &Call,
    budgets: &std::sync::Arc<crate::registry::Kind>,
    name: &str,
) -> Result<(), Status> {
    let mut budget =
        Call::internal(&call.api, budgets, &call.namespace, name, "eviction").on("status");
    budget.dry_run = call.dry_run;
    let pod = call.name.clone();
    change(&mut budget, &Demand::default(), |_, old| {
        let allowed = object::int(old, "status.disruptionsAllowed").unwrap_or_default();
        let current = object::int(old, "status.observedGeneration").unwrap_or_default();
        let generation = object::int(old, "metadata.generation").unwrap_or_default();
        if current < generation || allowed <= 0 {
            return Err(Status::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                10,
            ));
        }
        let mut new = old.clone();
        let status = object::object_mut(&mut new, "status");
        status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
        let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
        pods[pod.as_str()] = clock::now_text().into();
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}

/// Checks an object that a client updates through a subresource which has the whole object.
///
/// # Errors
/// Its name or place contradict the path.
pub fn check_names(call: &Call, value: &mut Value) -> Result<(), Status> {
    super::update::same_name(call, value)?;
    write::place(call, value)
}

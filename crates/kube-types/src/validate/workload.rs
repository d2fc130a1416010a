//! Kinds that keep pods: Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet, ControllerRevision.

use serde_json::Value;

use super::faults::{Faults, label_selector};
use super::{names, pod};
use crate::field::{FieldError, Path};
use crate::object::{at, carry, int, list, map, same, text};
use crate::selector::LabelSelector;

/// A Deployment.
pub fn deployment(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    out.not_negative(&path.field("replicas"), &spec["replicas"]);
    template_and_selector(spec, "deployment", "ReplicaSet", &path, out);
    deployment_strategy(&spec["strategy"], &path.field("strategy"), out);
    out.not_negative(&path.field("minReadySeconds"), &spec["minReadySeconds"]);
    out.not_negative(
        &path.field("revisionHistoryLimit"),
        &spec["revisionHistoryLimit"],
    );
    if let Some(seconds) = int(spec, "progressDeadlineSeconds") {
        let place = path.field("progressDeadlineSeconds");
        out.not_negative(&place, &spec["progressDeadlineSeconds"]);
        if seconds <= int(spec, "minReadySeconds").unwrap_or_default() {
            out.invalid(&place, seconds, "must be greater than minReadySeconds");
        }
    }
}

fn deployment_strategy(strategy: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let rolling = path.field("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if at(strategy, "rollingUpdate").is_some() {
                out.forbidden(
                    &rolling,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => match at(strategy, "rollingUpdate") {
            None => out.required(&rolling, "this should be defaulted and never be nil"),
            Some(update) => {
                let (unavailable, surge) =
                    (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
                int_or_percent(&update["maxUnavailable"], &unavailable, out);
                int_or_percent(&update["maxSurge"], &surge, out);
                if amount(&update["maxUnavailable"]) == 0 && amount(&update["maxSurge"]) == 0 {
                    let detail = "may not be 0 when `maxSurge` is 0";
                    out.invalid(&unavailable, update["maxUnavailable"].clone(), detail);
                }
                at_most_all(&update["maxUnavailable"], &unavailable, out);
            }
        },
        _ => out.put(FieldError::not_supported(
            path,
            strategy.clone(),
            &["Recreate", "RollingUpdate"],
        )),
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn int_or_percent(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    match value {
        Value::String(text) => out.rule(path, text, names::percent),
        number => out.not_negative(path, number),
    }
}

fn amount(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or_default(),
        number => number.as_i64().unwrap_or_default(),
    }
}

pub(crate) fn at_most_all(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if value.is_string() && amount(value) > 100 {
        out.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// The selector, the template, and whether they fit.
fn template_and_selector(
    spec: &Value,
    kind: &str,
    holder: &str,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let place = path.field("selector");
    match at(spec, "selector") {
        None => out.required(&place, ""),
        Some(selector) => {
            label_selector(selector, &place, out);
            if map(selector, "matchLabels").count() + list(selector, "matchExpressions").len() == 0
            {
                let detail = format!("empty selector is invalid for {kind}");
                out.invalid(&place, selector.clone(), detail);
            }
        }
    }
    let template = path.field("template");
    match LabelSelector::from_object(spec.get("selector")) {
        Err(_) => out.invalid(&place, spec["selector"].clone(), "invalid label selector"),
        Ok(selector) => template_for(&spec["template"], &selector, holder, &template, out),
    }
}

fn template_for(
    template: &Value,
    selector: &LabelSelector,
    holder: &str,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let labels = &template["metadata"]["labels"];
    // Without a selector of its own the kind already has its fault.
    let chosen = !selector.requirements().is_empty();
    if chosen && !selector.matches_labels(labels.as_object()) {
        let meta = path.field("metadata");
        out.invalid(
            &meta.field("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    pod::template(template, path, out);
    always_restarted(template, holder, path, out);
}

fn always_restarted(template: &Value, holder: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let spec = path.field("spec");
    let policy = text(template, "spec.restartPolicy");
    if policy != "Always" {
        out.not_supported(&spec.field("restartPolicy"), policy, &["Always"]);
    }
    if int(template, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {holder} is not Supported");
        out.forbidden(&spec.field("activeDeadlineSeconds"), &detail);
    }
}

/// A ReplicaSet.
pub fn replica_set(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    out.not_negative(&path.field("replicas"), &spec["replicas"]);
    out.not_negative(&path.field("minReadySeconds"), &spec["minReadySeconds"]);
    template_and_selector(spec, "deployment", "ReplicaSet", &path, out);
}

/// A ReplicationController.
pub fn replication_controller(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    out.not_negative(&path.field("minReadySeconds"), &spec["minReadySeconds"]);
    if map(spec, "selector").next().is_none() {
        out.required(&path.field("selector"), "");
    }
    out.not_negative(&path.field("replicas"), &spec["replicas"]);
    match at(spec, "template") {
        None => out.required(&path.field("template"), ""),
        Some(template) => {
            let selector = LabelSelector::from_map(spec.get("selector"));
            template_for(
                template,
                &selector,
                "ReplicationController",
                &path.field("template"),
                out,
            );
        }
    }
}

/// A selector that may not change.
pub fn fixed_selector(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    out.immutable(
        &root.field("selector"),
        &new["spec"]["selector"],
        &old["spec"]["selector"],
    );
}

/// A DaemonSet.
pub fn daemon_set(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let place = path.field("selector");
    label_selector(&spec["selector"], &place, out);
    let template = path.field("template");
    if let Ok(selector) = LabelSelector::from_object(spec.get("selector")) {
        let labels = &spec["template"]["metadata"]["labels"];
        if !selector.matches_labels(labels.as_object()) {
            let meta = template.field("metadata");
            out.invalid(
                &meta.field("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
    }
    if let Some(selector) = at(spec, "selector")
        && map(selector, "matchLabels").count() + list(selector, "matchExpressions").len() == 0
    {
        out.invalid(
            &place,
            selector.clone(),
            "empty selector is invalid for daemonset",
        );
    }
    pod::template(&spec["template"], &template, out);
    always_restarted(&spec["template"], "DaemonSet", &template, out);
    out.not_negative(&path.field("minReadySeconds"), &spec["minReadySeconds"]);
    daemon_strategy(&spec["updateStrategy"], &path.field("updateStrategy"), out);
    out.not_negative(
        &path.field("revisionHistoryLimit"),
        &spec["revisionHistoryLimit"],
    );
}

fn daemon_strategy(strategy: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let rolling = path.field("rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(update) = at(strategy, "rollingUpdate") else {
                return out.required(&rolling, "");
            };
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            for (field, place) in [("maxUnavailable", &unavailable), ("maxSurge", &surge)] {
                int_or_percent(&update[field], place, out);
                at_most_all(&update[field], place, out);
            }
            match (
                amount(&update["maxUnavailable"]) != 0,
                amount(&update["maxSurge"]) != 0,
            ) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    out.invalid(&surge, update["maxSurge"].clone(), detail);
                }
                (false, false) => out.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => out.put(FieldError::not_supported(
            path,
            strategy.clone(),
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

/// A StatefulSet.
pub fn stateful_set(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let policy = text(spec, "podManagementPolicy");
    match policy {
        "" => out.required(&path.field("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            out.invalid(
                &path.field("podManagementPolicy"),
                other,
                "must be 'OrderedReady' or 'Parallel'",
            );
        }
    }
    stateful_strategy(spec, &path.field("updateStrategy"), out);
    let retention = path.field("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let found = &spec["persistentVolumeClaimRetentionPolicy"][field];
        out.optional_one_of(&retention.field(field), found, &["Delete", "Retain"]);
    }
    out.not_negative(&path.field("replicas"), &spec["replicas"]);
    out.not_negative(&path.field("minReadySeconds"), &spec["minReadySeconds"]);
    let ordinals = path.field("ordinals");
    out.not_negative(&ordinals.field("start"), &spec["ordinals"]["start"]);
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        out.rule(
            &path.field("serviceName"),
            service,
            names::dns1123_subdomain,
        );
    }
    let mut with_claims = spec.clone();
    add_claims(&mut with_claims);
    template_and_selector(&with_claims, "statefulset", "StatefulSet", &path, out);
}

fn stateful_strategy(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let strategy = &spec["updateStrategy"];
    let rolling = path.field("rollingUpdate");
    match (text(strategy, "type"), at(strategy, "rollingUpdate")) {
        ("", _) => out.required(path, ""),
        ("OnDelete", Some(update)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            out.invalid(&rolling, update.clone(), detail);
        }
        ("RollingUpdate", Some(update)) => {
            out.not_negative(&rolling.field("partition"), &update["partition"]);
            if let Some(value) = at(update, "maxUnavailable") {
                let place = rolling.field("maxUnavailable");
                int_or_percent(value, &place, out);
                if amount(value) == 0 {
                    out.invalid(&place, value.clone(), "cannot be 0");
                }
                at_most_all(value, &place, out);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => out.invalid(
            path,
            strategy.clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

/// The volumes that a StatefulSet's claims will be: containers may mount them.
fn add_claims(spec: &mut Value) {
    let names: Vec<String> = list(spec, "volumeClaimTemplates")
        .iter()
        .map(|c| crate::object::name(c).to_owned())
        .collect();
    if names.is_empty() || !spec["template"]["spec"].is_object() {
        return;
    }
    let kept = list(spec, "template.spec.volumes")
        .iter()
        .filter(|v| !names.iter().any(|n| n == text(v, "name")));
    let mut volumes: Vec<Value> = kept.cloned().collect();
    volumes.extend(names.iter().map(
        |name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}),
    ));
    spec["template"]["spec"]["volumes"] = volumes.into();
}

/// What of a StatefulSet may change.
pub fn stateful_set_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let free = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let mut kept = new["spec"].clone();
    for field in free {
        carry(&mut kept, &old["spec"], field);
    }
    if !same(Some(&kept), Some(&old["spec"])) {
        out.forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// Counts of pods in a status: none negative, and no part more than the whole.
pub fn counts(new: &Value, out: &mut Vec<FieldError>) {
    let (status, path) = (&new["status"], Path::new("status"));
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "currentReplicas",
    ];
    for field in counts {
        out.not_negative(&path.field(field), &status[field]);
    }
    out.not_negative(
        &path.field("observedGeneration"),
        &status["observedGeneration"],
    );
    let count = |field: &str| int(status, field).unwrap_or_default();
    for field in &counts[1..] {
        if count(field) > count("replicas") {
            out.invalid(
                &path.field(field),
                count(field),
                "cannot be greater than status.replicas",
            );
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        out.invalid(
            &path.field("availableReplicas"),
            count("availableReplicas"),
            "cannot be greater than readyReplicas",
        );
    }
}

/// A ControllerRevision.
pub fn controller_revision(object: &Value, out: &mut Vec<FieldError>) {
    out.not_negative(&Path::new("revision"), &object["revision"]);
    if at(object, "data").is_none() {
        out.required(&Path::new("data"), "data is mandatory");
    }
}

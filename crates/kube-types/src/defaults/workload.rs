//! Defaults of the kinds that make pods, and of autoscalers.

use serde_json::{Map, Value, json};

use super::{fill_empty, made, object, text};
use crate::object::fill;
use crate::schema::Schema;

type Fields = Map<String, Value>;

pub(super) fn rule(schema: &Schema, map: &mut Fields) -> bool {
    match schema.name {
        "DeploymentSpec" => deployment(map),
        "ReplicaSetSpec" | "ReplicationControllerSpec" => fill(map, "replicas", 1),
        "ReplicationController" => replication_controller(map),
        "DaemonSetSpec" => daemon_set(map),
        "StatefulSetSpec" => stateful_set(map),
        // The job in a cron job's template is not a job yet and gets its defaults when it is made.
        "Job" => {
            if let Some(spec) = object(map, "spec") {
                job(spec);
            }
            labels_from_template(map);
        }
        "JobTemplateSpec" => fill(map, "metadata", json!({})),
        "PodFailurePolicyOnPodConditionsPattern" => fill_empty(map, "status", "True"),
        "CronJobSpec" => cron_job(map),
        "HorizontalPodAutoscalerSpec" => autoscaler(schema, map),
        _ => return false,
    }
    true
}

fn deployment(map: &mut Fields) {
    fill(map, "replicas", 1);
    if let Some(strategy) = made(map, "strategy") {
        fill_empty(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    fill(map, "revisionHistoryLimit", 10);
    fill(map, "progressDeadlineSeconds", 600);
}

fn replication_controller(map: &mut Fields) {
    let labels = map
        .get("spec")
        .map(|s| s["template"]["metadata"]["labels"].clone())
        .filter(Value::is_object);
    if let (Some(labels), Some(spec)) = (labels, object(map, "spec"))
        && spec
            .get("selector")
            .and_then(Value::as_object)
            .is_none_or(Map::is_empty)
    {
        spec.insert("selector".to_owned(), labels);
    }
    labels_from_template(map);
}

/// An object without labels gets those of its pods.
fn labels_from_template(map: &mut Fields) {
    let labels = map
        .get("spec")
        .map(|s| s["template"]["metadata"]["labels"].clone());
    let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) else {
        return;
    };
    if let Some(meta) = made(map, "metadata")
        && meta
            .get("labels")
            .and_then(Value::as_object)
            .is_none_or(Map::is_empty)
    {
        meta.insert("labels".to_owned(), labels);
    }
}

fn daemon_set(map: &mut Fields) {
    if let Some(strategy) = made(map, "updateStrategy") {
        fill_empty(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }
    fill(map, "revisionHistoryLimit", 10);
}

fn stateful_set(map: &mut Fields) {
    fill_empty(map, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = made(map, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            fill_empty(strategy, "type", "RollingUpdate");
            made(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            fill(rolling, "partition", 0);
        }
    }
    if let Some(policy) = made(map, "persistentVolumeClaimRetentionPolicy") {
        fill_empty(policy, "whenDeleted", "Retain");
        fill_empty(policy, "whenScaled", "Retain");
    }
    fill(map, "replicas", 1);
    fill(map, "revisionHistoryLimit", 10);
    // A claim's template is written out as a claim is.
    for claim in map
        .get_mut("volumeClaimTemplates")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(claim) = claim.as_object_mut() {
            fill_empty(claim, "apiVersion", "v1");
            fill_empty(claim, "kind", "PersistentVolumeClaim");
        }
    }
}

fn job(map: &mut Fields) {
    let given = |map: &Fields, field: &str| map.get(field).is_some_and(|v| !v.is_null());
    if !given(map, "completions") && !given(map, "parallelism") {
        fill(map, "completions", 1);
    }
    fill(map, "parallelism", 1);
    let retries = if given(map, "backoffLimitPerIndex") {
        i32::MAX
    } else {
        6
    };
    fill(map, "backoffLimit", retries);
    fill(map, "completionMode", "NonIndexed");
    fill(map, "suspend", false);
    let replaced = if given(map, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill(map, "podReplacementPolicy", replaced);
    fill(map, "manualSelector", false);
}

fn cron_job(map: &mut Fields) {
    fill_empty(map, "concurrencyPolicy", "Allow");
    fill(map, "suspend", false);
    fill(map, "successfulJobsHistoryLimit", 3);
    fill(map, "failedJobsHistoryLimit", 1);
}

fn autoscaler(schema: &Schema, map: &mut Fields) {
    fill(map, "minReplicas", 1);
    if schema.child("metrics").is_none() {
        return;
    }
    let none = map
        .get("metrics")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if none {
        let metric = json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        map.insert("metrics".to_owned(), metric);
    }
    if let Some(behavior) = object(map, "behavior") {
        if let Some(up) = made(behavior, "scaleUp") {
            fill(up, "stabilizationWindowSeconds", 0);
            fill(up, "selectPolicy", "Max");
            fill(
                up,
                "policies",
                json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
        }
        if let Some(down) = made(behavior, "scaleDown") {
            fill(down, "selectPolicy", "Max");
            fill(
                down,
                "policies",
                json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
        }
    }
}

//! Rows of the kinds that make pods.

use serde_json::Value;

use super::super::since;
use super::{flag, labels, name_and_age, names_and_images, number, or, row, selector};
use crate::object::{at, int, list, text};
use crate::time::{Timestamp, human_duration};

const CONTAINERS: &str = "spec.template.spec.containers";

pub(super) fn cells(plural: &str, value: &Value, now: Timestamp) -> Option<Vec<Value>> {
    sets(plural, value, now).or_else(|| others(plural, value, now))
}

fn ready_of(value: &Value) -> Value {
    let count = |path: &str| int(value, path).unwrap_or_default();
    format!(
        "{}/{}",
        count("status.readyReplicas"),
        count("spec.replicas")
    )
    .into()
}

/// Kinds that keep a number of pods.
fn sets(plural: &str, value: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (name, age) = name_and_age(value, now);
    let count = |path: &str| number(value, path);
    let [names, images] = names_and_images(value, CONTAINERS);
    let (wanted, found, ready) = ("spec.replicas", "status.replicas", "status.readyReplicas");
    let mut cells = match plural {
        "replicationcontrollers" | "replicasets" => {
            vec![name, count(wanted), count(found), count(ready), age]
        }
        "deployments" => {
            let (updated, available) = ("status.updatedReplicas", "status.availableReplicas");
            vec![name, ready_of(value), count(updated), count(available), age]
        }
        "statefulsets" => vec![name, ready_of(value), age],
        "daemonsets" => {
            let counts = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            let mut cells = vec![name];
            cells.extend(counts.iter().map(|field| number(&value["status"], field)));
            cells.extend([labels(value, "spec.template.spec.nodeSelector"), age]);
            cells
        }
        _ => return None,
    };
    cells.extend([names, images]);
    match plural {
        "statefulsets" => {}
        "replicationcontrollers" => cells.push(labels(value, "spec.selector")),
        _ => cells.push(selector(value, "spec.selector")),
    }
    Some(cells)
}

fn others(plural: &str, value: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (name, age) = name_and_age(value, now);
    match plural {
        "jobs" => {
            let [names, images] = names_and_images(value, CONTAINERS);
            let (status, done) = (job_status(value).into(), completions(value).into());
            let took = duration(value, now).into();
            row([
                name,
                status,
                done,
                took,
                age,
                names,
                images,
                selector(value, "spec.selector"),
            ])
        }
        "cronjobs" => {
            let [names, images] =
                names_and_images(value, "spec.jobTemplate.spec.template.spec.containers");
            let last = match text(value, "status.lastScheduleTime") {
                "" => "<none>".to_owned(),
                time => since(time, now),
            };
            let (schedule, zone) = (
                text(value, "spec.schedule").into(),
                or(value, "spec.timeZone", "<none>"),
            );
            let active = list(value, "status.active").len().into();
            let chosen = selector(value, "spec.jobTemplate.spec.selector");
            row([
                name,
                schedule,
                zone,
                suspended(value),
                active,
                last.into(),
                age,
                names,
                images,
                chosen,
            ])
        }
        "horizontalpodautoscalers" => {
            let target = &value["spec"]["scaleTargetRef"];
            let target = format!("{}/{}", text(target, "kind"), text(target, "name")).into();
            let least =
                int(value, "spec.minReplicas").map_or("<unset>".into(), |n| n.to_string().into());
            let (most, found) = (
                number(value, "spec.maxReplicas"),
                number(value, "status.currentReplicas"),
            );
            row([name, target, metrics(value).into(), least, most, found, age])
        }
        _ => None,
    }
}

fn suspended(value: &Value) -> Value {
    // The original shows a text here although the column is a boolean.
    let text = match flag(value, "spec.suspend", false) {
        Value::Bool(true) => "True",
        _ => "False",
    };
    text.into()
}

fn job_status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        list(job, "status.conditions")
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if at(job, "metadata.deletionTimestamp").is_some() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let done = int(job, "status.succeeded").unwrap_or_default();
    let parallel = int(job, "spec.parallelism").unwrap_or_default();
    match int(job, "spec.completions") {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = Timestamp::parse(text(job, "status.startTime")) else {
        return String::new();
    };
    let end = Timestamp::parse(text(job, "status.completionTime")).unwrap_or(now);
    human_duration(end.seconds - start.seconds)
}

/// What an autoscaler aims at, and where it is.
fn metrics(value: &Value) -> String {
    if let Some(target) = int(value, "spec.targetCPUUtilizationPercentage") {
        let now = int(value, "status.currentCPUUtilizationPercentage");
        let now = now.map_or("<unknown>".to_owned(), |n| format!("{n}%"));
        return format!("cpu: {now}/{target}%");
    }
    let specs = list(value, "spec.metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let current = list(value, "status.currentMetrics");
    let all: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| metric(spec, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    let shown = all[..all.len().min(2)].join(", ");
    if all.len() > 2 {
        format!("{shown} + {} more...", all.len() - 2)
    } else {
        shown
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, named) = match text(spec, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[field]["target"], &status[field]["current"]);
    let shown = |value: &Value, field: &str| match &value[field] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let unknown = || "<unknown>".to_owned();
    let percent = |value: &Value| shown(value, "averageUtilization").map(|n| format!("{n}%"));
    let average = shown(target, "averageValue");
    if named {
        let name = text(&spec[field], "name");
        return match average {
            Some(wanted) => format!(
                "{name}: {}/{wanted}",
                shown(current, "averageValue").unwrap_or_else(unknown)
            ),
            None => format!(
                "{name}: {}/{}",
                percent(current).unwrap_or_else(unknown),
                percent(target).unwrap_or_else(|| "<auto>".to_owned())
            ),
        };
    }
    match average {
        Some(wanted) => {
            let mark = if field == "pods" { "" } else { " (avg)" };
            format!(
                "{}/{wanted}{mark}",
                shown(current, "averageValue").unwrap_or_else(unknown)
            )
        }
        None => {
            let wanted = shown(target, "value").unwrap_or_default();
            format!(
                "{}/{wanted}",
                shown(current, "value").unwrap_or_else(unknown)
            )
        }
    }
}

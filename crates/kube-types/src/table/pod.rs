//! The row of a pod: its state in one word, made of its phase and its containers' states.

use serde_json::Value;

use super::{age, since};
use crate::object::{self, at, flag, int, list, text};
use crate::time::Timestamp;

#[derive(Default)]
struct Summary {
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
    ready: i64,
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let mut summary = Summary {
        reason: text(pod, "status.phase").to_owned(),
        ..Summary::default()
    };
    if !text(pod, "status.reason").is_empty() {
        summary.reason = text(pod, "status.reason").to_owned();
    }
    let conditions = list(pod, "status.conditions");
    if conditions
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated")
    {
        summary.reason = "SchedulingGated".to_owned();
    }
    let sidecars = list(pod, "spec.initContainers")
        .iter()
        .filter(|c| c["restartPolicy"] == "Always")
        .count();
    let total = list(pod, "spec.containers").len() + sidecars;
    let (initializing, of_sidecars) = init(pod, &mut summary);
    let initialized = conditions
        .iter()
        .any(|c| c["type"] == "Initialized" && c["status"] == "True");
    if !initializing || initialized {
        (summary.restarts, summary.last_restart) = of_sidecars;
        main(pod, &mut summary);
    }
    if at(pod, "metadata.deletionTimestamp").is_some() {
        if text(pod, "status.reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(text(pod, "status.phase"), "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(last) => format!(
            "{} ({} ago)",
            summary.restarts,
            since(&last.to_seconds_text(), now)
        ),
        None => summary.restarts.to_string(),
    };
    let or_none = |text: &str| {
        if text.is_empty() {
            "<none>".to_owned()
        } else {
            text.to_owned()
        }
    };
    let ip = list(pod, "status.podIPs")
        .first()
        .map_or("", |ip| text(ip, "ip"));
    vec![
        object::name(pod).into(),
        format!("{}/{total}", summary.ready).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now).into(),
        or_none(ip).into(),
        or_none(text(pod, "spec.nodeName")).into(),
        or_none(text(pod, "status.nominatedNodeName")).into(),
        gates(pod).into(),
    ]
}

impl Summary {
    fn restarted(&mut self, container: &Value) {
        self.restarts += int(container, "restartCount").unwrap_or_default();
        let finished = Timestamp::parse(text(container, "lastState.terminated.finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

/// Goes through the init containers; tells whether one of them is not done, and the restarts of those that stay.
fn init(pod: &Value, summary: &mut Summary) -> (bool, (i64, Option<Timestamp>)) {
    let specs = list(pod, "spec.initContainers");
    let mut sidecars = Summary::default();
    for (index, container) in list(pod, "status.initContainerStatuses").iter().enumerate() {
        summary.restarted(container);
        let stays = specs
            .iter()
            .any(|s| s["name"] == container["name"] && s["restartPolicy"] == "Always");
        if stays {
            sidecars.restarted(container);
        }
        let terminated = at(container, "state.terminated");
        let waiting = text(container, "state.waiting.reason");
        if terminated.is_some_and(|t| t["exitCode"] == 0) {
            continue;
        }
        if stays && flag(container, "started") {
            summary.ready += i64::from(flag(container, "ready"));
            continue;
        }
        summary.reason = match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{index}/{}", specs.len()),
        };
        return (true, (sidecars.restarts, sidecars.last_restart));
    }
    (false, (sidecars.restarts, sidecars.last_restart))
}

fn main(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    let mut failed = None;
    for container in list(pod, "status.containerStatuses").iter().rev() {
        summary.restarted(container);
        let waiting = text(container, "state.waiting.reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = at(container, "state.terminated") {
            summary.reason = ended(terminated);
            if terminated["exitCode"] != 0 {
                failed = Some(summary.reason.clone());
            }
        } else if flag(container, "ready") && at(container, "state.running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason != "Completed" {
        return;
    }
    let ready = list(pod, "status.conditions")
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    match (running, ready, failed) {
        (true, true, _) => summary.reason = "Running".to_owned(),
        (_, _, Some(failed)) => summary.reason = failed,
        (true, _, None) => summary.reason = "NotReady".to_owned(),
        _ => {}
    }
}

/// How a container ended.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    let signal = int(terminated, "signal").unwrap_or_default();
    match (reason, signal) {
        ("", 0) => format!(
            "ExitCode:{}",
            int(terminated, "exitCode").unwrap_or_default()
        ),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn gates(pod: &Value) -> String {
    let gates = list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list(pod, "status.conditions");
    let open = gates
        .iter()
        .filter(|gate| {
            conditions
                .iter()
                .any(|c| c["type"] == gate["conditionType"] && c["status"] == "True")
        })
        .count();
    format!("{open}/{}", gates.len())
}

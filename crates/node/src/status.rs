//! A pod's status from what is seen of it, in the kubelet's words: pure.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

use crate::Node;
use crate::act::message_file;
use crate::images::Missing;
use crate::part::{Part, Role};
use crate::probes::Health;
use crate::seen::{Attempt, Seen};

/// Last words that are told.
const MESSAGE_BYTES_MAX: usize = 4096;
const FALLBACK_BYTES_MAX: usize = 2048;
/// A signal that ended a program, as a shell tells it.
const SIGNALLED: std::ops::RangeInclusive<i32> = 129..=192;

/// All that a status is made of.
pub(crate) struct Facts<'a> {
    pub node: &'a Node,
    pub pod: &'a Pod,
    pub parts: &'a [Part],
    pub seen: &'a Seen,
    pub waiting: &'a HashMap<String, Missing>,
    pub health: &'a (dyn Fn(&str) -> Health + Sync),
    /// When the node first saw the pod.
    pub since: Timestamp,
    /// Nothing of it runs or will run.
    pub is_over: bool,
}

/// The time in whole seconds, as objects have it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Whether the API was told that all is over.
pub(crate) fn is_final(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The whole status, as a merge patch replaces it.
pub(crate) fn make(facts: &Facts<'_>) -> Value {
    let phase = phase(facts);
    let of = |roles: &[Role]| -> Vec<Value> {
        let parts = facts.parts.iter().filter(|part| roles.contains(&part.role));
        parts.map(|part| container(facts, part)).collect()
    };
    let mut status = json!({
        "phase": phase,
        "observedGeneration": facts.pod.metadata.generation,
        "conditions": conditions(facts, phase),
        "hostIP": facts.node.options.address(),
        "hostIPs": facts.node.options.addresses.iter()
            .map(|ip| json!({"ip": ip.to_string()})).collect::<Vec<_>>(),
        "startTime": facts.since.to_string(),
        "containerStatuses": of(&[Role::Regular]),
    });
    let ips = ips(facts);
    if let Some(first) = ips.first() {
        status["podIP"] = first.clone().into();
        status["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
    }
    let inits = of(&[Role::Init, Role::Sidecar]);
    if !inits.is_empty() {
        status["initContainerStatuses"] = inits.into();
    }
    let ephemeral = of(&[Role::Ephemeral]);
    if !ephemeral.is_empty() {
        status["ephemeralContainerStatuses"] = ephemeral.into();
    }
    status
}

fn ips(facts: &Facts<'_>) -> Vec<String> {
    let host_network = facts.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    if host_network {
        return Some(facts.node.options.address())
            .into_iter()
            .filter(|ip| !ip.is_empty())
            .collect();
    }
    if !facts.seen.ips.is_empty() {
        return facts.seen.ips.clone();
    }
    // The last ones it had.
    let status = facts.pod.status.as_ref();
    let told = status.and_then(|status| status.pod_ips.as_ref());
    told.into_iter()
        .flatten()
        .map(|one| one.ip.clone())
        .collect()
}

fn phase(facts: &Facts<'_>) -> &'static str {
    let regular = || facts.parts.iter().filter(|part| part.role == Role::Regular);
    let latest = |part: &Part| facts.seen.latest(part.name());
    if facts.is_over {
        let all_well = regular().all(|part| latest(part).is_some_and(Attempt::succeeded));
        return if all_well { "Succeeded" } else { "Failed" };
    }
    let begun =
        |part: &Part| latest(part).is_some_and(|attempt| attempt.is_running() || attempt.is_over());
    match regular().all(begun) {
        true => "Running",
        false => "Pending",
    }
}

fn rfc3339(ns: i64) -> Value {
    let time = Timestamp::from_nanosecond(ns.into()).ok();
    let time = time.and_then(|time| Timestamp::from_second(time.as_second()).ok());
    time.map_or(Value::Null, |time| time.to_string().into())
}

fn full_id(attempt: &Attempt) -> String {
    format!("wharf://{}", attempt.id())
}

fn terminated(facts: &Facts<'_>, part: &Part, attempt: &Attempt) -> Value {
    let status = &attempt.status;
    let mut state = json!({
        "exitCode": status.exit_code, "reason": status.reason,
        "startedAt": rfc3339(status.started_at), "finishedAt": rfc3339(status.finished_at),
        "containerID": full_id(attempt),
    });
    if SIGNALLED.contains(&status.exit_code) && status.reason == "StartError" {
        state["signal"] = (status.exit_code - 128).into();
    }
    let message = match status.message.as_str() {
        "" => last_words(facts, part, attempt),
        message => message.to_owned(),
    };
    if !message.is_empty() {
        state["message"] = message.into();
    }
    state
}

/// What the program left in its file of last words; after an error, where that is asked for, the end of its log.
fn last_words(facts: &Facts<'_>, part: &Part, attempt: &Attempt) -> String {
    let file = message_file(facts.node, facts.pod, part.name(), attempt.number());
    let mut words = std::fs::read(file).unwrap_or_default();
    words.truncate(MESSAGE_BYTES_MAX);
    let falls_back =
        part.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if words.is_empty() && falls_back && attempt.status.exit_code != 0 {
        return crate::logs::tail(&attempt.status.log_path, FALLBACK_BYTES_MAX);
    }
    String::from_utf8_lossy(&words).into_owned()
}

fn state(facts: &Facts<'_>, part: &Part, attempt: Option<&Attempt>) -> (&'static str, Value) {
    if let Some(running) = attempt.filter(|attempt| attempt.is_running()) {
        return (
            "running",
            json!({"startedAt": rfc3339(running.status.started_at)}),
        );
    }
    if let Some(why) = facts.waiting.get(part.name()).filter(|_| !facts.is_over) {
        let mut state = json!({"reason": why.reason});
        if !why.message.is_empty() {
            state["message"] = why.message.clone().into();
        }
        return ("waiting", state);
    }
    if let Some(ended) = attempt.filter(|attempt| attempt.is_over()) {
        return ("terminated", terminated(facts, part, ended));
    }
    if facts.is_over && attempt.is_some() {
        let reason = json!({"exitCode": 137, "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated"});
        return ("terminated", reason);
    }
    let waits_for_init = part.role == Role::Regular
        && facts
            .parts
            .iter()
            .any(|part| matches!(part.role, Role::Init | Role::Sidecar));
    let reason = if waits_for_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    ("waiting", json!({"reason": reason}))
}

fn is_ready(facts: &Facts<'_>, part: &Part) -> bool {
    let attempt = facts.seen.current(part.name());
    match part.role {
        Role::Init => attempt.is_some_and(Attempt::succeeded),
        _ => attempt
            .filter(|attempt| attempt.is_running())
            .is_some_and(|attempt| {
                let health = (facts.health)(attempt.id());
                health.started && health.ready
            }),
    }
}

fn container(facts: &Facts<'_>, part: &Part) -> Value {
    let attempt = facts.seen.latest(part.name());
    let (kind, now) = state(facts, part, attempt);
    let mut status = json!({
        "name": part.name(), "image": part.container.image, "imageID": "",
        "ready": is_ready(facts, part), "started": false,
        "restartCount": attempt.map_or(0, Attempt::number), "state": {kind: now}, "lastState": {},
    });
    if let Some(attempt) = attempt {
        let image = attempt
            .status
            .image
            .as_ref()
            .map(|image| image.image.clone());
        status["image"] = image.into();
        status["imageID"] = attempt.status.image_ref.clone().into();
        status["containerID"] = full_id(attempt).into();
        let started = attempt.is_running() && (facts.health)(attempt.id()).started;
        status["started"] = started.into();
    }
    let last = match kind {
        "waiting" => attempt.filter(|attempt| attempt.is_over()),
        _ => facts
            .seen
            .previous(part.name())
            .filter(|attempt| attempt.is_over()),
    };
    if let Some(last) = last {
        status["lastState"] = json!({"terminated": terminated(facts, part, last)});
    }
    if let Some(resources) = &part.container.resources {
        status["resources"] = json!(resources);
        status["allocatedResources"] = json!(resources.requests);
    }
    status
}

fn conditions(facts: &Facts<'_>, phase: &str) -> Vec<Value> {
    let status = facts.pod.status.as_ref();
    let before = status
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let names = |all: Vec<&Part>| {
        all.iter()
            .map(|part| part.name().to_owned())
            .collect::<Vec<_>>()
    };
    let needed = facts
        .parts
        .iter()
        .filter(|part| matches!(part.role, Role::Regular | Role::Sidecar));
    let unready = names(needed.filter(|part| !is_ready(facts, part)).collect());
    let begun = facts
        .parts
        .iter()
        .any(|part| part.role == Role::Regular && facts.seen.latest(part.name()).is_some());
    let incomplete = facts.parts.iter().filter(|part| match part.role {
        Role::Init => !begun && !is_ready(facts, part),
        Role::Sidecar => {
            !begun
                && !facts
                    .seen
                    .current(part.name())
                    .is_some_and(Attempt::is_running)
        }
        _ => false,
    });
    let incomplete = names(incomplete.collect());
    let completed = phase == "Succeeded";
    let containers = match (completed, unready.is_empty()) {
        (true, _) => Some(("PodCompleted", String::new())),
        (false, true) => None,
        (false, false) => Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )),
    };
    let ready = containers.clone().or_else(|| shut_gate(facts.pod, &before));
    let initialized = (!completed && !incomplete.is_empty()).then(|| {
        let names = incomplete.join(" ");
        (
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{names}]"),
        )
    });
    let sandbox = (facts.seen.ready_sandbox().is_none()).then_some(("", String::new()));
    let own = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", None),
    ];
    let is_own = |one: &PodCondition| own.iter().any(|(kind, _)| *kind == one.type_);
    let others = before
        .iter()
        .filter(|one| !is_own(one))
        .map(|one| json!(one));
    let generation = facts.pod.metadata.generation;
    let mut all: Vec<Value> = own
        .iter()
        .map(|(kind, why)| condition(&before, kind, why.as_ref(), generation))
        .collect();
    all.extend(others);
    all
}

/// The first gate of readiness that nobody has opened.
fn shut_gate(pod: &Pod, before: &[PodCondition]) -> Option<(&'static str, String)> {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let is_shut = |kind: &str| {
        let found = before.iter().find(|one| one.type_ == kind);
        found.is_none_or(|one| one.status != "True")
    };
    let mut kinds = gates.into_iter().flatten().map(|gate| &gate.condition_type);
    let shut = kinds.find(|kind| is_shut(kind))?;
    let words = format!("corresponding condition of pod readiness gate {shut:?} does not exist.");
    Some(("ReadinessGatesNotReady", words))
}

fn condition(
    before: &[PodCondition],
    kind: &str,
    why: Option<&(&str, String)>,
    generation: Option<i64>,
) -> Value {
    let status = if why.is_none() { "True" } else { "False" };
    let same = before
        .iter()
        .find(|one| one.type_ == kind && one.status == status);
    let since = same.and_then(|one| one.last_transition_time.as_ref());
    let since = since.map_or_else(now, |time| time.0);
    let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null,
        "lastTransitionTime": since.to_string(), "observedGeneration": generation});
    if let Some((reason, message)) = why {
        for (field, text) in [("reason", *reason), ("message", message.as_str())] {
            if !text.is_empty() {
                condition[field] = text.into();
            }
        }
    }
    condition
}

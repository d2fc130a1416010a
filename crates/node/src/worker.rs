//! One pod's worker: looks, decides, acts, tells; then waits for whatever happens to the pod.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use wharf_client::{Deletion, Patch, Resource, Target};
use wharf_cri::v1;

use crate::Node;
use crate::act;
use crate::backoff::{self, Backoff};
use crate::decide::{self, Decision};
use crate::images::Missing;
use crate::launch;
use crate::objects::Used;
use crate::part::{self, Part, parts};
use crate::probes::Probes;
use crate::seen::{self, Seen};
use crate::status::{self, Facts};
use crate::terminate;

const PODS: Resource = Resource::new("", "v1", "pods");
/// When the runtime or the server did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What a worker is told of its pod.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub pod: Arc<Pod>,
    /// The API has it no more.
    pub is_gone: bool,
}

/// What is remembered between two looks; all of it may be lost.
pub(crate) struct Memory {
    pub backoff: Backoff,
    pub used: Used,
    /// Containers that are not started, and why.
    pub waiting: HashMap<String, Missing>,
    /// When tokens want to be made anew.
    pub refresh_at: Option<Timestamp>,
    probes: Probes,
    since: Timestamp,
    written: Option<Value>,
}

impl Memory {
    fn new(wake: &Arc<Notify>, pod: &Pod) -> Memory {
        let told = pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.as_ref());
        Memory {
            backoff: Backoff::default(),
            used: Used::new(wake.clone()),
            waiting: HashMap::new(),
            refresh_at: None,
            probes: Probes::new(wake.clone()),
            since: told.map_or_else(status::now, |time| time.0),
            written: None,
        }
    }

    pub fn hold(&mut self, name: &str, why: Missing) {
        self.waiting.insert(name.to_owned(), why);
    }

    /// Nothing of the pod can begin.
    pub fn hold_all(&mut self, parts: &[Part], why: &Missing) {
        for part in parts {
            self.hold(part.name(), why.clone());
        }
    }

    /// When to look again though nothing happens.
    fn next_look(&self, decision: &Decision) -> Option<Timestamp> {
        let waiting = self.waiting.values().filter_map(|why| why.until);
        let held = decision.held.values().map(|(until, _)| *until);
        waiting.chain(held).chain(self.refresh_at).min()
    }
}

/// Lives until the pod is gone.
pub(crate) async fn live(node: Arc<Node>, mut input: watch::Receiver<Input>, wake: Arc<Notify>) {
    let mut memory = Memory::new(&wake, &input.borrow().pod);
    loop {
        let now = input.borrow_and_update().clone();
        let again = if now.is_gone || now.pod.metadata.deletion_timestamp.is_some() {
            match end(&node, &now, &mut input, &mut memory).await {
                End::Gone => return,
                End::Again => Some(TRY_AGAIN),
                End::Changed => Some(Duration::ZERO),
            }
        } else {
            tokio::select! {
                again = step(&node, &now.pod, &mut memory) => again,
                // Every step can be given up: the runtime finishes or takes back what was begun.
                () = deleted(input.clone()) => Some(Duration::ZERO),
            }
        };
        let timer = async {
            match again {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = wake.notified() => {}
            changed = input.changed() => if changed.is_err() { return },
        }
    }
}

async fn deleted(mut input: watch::Receiver<Input>) {
    let is_over = |input: &Input| input.is_gone || input.pod.metadata.deletion_timestamp.is_some();
    // An error is the end of the node.
    let _ = input.wait_for(is_over).await;
}

/// One look at a pod that is to run. Says when to come again by itself.
async fn step(node: &Arc<Node>, pod: &Arc<Pod>, memory: &mut Memory) -> Option<Duration> {
    let parts = parts(pod);
    let mut seen = match seen::look(&*node.cri, part::uid(pod)).await {
        Ok(seen) => seen,
        Err(status) => {
            tracing::warn!(
                pod = part::long_name(pod),
                error = status.message(),
                "look at a pod"
            );
            return Some(TRY_AGAIN);
        }
    };
    if status::is_final(pod) {
        return finish(node, pod, &parts, &seen).await;
    }
    memory.probes.follow(node, pod, &parts, &seen);
    let decision = decided(pod, &seen, memory);
    note_waits(node, pod, &decision, memory);
    if decision.is_over {
        terminate::containers(node, pod, &parts, &seen, terminate::grace(pod, None)).await;
        seen = seen::look(&*node.cri, part::uid(pod)).await.unwrap_or(seen);
        return report(node, pod, &parts, &seen, memory, true).await;
    }
    if let Some(again) = report(node, pod, &parts, &seen, memory, false).await {
        return Some(again);
    }
    if memory.refresh_at.is_some() || has_volumes(pod) {
        // What they show may have changed; a failure is told by its event, and does not stop what runs.
        let _ = act::prepare(node, pod, &seen, memory).await;
    }
    if act::act(node, pod, &parts, &seen, &decision, memory).await {
        return Some(Duration::ZERO);
    }
    if !decision.start.is_empty() || decision.sandbox.is_some() {
        // Nothing could be begun: say why.
        if let Some(again) = report(node, pod, &parts, &seen, memory, false).await {
            return Some(again);
        }
    }
    let next = memory.next_look(&decision)?;
    let wait = next.duration_since(Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

fn has_volumes(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.is_some_and(|volumes| !volumes.is_empty())
}

fn decided(pod: &Pod, seen: &Seen, memory: &Memory) -> Decision {
    let verdicts = memory.probes.verdicts();
    decide::decide(pod, seen, &verdicts, &memory.backoff, Timestamp::now())
}

/// Who waits for the end of a back-off says so.
fn note_waits(node: &Node, pod: &Pod, decision: &Decision, memory: &mut Memory) {
    memory.waiting.retain(|name, why| {
        why.reason != "CrashLoopBackOff" && decision.start.iter().any(|(start, _)| start == name)
    });
    for (name, (until, wait)) in &decision.held {
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            backoff::text(*wait),
            part::long_name(pod)
        );
        let words = format!(
            "Back-off restarting failed container {name} in pod {}",
            part::long_name(pod)
        );
        node.recorder.warning(pod, Some(name), "BackOff", words);
        let why = Missing {
            reason: "CrashLoopBackOff",
            message,
            until: Some(*until),
        };
        memory.waiting.insert(name.clone(), why);
    }
}

/// What is to be done for a pod that has ended for good: nothing runs, nothing is held.
async fn finish(node: &Arc<Node>, pod: &Pod, parts: &[Part], seen: &Seen) -> Option<Duration> {
    if seen.running().next().is_some() {
        terminate::containers(node, pod, parts, seen, terminate::grace(pod, None)).await;
    }
    if seen.ready_sandbox().is_some()
        && let Err(status) = terminate::sandboxes(node, seen).await
    {
        tracing::warn!(
            pod = part::long_name(pod),
            error = status.message(),
            "stop a sandbox"
        );
        return Some(TRY_AGAIN);
    }
    None
}

/// Writes the status where it is another than what was written last. Says when to try again.
async fn report(
    node: &Node,
    pod: &Pod,
    parts: &[Part],
    seen: &Seen,
    memory: &mut Memory,
    is_over: bool,
) -> Option<Duration> {
    let facts = Facts {
        node,
        pod,
        parts,
        seen,
        waiting: &memory.waiting,
        health: &|id| memory.probes.health(id),
        since: memory.since,
        is_over,
    };
    let status = status::make(&facts);
    if memory.written.as_ref() == Some(&status) {
        return None;
    }
    let patch = json!({"metadata": {"uid": part::uid(pod)}, "status": status});
    let target = Target::new(PODS, part::namespace(pod), part::name(pod));
    match node
        .api
        .patch(target.with_subresource("status"), Patch::Merge(patch))
        .await
    {
        Ok(_) => {
            memory.written = Some(status);
            None
        }
        Err(error) if error.is_not_found() || error.is_conflict() => None,
        Err(error) => {
            tracing::warn!(pod = part::long_name(pod), %error, "write a pod's status");
            Some(TRY_AGAIN)
        }
    }
}

enum End {
    /// Nothing is left.
    Gone,
    /// Something failed.
    Again,
    /// It is to end in another way.
    Changed,
}

/// Ends a pod: containers, sandbox, volumes; then the API's object.
async fn end(
    node: &Arc<Node>,
    now: &Input,
    input: &mut watch::Receiver<Input>,
    memory: &mut Memory,
) -> End {
    let pod = &now.pod;
    let parts = parts(pod);
    let uid = part::uid(pod).to_owned();
    let Ok(seen) = seen::look(&*node.cri, &uid).await else {
        return End::Again;
    };
    memory.probes.follow(node, pod, &parts, &seen);
    let grace = terminate::grace(pod, None);
    let sooner = {
        let (mut input, grace, was_gone) = (input.clone(), grace, now.is_gone);
        async move {
            let is_sooner = |new: &Input| {
                (new.is_gone && !was_gone) || terminate::grace(&new.pod, None) < grace
            };
            let _ = input.wait_for(is_sooner).await;
        }
    };
    let stopping = async {
        if seen.running().next().is_some() && !now.is_gone {
            report(node, pod, &parts, &seen, memory, false).await;
        }
        terminate::containers(node, pod, &parts, &seen, grace).await;
    };
    tokio::select! {
        () = stopping => {}
        () = sooner => return End::Changed,
    }
    let Ok(seen) = seen::look(&*node.cri, &uid).await else {
        return End::Again;
    };
    if let Err(status) = terminate::sandboxes(node, &seen).await {
        tracing::warn!(
            pod = part::long_name(pod),
            error = status.message(),
            "stop a sandbox"
        );
        return End::Again;
    }
    if !now.is_gone {
        memory.written = None;
        report(node, pod, &parts, &seen, memory, true).await;
    }
    let logs = launch::log_folder(node, pod);
    if let Err(status) = terminate::remains(node, &uid, Some(logs)).await {
        tracing::warn!(
            pod = part::long_name(pod),
            error = status.message(),
            "remove a pod's remains"
        );
        return End::Again;
    }
    if now.is_gone {
        return End::Gone;
    }
    delete(node, pod, uid).await
}

async fn delete(node: &Node, pod: &Pod, uid: String) -> End {
    let target = Target::new(PODS, part::namespace(pod), part::name(pod));
    let deletion = Deletion {
        grace_seconds: Some(0),
        uid: Some(uid),
        propagation: None,
    };
    match node.api.delete(target, deletion).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            tracing::warn!(pod = part::long_name(pod), %error, "delete a pod that has ended");
            End::Again
        }
        _ => End::Gone,
    }
}

/// What the pod's secrets know of registries.
pub(crate) async fn pull_secrets(
    node: &Node,
    pod: &Pod,
    memory: &mut Memory,
) -> Vec<v1::AuthConfig> {
    let mut all = Vec::new();
    let spec = pod.spec.as_ref();
    let names = spec.and_then(|spec| spec.image_pull_secrets.as_ref());
    for of in names.into_iter().flatten() {
        let secret = memory
            .used
            .secret(&node.objects, part::namespace(pod), &of.name)
            .await;
        let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
        let bytes = data.and_then(|data| data.get(".dockerconfigjson"));
        let Some(config) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes.0).ok())
        else {
            continue;
        };
        for (server, entry) in config["auths"].as_object().into_iter().flatten() {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            all.push(v1::AuthConfig {
                username: text("username"),
                password: text("password"),
                auth: text("auth"),
                server_address: server.clone(),
                ..Default::default()
            });
        }
    }
    all
}

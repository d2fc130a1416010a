//! What the scheduler writes: bindings, conditions, nominations, evictions. In the background, many at once.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use wharf_client::{Api, Deletion, Error, Patch, Resource, Target};

use crate::core::{Act, Change};
use crate::events::Recorder;
use crate::pod::PodInfo;

pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");
const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Resource = Resource::new("", "v1", "persistentvolumes");
/// Requests under way at once.
const AT_ONCE: usize = 128;
/// Tells whoever makes volumes on which node one is wanted.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Writes; shared by cloning.
#[derive(Clone)]
pub(crate) struct Writer {
    api: Arc<dyn Api>,
    recorder: Recorder,
    changes: mpsc::UnboundedSender<Change>,
    limit: Arc<Semaphore>,
}

impl Writer {
    pub(crate) fn new(
        api: Arc<dyn Api>,
        recorder: Recorder,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Writer {
        Writer {
            api,
            recorder,
            changes,
            limit: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Begins to write. Returns at once, unless too many writes are under way.
    pub(crate) async fn begin(&self, act: Act) {
        let Ok(permit) = self.limit.clone().acquire_owned().await else {
            return;
        };
        let writer = self.clone();
        tokio::spawn(async move {
            writer.write(act).await;
            drop(permit);
        });
    }

    async fn write(&self, act: Act) {
        match act {
            Act::Bind { pod, node } => self.bind(&pod, &node).await,
            Act::Claim { pod, node, claims } => self.claim(&pod, &node, &claims).await,
            Act::Refuse {
                pod,
                message,
                nominated,
            } => {
                self.recorder.warn(&pod, "FailedScheduling", &message);
                self.condition(&pod, "Unschedulable", &message, nominated)
                    .await;
            }
            Act::Evict {
                pod,
                node,
                victims,
                displaced,
            } => self.make_room(&pod, &node, &victims, &displaced).await,
        }
    }

    async fn bind(&self, pod: &Arc<PodInfo>, node: &str) {
        let target =
            Target::new(PODS, &pod.key.namespace, &pod.key.name).with_subresource("binding");
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        });
        match self.api.create(target, binding).await {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder.say(pod, "Scheduled", "Binding", &message);
            }
            Err(error) => {
                tracing::warn!(pod = %pod.key, node, %error, "not bound");
                // First the pod goes back into the queue: the rest may take long, or fail alike.
                let _ = self
                    .changes
                    .send(Change::NotBound(pod.key.clone(), pod.uid.clone()));
                if !error.is_not_found() {
                    let message = format!("binding rejected: {error}");
                    self.recorder.warn(pod, "FailedScheduling", &message);
                    self.condition(pod, "SchedulerError", &message, None).await;
                }
            }
        }
    }

    async fn claim(&self, pod: &Arc<PodInfo>, node: &str, claims: &[(String, Option<String>)]) {
        for (claim, volume) in claims {
            let namespace = &pod.key.namespace;
            let written = match volume {
                Some(volume) => {
                    let reference = json!({"spec": {"claimRef": {"apiVersion": "v1",
                        "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim}}});
                    let target = Target::new(VOLUMES, "", volume);
                    self.api.patch(target, Patch::Merge(reference)).await
                }
                None => {
                    let selected = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
                    let target = Target::new(CLAIMS, namespace, claim);
                    self.api.patch(target, Patch::Merge(selected)).await
                }
            };
            if let Err(error) = written {
                tracing::warn!(pod = %pod.key, claim, %error, "the claim gets no volume");
            }
        }
    }

    /// Writes why a pod waits, unless it says so already.
    async fn condition(
        &self,
        pod: &PodInfo,
        reason: &str,
        message: &str,
        nominated: Option<String>,
    ) {
        let mut status = serde_json::Map::new();
        if !says(&pod.object, reason, message) {
            status.insert(
                "conditions".to_owned(),
                json!([condition(
                    "PodScheduled",
                    "False",
                    reason,
                    message,
                    &pod.object
                )]),
            );
        }
        if let Some(node) = nominated {
            let node = match node.is_empty() {
                true => Value::Null,
                false => node.into(),
            };
            status.insert("nominatedNodeName".to_owned(), node);
        }
        if !status.is_empty() {
            let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
            let written = self.status(pod, patch).await;
            report(pod, "its condition is not written", written);
        }
    }

    async fn status(&self, pod: &PodInfo, patch: Value) -> Result<Value, Error> {
        let target =
            Target::new(PODS, &pod.key.namespace, &pod.key.name).with_subresource("status");
        self.api.patch(target, Patch::Strategic(patch)).await
    }

    /// The nomination is written first: should the scheduler end in between, room is not made for nobody.
    async fn make_room(
        &self,
        pod: &Arc<PodInfo>,
        node: &str,
        victims: &[Arc<PodInfo>],
        displaced: &[Arc<PodInfo>],
    ) {
        for other in displaced {
            let patch =
                json!({"metadata": {"uid": other.uid}, "status": {"nominatedNodeName": null}});
            let written = self.status(other, patch).await;
            report(other, "its nomination is not taken back", written);
        }
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}});
        let written = self.status(pod, patch).await;
        report(pod, "its nomination is not written", written);
        for victim in victims.iter().filter(|victim| !victim.is_leaving()) {
            self.evict(pod, node, victim).await;
        }
    }

    async fn evict(&self, pod: &PodInfo, node: &str, victim: &Arc<PodInfo>) {
        let message = "default-scheduler: preempting to accommodate a higher priority pod";
        let reason = "PreemptionByScheduler";
        let conditions = json!([condition(
            "DisruptionTarget",
            "True",
            reason,
            message,
            &victim.object
        )]);
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": conditions}});
        let written = self.status(victim, patch).await;
        report(victim, "its end is not announced", written);
        let target = Target::new(PODS, &victim.key.namespace, &victim.key.name);
        let deletion = Deletion {
            uid: Some(victim.uid.clone()),
            ..Deletion::default()
        };
        let gone = self.api.delete(target, deletion).await;
        if gone.is_ok() {
            let message = format!("Preempted by pod {} on node {node}", pod.uid);
            self.recorder
                .say(victim, "Preempted", "Preempting", &message);
        }
        report(victim, "it does not make room", gone);
    }
}

fn report(pod: &PodInfo, what: &str, written: Result<Value, Error>) {
    match written {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            tracing::warn!(pod = %pod.key, %error, "{what}");
        }
        _ => {}
    }
}

fn of_type<'a>(pod: &'a Pod, kind: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|one| one.type_ == kind)
}

fn says(pod: &Pod, reason: &str, message: &str) -> bool {
    of_type(pod, "PodScheduled").is_some_and(|one| {
        one.status == "False"
            && one.reason.as_deref() == Some(reason)
            && one.message.as_deref() == Some(message)
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, pod: &Pod) -> Value {
    let old = of_type(pod, kind).filter(|one| one.status == status);
    let since = old.and_then(|one| one.last_transition_time.as_ref());
    let since = since.map_or_else(Timestamp::now, |time| time.0);
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": null,
        "lastTransitionTime": format!("{since:.0}"),
    })
}

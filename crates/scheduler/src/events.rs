//! Events that tell people what became of their pods: written in the background, alike ones counted.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_client::{Api, Patch, Resource, Target};

use crate::pod::PodInfo;

const EVENTS: Resource = Resource::new("", "v1", "events");
/// Events that wait to be written; what comes while there are so many is lost.
const WAITING_MAX: usize = 8192;
/// Events that are remembered, so that the next one alike is counted.
const REMEMBERED_MAX: usize = 4096;

/// Records. Never waits.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Told>,
    instance: Arc<str>,
}

struct Told {
    pod: Arc<PodInfo>,
    kind: &'static str,
    reason: &'static str,
    action: &'static str,
    message: String,
    at: Timestamp,
    component: String,
}

/// A recorder, and the work that writes.
pub(crate) fn channel(
    api: Arc<dyn Api>,
    instance: &str,
) -> (Recorder, impl Future<Output = ()> + Send + use<>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let recorder = Recorder {
        sender,
        instance: Arc::from(instance),
    };
    let work = write_all(api, recorder.instance.clone(), receiver);
    (recorder, work)
}

impl Recorder {
    pub(crate) fn say(
        &self,
        pod: &Arc<PodInfo>,
        reason: &'static str,
        action: &'static str,
        message: &str,
    ) {
        self.tell(pod, "Normal", reason, action, message);
    }

    pub(crate) fn warn(&self, pod: &Arc<PodInfo>, reason: &'static str, message: &str) {
        self.tell(pod, "Warning", reason, "Scheduling", message);
    }

    fn tell(
        &self,
        pod: &Arc<PodInfo>,
        kind: &'static str,
        reason: &'static str,
        action: &'static str,
        message: &str,
    ) {
        let spec = pod.object.spec.as_ref();
        let component = spec.and_then(|spec| spec.scheduler_name.clone());
        let told = Told {
            pod: pod.clone(),
            kind,
            reason,
            action,
            message: message.to_owned(),
            at: Timestamp::now(),
            component: component.unwrap_or_else(|| "default-scheduler".to_owned()),
        };
        // Events are for people; losing one when there are thousands is better than waiting.
        let _ = self.sender.try_send(told);
    }
}

async fn write_all(api: Arc<dyn Api>, instance: Arc<str>, mut receiver: mpsc::Receiver<Told>) {
    let mut seen: HashMap<(String, &'static str, String), (String, u32)> = HashMap::new();
    while let Some(told) = receiver.recv().await {
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        let namespace = &told.pod.key.namespace;
        let alike = (told.pod.uid.clone(), told.reason, told.message.clone());
        if let Some((name, count)) = seen.get_mut(&alike) {
            *count += 1;
            let again = json!({"count": count, "lastTimestamp": format!("{:.0}", told.at)});
            let target = Target::new(EVENTS, namespace, name);
            if api.patch(target, Patch::Merge(again)).await.is_ok() {
                continue;
            }
        }
        let name = format!(
            "{}.{:016x}",
            told.pod.key.name,
            told.at.as_nanosecond() & i128::from(u64::MAX)
        );
        let target = Target::new(EVENTS, namespace, "");
        match api.create(target, event(&told, &name, &instance)).await {
            // What happens once in a pod's life need not be remembered.
            Ok(_) if told.kind == "Normal" => {}
            Ok(_) => {
                seen.insert(alike, (name, 1));
            }
            Err(error) => tracing::debug!(%error, "an event is lost"),
        }
    }
}

fn event(told: &Told, name: &str, instance: &str) -> Value {
    let pod = &told.pod;
    let at = format!("{:.0}", told.at);
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": pod.key.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": pod.key.namespace, "name": pod.key.name,
            "uid": pod.uid, "resourceVersion": pod.object.metadata.resource_version,
        },
        "type": told.kind, "reason": told.reason, "message": told.message, "count": 1,
        "firstTimestamp": at, "lastTimestamp": at, "action": told.action,
        "source": {"component": told.component},
        "reportingComponent": told.component, "reportingInstance": instance,
    })
}

//! Events of pods, written in the background.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_client::{Api, Patch, Resource, Target};

use crate::part;

const EVENTS: Resource = Resource::new("", "v1", "events");
/// Events that wait to be written; what comes while there are so many is lost.
const WAITING_MAX: usize = 1024;
/// Events that are remembered, to be counted instead of written again.
const REMEMBERED_MAX: usize = 1024;

/// Records. Never waits.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Told>,
}

struct Told {
    about: Value,
    kind: &'static str,
    reason: &'static str,
    message: String,
}

impl Recorder {
    pub fn normal(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: String,
    ) {
        self.tell(pod, container, "Normal", reason, message);
    }

    pub fn warning(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: String,
    ) {
        self.tell(pod, container, "Warning", reason, message);
    }

    fn tell(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let mut about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": part::namespace(pod),
            "name": part::name(pod), "uid": part::uid(pod),
            "resourceVersion": pod.metadata.resource_version});
        if let Some(container) = container {
            let spec = pod.spec.as_ref();
            let is_init = spec
                .and_then(|spec| spec.init_containers.as_ref())
                .is_some_and(|all| all.iter().any(|one| one.name == container));
            let list = if is_init {
                "initContainers"
            } else {
                "containers"
            };
            about["fieldPath"] = format!("spec.{list}{{{container}}}").into();
        }
        // A flood is dammed by losing what does not fit.
        let _ = self.sender.try_send(Told {
            about,
            kind,
            reason,
            message,
        });
    }
}

/// A recorder, and the task that writes.
pub(crate) fn channel(
    api: Arc<dyn Api>,
    host: &str,
) -> (Recorder, impl Future<Output = ()> + use<>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (
        Recorder { sender },
        write_all(api, host.to_owned(), receiver),
    )
}

async fn write_all(api: Arc<dyn Api>, host: String, mut receiver: mpsc::Receiver<Told>) {
    let mut known: HashMap<String, (String, u32)> = HashMap::new();
    while let Some(told) = receiver.recv().await {
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        let identity = format!("{}{}{}", told.about["uid"], told.reason, told.message);
        let namespace = told.about["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Some((name, count)) = known.get_mut(&identity) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": now()});
            let target = Target::new(EVENTS.clone(), &namespace, name);
            match api.patch(target, Patch::Merge(patch)).await {
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, "count an event"),
            }
        }
        let name = format!(
            "{}.{:x}",
            told.about["name"].as_str().unwrap_or_default(),
            Timestamp::now().as_nanosecond()
        );
        let event = event(&told, &name, &namespace, &host);
        match api
            .create(Target::new(EVENTS.clone(), &namespace, ""), event)
            .await
        {
            Ok(_) => {
                known.insert(identity, (name, 1));
            }
            Err(error) => tracing::debug!(%error, reason = told.reason, "write an event"),
        }
    }
}

fn now() -> String {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    now.to_string()
}

fn event(told: &Told, name: &str, namespace: &str, host: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
        "involvedObject": told.about, "type": told.kind, "reason": told.reason, "message": told.message,
        "count": 1, "firstTimestamp": now(), "lastTimestamp": now(),
        "source": {"component": "kubelet", "host": host},
        "reportingComponent": "kubelet", "reportingInstance": host,
    })
}

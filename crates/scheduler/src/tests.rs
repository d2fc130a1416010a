//! Decisions on plain objects: a cluster is written down, pods come, and where they go is read off.

mod plugins;
mod preemption;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as api;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::core::{Act, Change, Core};
use crate::score::Weights;

/// A core with a clock that a test turns.
pub(crate) struct Cluster {
    pub(crate) core: Core,
    pub(crate) now: Instant,
}

/// Puts `over` into `base`, object by object.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

pub(crate) fn pod_json(name: &str, over: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}]}});
    merge(&mut pod, over);
    pod
}

pub(crate) fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

impl Cluster {
    /// Nodes of four processors with ten pods at most, in zones `a`, `b`, `a`, …
    pub(crate) fn new(nodes: usize) -> Cluster {
        let profiles = [("default-scheduler", Weights::default())];
        let profiles = profiles.map(|(name, weights)| (name.to_owned(), weights));
        let mut cluster = Cluster {
            core: Core::new(BTreeMap::from(profiles), 7),
            now: Instant::now(),
        };
        for at in 0..nodes {
            cluster.node(&format!("n{}", at + 1), json!({}));
        }
        cluster
    }

    pub(crate) fn change(&mut self, change: Change) {
        self.core.apply(change, self.now);
    }

    pub(crate) fn node(&mut self, name: &str, over: Value) {
        let number: usize = name[1..].parse().unwrap();
        let zone = ["b", "a"][number % 2];
        let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": zone}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"}}});
        merge(&mut node, over);
        let node: api::Node = serde_json::from_value(node).unwrap();
        self.change(Change::Node(Arc::new(node)));
    }

    pub(crate) fn put(&mut self, pod: Value) -> Arc<api::Pod> {
        let pod: Arc<api::Pod> = Arc::new(serde_json::from_value(pod).unwrap());
        self.change(Change::Pod(pod.clone()));
        pod
    }

    /// A pod that is on a node.
    pub(crate) fn placed(&mut self, name: &str, node: &str, over: Value) -> Arc<api::Pod> {
        let mut pod = pod_json(name, over);
        pod["spec"]["nodeName"] = node.into();
        self.put(pod)
    }

    pub(crate) fn step(&mut self) -> Option<Act> {
        self.core.step(self.now)
    }

    /// Decides about a new pod: its node, or the message.
    pub(crate) fn try_pod(&mut self, name: &str, over: Value) -> Result<String, String> {
        self.put(pod_json(name, over));
        self.outcome()
    }

    pub(crate) fn outcome(&mut self) -> Result<String, String> {
        match self.step() {
            Some(Act::Bind { node, .. }) => Ok(node),
            Some(Act::Refuse { message, .. }) => Err(message),
            other => Err(format!("{other:?}")),
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

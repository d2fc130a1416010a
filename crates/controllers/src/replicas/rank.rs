//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod_state;

/// How dear a pod is to its users; lower goes first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods that go. `related` are all active pods by which crowded nodes are told.
pub(super) fn surplus(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count >= active.len() {
        return active.to_vec();
    }
    let mut crowds: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *crowds.entry(node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<(Rank<'_>, &Arc<Pod>)> = active
        .iter()
        .map(|pod| (Rank::of(pod, crowds.get(node(pod)).copied(), now), pod))
        .collect();
    ranked.sort_by(|a, b| a.0.first(&b.0));
    ranked
        .into_iter()
        .take(count)
        .map(|(_, pod)| pod.clone())
        .collect()
}

fn node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// What decides, most important first.
struct Rank<'a> {
    is_assigned: bool,
    phase: u8,
    is_ready: bool,
    cost: i32,
    crowd: Reverse<usize>,
    ready_for: Age,
    restarts: Reverse<(i32, i32)>,
    created_for: Age,
    uid: &'a str,
}

/// How long ago something was: in powers of two, so that which of two old ones goes is chance and a deployment does not
/// always lose its youngest part. Nothing where it is not known.
#[derive(Clone, Copy)]
struct Age {
    at: Option<Timestamp>,
    magnitude: u32,
}

impl Age {
    fn of(at: Option<Timestamp>, now: Timestamp) -> Age {
        let nanos = at.map_or(0, |at| now.duration_since(at).as_nanos());
        let magnitude = u128::try_from(nanos).ok().and_then(u128::checked_ilog2);
        Age {
            at,
            magnitude: magnitude.map_or(0, |magnitude| magnitude + 1),
        }
    }

    /// The younger first; equal only at the same moment.
    fn first(&self, other: &Age, uids: (&str, &str)) -> Ordering {
        match (self.at, other.at) {
            (a, b) if a == b => Ordering::Equal,
            (None, _) => Ordering::Less,
            (_, None) => Ordering::Greater,
            _ => self
                .magnitude
                .cmp(&other.magnitude)
                .then_with(|| uids.0.cmp(uids.1)),
        }
    }
}

impl<'a> Rank<'a> {
    fn of(pod: &'a Pod, crowd: Option<usize>, now: Timestamp) -> Rank<'a> {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Rank {
            is_assigned: !node(pod).is_empty(),
            phase: match pod_state::phase(pod) {
                "Running" => 2,
                "Unknown" => 1,
                _ => 0,
            },
            is_ready: pod_state::is_ready(pod),
            cost: cost(pod),
            crowd: Reverse(crowd.unwrap_or_default()),
            ready_for: Age::of(pod_state::ready_since(pod), now),
            restarts: Reverse(restarts(pod)),
            created_for: Age::of(created, now),
            uid: pod.metadata.uid.as_deref().unwrap_or_default(),
        }
    }

    fn first(&self, other: &Rank<'_>) -> Ordering {
        let uids = (self.uid, other.uid);
        self.is_assigned
            .cmp(&other.is_assigned)
            .then_with(|| self.phase.cmp(&other.phase))
            .then_with(|| self.is_ready.cmp(&other.is_ready))
            .then_with(|| self.cost.cmp(&other.cost))
            .then_with(|| self.crowd.cmp(&other.crowd))
            .then_with(|| match self.is_ready {
                true => self.ready_for.first(&other.ready_for, uids),
                false => Ordering::Equal,
            })
            .then_with(|| self.restarts.cmp(&other.restarts))
            .then_with(|| self.created_for.first(&other.created_for, uids))
    }
}

/// What is no number costs nothing.
fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(COST));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Most restarts of a container, then of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let most = |all: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        let counts = all.iter().flatten().map(|one| one.restart_count);
        counts.max().unwrap_or(0)
    };
    (
        most(&status.container_statuses),
        most(&status.init_container_statuses),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T12:00:00Z";

    fn pod(name: &str, change: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T11:00:00Z"},
            "spec": {"nodeName": name, "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z"}]},
        });
        merge(&mut pod, change);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    /// The first to go of a pod so changed and one that is well.
    fn first(change: Value) -> String {
        let pods = [pod("well", json!({})), pod("other", change)];
        let goes = surplus(&pods, &pods, 1, NOW.parse().unwrap());
        goes[0].metadata.name.clone().unwrap()
    }

    #[test]
    fn the_least_useful_goes_first() {
        assert_eq!(first(json!({"spec": {"nodeName": ""}})), "other");
        assert_eq!(first(json!({"status": {"phase": "Pending"}})), "other");
        assert_eq!(first(json!({"status": {"conditions": []}})), "other");
        let cost = |cost: &str| json!({"metadata": {"annotations": {COST: cost}}});
        assert_eq!(first(cost("-5")), "other");
        assert_eq!(first(cost("5")), "well");
        let ready = |at: &str| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}});
        assert_eq!(first(ready("2026-01-01T11:59:59Z")), "other", "younger");
        assert_eq!(first(ready("2025-01-01T00:00:00Z")), "well", "older");
        let restarts = json!({"status": {"containerStatuses": [{"name": "c", "restartCount": 3, "image": "i", "imageID": "", "ready": true}]}});
        assert_eq!(first(restarts), "other");
        let created = json!({"metadata": {"creationTimestamp": "2026-01-01T11:59:00Z"}});
        assert_eq!(first(created), "other", "newer");
    }

    #[test]
    fn a_crowded_node_loses_one() {
        let on = |name: &str, node: &str| pod(name, json!({"spec": {"nodeName": node}}));
        let pods = [on("a", "one"), on("b", "two"), on("c", "two")];
        let goes = surplus(&pods, &pods, 1, NOW.parse().unwrap());
        assert_eq!(node(&goes[0]), "two");
    }
}

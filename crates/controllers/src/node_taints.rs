//! Nodes' conditions as taints: no pod is sent to a node that is not ready or short of something.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::json;
use wharf_client::{Key, Patch, Queue};

use crate::context::Context;
use crate::work::{Outcome, Task, feed_own, work};

const NO_SCHEDULE: &str = "NoSchedule";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, its value, the taint.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// The work of the controller.
pub(crate) fn node_taints(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    feed_own(&context.informers.nodes, &queue);
    let workers = context.options.workers;
    work("node-lifecycle-controller", queue, workers, move |key| {
        let context = context.clone();
        async move { sync(&context, key).await }
    })
}

async fn sync(context: &Context, key: Key) -> Outcome {
    let Some(node) = context.informers.nodes.cache().get(&key) else {
        return Ok(None);
    };
    let Some(taints) = changed(&node) else {
        return Ok(None);
    };
    // The version guards the list, which is replaced as a whole.
    let change = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": taints}});
    match context
        .writes
        .patch::<Node>(&key, Patch::Merge(change))
        .await
    {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(None),
    }
}

/// The taints that a node should have; nothing if it has them.
fn changed(node: &Node) -> Option<Vec<Taint>> {
    let status = node.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let is = |kind: &str, value: &str| {
        let found = conditions.iter().find(|one| one.type_ == kind);
        match found {
            Some(found) => found.status == value,
            // Nobody has said yet that it is ready.
            None => kind == "Ready" && value == "False",
        }
    };
    let spec = node.spec.as_ref();
    let mut wanted: Vec<&str> = TAINTS
        .iter()
        .filter(|(kind, value, _)| is(kind, value))
        .map(|(_, _, taint)| *taint)
        .collect();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    let before = spec
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let is_own = |taint: &Taint| {
        let known = TAINTS.iter().any(|(_, _, name)| *name == taint.key);
        taint.effect == NO_SCHEDULE && (known || taint.key == UNSCHEDULABLE)
    };
    let keeps = |taint: &Taint| !is_own(taint) || wanted.contains(&taint.key.as_str());
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|taint| keeps(taint))
        .cloned()
        .collect();
    for name in wanted {
        if !after
            .iter()
            .any(|taint| taint.key == name && taint.effect == NO_SCHEDULE)
        {
            after.push(Taint {
                key: name.to_owned(),
                effect: NO_SCHEDULE.to_owned(),
                ..Taint::default()
            });
        }
    }
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn keys(spec: Value, conditions: Value) -> Option<Vec<String>> {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}),
        )
        .unwrap();
        let taints = changed(&node)?;
        Some(taints.into_iter().map(|taint| taint.key).collect())
    }

    #[test]
    fn conditions_are_taints() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let not_ready = json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
            {"key": "mine", "effect": "NoSchedule"}]});
        assert_eq!(keys(not_ready.clone(), ready.clone()).unwrap(), ["mine"]);
        assert_eq!(keys(json!({}), ready.clone()), None);
        assert_eq!(
            keys(json!({}), json!([])).unwrap(),
            ["node.kubernetes.io/not-ready"]
        );
        let full = json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]);
        assert_eq!(
            keys(json!({}), full).unwrap(),
            ["node.kubernetes.io/disk-pressure"]
        );
        assert_eq!(
            keys(json!({"unschedulable": true}), ready).unwrap(),
            [UNSCHEDULABLE]
        );
        let lost = json!([{"type": "Ready", "status": "Unknown"}]);
        assert_eq!(
            keys(not_ready, lost).unwrap(),
            ["mine", "node.kubernetes.io/unreachable"]
        );
    }
}

//! Who leaves for whom.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Cluster, asks, pod_json};
use crate::core::{Act, Change};

fn with(priority: i32, cpu: &str) -> Value {
    let mut spec = asks(cpu);
    spec["priority"] = priority.into();
    json!({"spec": spec})
}

fn evicted(act: Option<Act>) -> (String, Vec<String>) {
    match act {
        Some(Act::Evict { node, victims, .. }) => {
            let mut names: Vec<String> = victims.iter().map(|v| v.key.name.clone()).collect();
            names.sort();
            (node, names)
        }
        other => panic!("{other:?}"),
    }
}

fn named(node: &str, names: &[&str]) -> (String, Vec<String>) {
    (
        node.to_owned(),
        names.iter().map(|n| (*n).to_owned()).collect(),
    )
}

#[test]
fn the_least_important_leave_and_the_room_is_kept() {
    let mut cluster = Cluster::new(2);
    cluster.placed("a", "n1", with(5, "4"));
    let low = cluster.placed("b", "n2", with(1, "3"));
    cluster.placed("c", "n2", with(1, "1"));
    cluster.put(pod_json("vip", with(10, "3")));
    assert_eq!(
        evicted(cluster.step()),
        named("n2", &["b"]),
        "one is enough, the others stay"
    );
    cluster.put(pod_json("thief", with(1, "2")));
    assert!(cluster.outcome().is_err());
    cluster.change(Change::PodGone(low));
    cluster.pass(2);
    let first = cluster.outcome();
    assert_eq!(first, Ok("n2".into()));
    let key = wharf_client::Key::new("default", "vip");
    assert!(
        cluster.core.world.find(&key).is_some(),
        "the more important one got it"
    );
}

#[test]
fn a_thief_that_comes_in_between_finds_no_room() {
    let mut cluster = Cluster::new(1);
    let low = cluster.placed("low", "n1", with(1, "4"));
    cluster.put(pod_json("vip", with(10, "4")));
    assert_eq!(evicted(cluster.step()), named("n1", &["low"]));
    cluster.change(Change::PodGone(low));
    cluster.put(pod_json("thief", with(1, "1")));
    assert!(cluster.outcome().unwrap_err().contains("Insufficient cpu"));
    cluster.pass(2);
    assert_eq!(cluster.outcome(), Ok("n1".into()));
}

#[test]
fn equals_and_the_modest_evict_nobody() {
    let mut cluster = Cluster::new(1);
    cluster.placed("there", "n1", with(5, "4"));
    let equal = cluster.try_pod("equal", with(5, "1")).unwrap_err();
    assert!(
        equal.ends_with("1 No preemption victims found for incoming pod."),
        "{equal}"
    );
    let mut modest = with(10, "1");
    modest["spec"]["preemptionPolicy"] = json!("Never");
    let modest = cluster.try_pod("modest", modest).unwrap_err();
    assert_eq!(
        modest,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
    assert!(
        matches!(cluster.try_pod("huge", with(10, "40")), Err(text) if text.contains("Preemption is not helpful"))
    );
}

#[test]
fn budgets_are_kept_where_there_is_another_way() {
    let mut cluster = Cluster::new(2);
    let mut guarded = with(1, "4");
    guarded["metadata"] = json!({"labels": {"app": "guarded"}});
    cluster.placed("guarded", "n1", guarded);
    cluster.placed("other", "n2", with(3, "4"));
    let budget = json!({"metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "guarded"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    let budget = serde_json::from_value(budget).unwrap();
    cluster.change(Change::Budget(Arc::new(budget), true));
    cluster.put(pod_json("vip", with(10, "2")));
    assert_eq!(
        evicted(cluster.step()),
        named("n2", &["other"]),
        "though it is more important"
    );
    cluster.put(pod_json("king", with(20, "4")));
    assert_eq!(
        evicted(cluster.step()).1.len(),
        1,
        "a budget does not stop it altogether"
    );
}

#[test]
fn who_keeps_others_away_can_be_made_to_leave() {
    let mut cluster = Cluster::new(1);
    let far = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"priority": 1, "affinity": {"podAntiAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "x"}}}]}}}});
    cluster.placed("low", "n1", far.clone());
    cluster.placed("bystander", "n1", with(1, "1"));
    let mut vip = far;
    vip["spec"]["priority"] = json!(9);
    cluster.put(pod_json("vip", vip));
    assert_eq!(evicted(cluster.step()), named("n1", &["low"]));
    let key = wharf_client::Key::new("default", "low");
    assert!(
        cluster.core.world.find(&key).is_some(),
        "the trial left no trace"
    );
}

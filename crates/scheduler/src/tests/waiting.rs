//! Who waits for what, and what wakes whom.

use serde_json::json;

use super::{Cluster, asks, pod_json};
use crate::core::{Act, Change};

#[test]
fn without_nodes_a_pod_waits_for_one() {
    let mut cluster = Cluster::new(0);
    assert_eq!(
        cluster.try_pod("p", json!({})),
        Err("no nodes available to schedule pods".into())
    );
    assert!(cluster.step().is_none());
    cluster.node("n1", json!({}));
    assert!(cluster.step().is_none(), "its back-off runs");
    cluster.pass(1);
    assert_eq!(cluster.outcome(), Ok("n1".into()));
}

#[test]
fn only_what_helps_wakes() {
    let mut cluster = Cluster::new(1);
    let full = cluster.placed("full", "n1", json!({"spec": asks("4")}));
    let small = cluster.placed("small", "n1", json!({}));
    assert!(cluster.try_pod("p", json!({"spec": asks("2")})).is_err());
    cluster.pass(20);
    cluster.change(Change::PodGone(small));
    cluster.node("n1", json!({"metadata": {"annotations": {"a": "b"}}}));
    cluster.node("n2", json!({"spec": {"unschedulable": true}}));
    assert!(cluster.step().is_none(), "none of these helps");
    cluster.change(Change::PodGone(full));
    assert_eq!(cluster.outcome(), Ok("n1".into()));
}

#[test]
fn back_off_grows_to_ten_seconds() {
    let mut cluster = Cluster::new(1);
    assert!(cluster.try_pod("p", json!({"spec": asks("8")})).is_err());
    for seconds in [1, 2, 4, 8, 10, 10] {
        let mut pod = pod_json("p", json!({"spec": asks("8")}));
        pod["metadata"]["labels"] =
            json!({"try": seconds.to_string(), "at": format!("{:?}", cluster.now)});
        cluster.put(pod);
        assert!(cluster.step().is_none());
        cluster.now += std::time::Duration::from_millis(seconds * 1000 - 1);
        assert!(cluster.step().is_none(), "not before {seconds} s");
        cluster.now += std::time::Duration::from_millis(1);
        assert!(cluster.outcome().is_err(), "after {seconds} s");
    }
}

#[test]
fn gates_hold_a_pod_until_the_last_is_gone() {
    let mut cluster = Cluster::new(1);
    let gated = |gates: &[&str]| {
        let gates: Vec<_> = gates.iter().map(|name| json!({"name": name})).collect();
        pod_json("p", json!({"spec": {"schedulingGates": gates}}))
    };
    cluster.put(gated(&["a", "b"]));
    assert!(cluster.step().is_none());
    cluster.put(gated(&["b"]));
    assert!(cluster.step().is_none());
    cluster.put(gated(&[]));
    assert_eq!(cluster.outcome(), Ok("n1".into()));
}

#[test]
fn the_important_go_first_then_the_early() {
    let mut cluster = Cluster::new(1);
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 9)] {
        cluster.put(pod_json(name, json!({"spec": {"priority": priority}})));
    }
    let mut order = Vec::new();
    while let Some(Act::Bind { pod, .. }) = cluster.step() {
        order.push(pod.key.name.clone());
    }
    assert_eq!(order, ["d", "b", "a", "c"]);
}

#[test]
fn pods_of_other_schedulers_are_left_alone() {
    let mut cluster = Cluster::new(1);
    cluster.put(pod_json("p", json!({"spec": {"schedulerName": "mine"}})));
    assert!(cluster.step().is_none());
}

#[test]
fn a_binding_that_is_refused_is_undone_and_tried_again() {
    let mut cluster = Cluster::new(1);
    assert!(cluster.try_pod("p", json!({"spec": asks("4")})).is_ok());
    let key = wharf_client::Key::new("default", "p");
    cluster.change(Change::NotBound(key.clone(), "another".into()));
    assert!(
        cluster.core.world.find(&key).is_some(),
        "another pod of that name"
    );
    cluster.change(Change::NotBound(key.clone(), "uid-p".into()));
    assert_eq!(cluster.core.world.rooms[0].used.cpu_millis, 0);
    assert!(cluster.step().is_none(), "its back-off runs");
    cluster.pass(1);
    assert_eq!(cluster.outcome(), Ok("n1".into()));
    let bound = cluster.placed("p", "n1", json!({"spec": asks("4")}));
    cluster.change(Change::NotBound(key.clone(), "uid-p".into()));
    assert!(
        cluster.core.world.find(&key).is_some(),
        "the server's word goes before"
    );
    cluster.change(Change::PodGone(bound));
    assert_eq!(cluster.core.world.rooms[0].used.pods, 0);
}

#[test]
fn the_affine_wait_for_their_kind() {
    let mut cluster = Cluster::new(2);
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}});
    assert!(cluster.try_pod("p", near).is_err());
    cluster.pass(20);
    cluster.placed(
        "other",
        "n1",
        json!({"metadata": {"labels": {"app": "web"}}}),
    );
    assert!(cluster.step().is_none());
    cluster.placed("db", "n2", json!({"metadata": {"labels": {"app": "db"}}}));
    assert_eq!(cluster.outcome(), Ok("n2".into()));
}

#[test]
fn a_node_that_goes_and_comes_keeps_its_pods_counted() {
    let mut cluster = Cluster::new(1);
    cluster.placed("p", "n1", json!({"spec": asks("3")}));
    let node = json!({"metadata": {"name": "n1"}});
    cluster.change(Change::NodeGone(std::sync::Arc::new(
        serde_json::from_value(node).unwrap(),
    )));
    assert!(cluster.try_pod("q", json!({"spec": asks("2")})).is_err());
    cluster.node("n1", json!({}));
    cluster.pass(1);
    assert!(cluster.outcome().is_err(), "there is no room for it");
    assert_eq!(
        cluster.try_pod("r", json!({"spec": asks("1")})),
        Ok("n1".into())
    );
}

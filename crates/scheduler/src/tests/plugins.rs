//! Each constraint: which node, and the words of the refusal.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cluster, asks, pod_json};
use crate::core::{Act, Change};

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NO_HELP: &str = "Preemption is not helpful for scheduling";

fn refused(total: usize, why: &str, preemption: &str) -> Result<String, String> {
    Err(format!(
        "0/{total} nodes are available: {why}. preemption: 0/{total} nodes are available: {preemption}."
    ))
}

#[test]
fn requests_must_fit_and_the_words_say_what_is_short() {
    let mut cluster = Cluster::new(2);
    let big = json!({"containers": [{"name": "c", "resources": {"requests":
        {"cpu": "5", "memory": "9Gi", "example.com/gpu": "1", "ephemeral-storage": "11Gi"}}}]});
    assert_eq!(
        cluster.try_pod("big", json!({"spec": big})),
        refused(
            2,
            "2 Insufficient cpu, 2 Insufficient ephemeral-storage, 2 Insufficient example.com/gpu, 2 Insufficient memory",
            &format!("2 {NO_HELP}")
        )
    );
    cluster.placed("there", "n1", json!({"spec": asks("3")}));
    assert_eq!(
        cluster.try_pod("one", json!({"spec": asks("2")})),
        Ok("n2".into())
    );
    assert_eq!(
        cluster.try_pod("two", json!({"spec": asks("3")})),
        refused(2, "2 Insufficient cpu", &format!("2 {NO_VICTIMS}"))
    );
}

#[test]
fn a_node_holds_so_many_pods() {
    let mut cluster = Cluster::new(1);
    for at in 0..10 {
        assert!(cluster.try_pod(&format!("p{at}"), json!({})).is_ok());
    }
    assert_eq!(
        cluster.try_pod("late", json!({})),
        refused(1, "1 Too many pods", &format!("1 {NO_VICTIMS}"))
    );
}

#[test]
fn taints_cordons_and_tolerations() {
    let mut cluster = Cluster::new(3);
    let taint =
        json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
    cluster.node("n1", taint);
    cluster.node("n2", json!({"spec": {"unschedulable": true}}));
    cluster.placed("full", "n3", json!({"spec": asks("4")}));
    assert_eq!(
        cluster.try_pod("plain", json!({"spec": asks("1")})),
        refused(
            3,
            "1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable",
            &format!("1 {NO_VICTIMS}, 2 {NO_HELP}")
        )
    );
    let tolerates = |toleration: Value| {
        let mut spec = asks("1");
        spec["tolerations"] = json!([toleration]);
        json!({"spec": spec})
    };
    let equal = json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"});
    assert_eq!(cluster.try_pod("a", tolerates(equal)), Ok("n1".into()));
    let other = json!({"key": "gpu", "value": "no"});
    assert!(cluster.try_pod("b", tolerates(other)).is_err());
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
    assert_eq!(cluster.try_pod("c", tolerates(cordon)), Ok("n2".into()));
}

#[test]
fn a_soft_taint_is_avoided_but_not_forbidden() {
    let mut cluster = Cluster::new(2);
    let taint = json!({"spec": {"taints": [{"key": "old", "effect": "PreferNoSchedule"}]}});
    cluster.node("n1", taint);
    for at in 0..3 {
        assert_eq!(
            cluster.try_pod(&format!("p{at}"), json!({})),
            Ok("n2".into())
        );
    }
    cluster.node("n2", json!({"spec": {"unschedulable": true}}));
    assert_eq!(cluster.try_pod("last", json!({})), Ok("n1".into()));
}

fn requirement(key: &str, operator: &str, values: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
}

#[test]
fn node_selectors_and_affinity() {
    let mut cluster = Cluster::new(3);
    cluster.node(
        "n2",
        json!({"metadata": {"labels": {"disk": "ssd", "cores": "16"}}}),
    );
    let cases = [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (requirement("disk", "In", json!(["ssd", "nvme"])), true),
        (requirement("disk", "Exists", json!([])), true),
        (requirement("cores", "Gt", json!(["8"])), true),
        (requirement("cores", "Lt", json!(["8"])), false),
        (requirement("cores", "In", json!(["8"])), false),
    ];
    for (at, (spec, is_there)) in cases.into_iter().enumerate() {
        let found = cluster.try_pod(&format!("p{at}"), json!({"spec": spec}));
        match is_there {
            true => assert_eq!(found, Ok("n2".into()), "{spec}"),
            false => assert_eq!(
                found,
                refused(
                    3,
                    "3 node(s) didn't match Pod's node affinity/selector",
                    &format!("3 {NO_HELP}")
                )
            ),
        }
    }
    let absent = requirement("disk", "DoesNotExist", json!([]));
    assert_ne!(
        cluster.try_pod("q", json!({"spec": absent})),
        Ok("n2".into())
    );
}

#[test]
fn a_pod_of_one_node_by_its_field() {
    let mut cluster = Cluster::new(3);
    let field = |name: &str| {
        json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}})
    };
    assert_eq!(cluster.try_pod("a", field("n3")), Ok("n3".into()));
    assert_eq!(
        cluster.try_pod("b", field("n3")),
        refused(
            3,
            "1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]",
            &format!("1 {NO_VICTIMS}, 2 {NO_HELP}")
        )
    );
}

#[test]
fn preferences_decide_among_nodes() {
    let mut cluster = Cluster::new(3);
    let prefers = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 10, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}}]}}}});
    for at in 0..3 {
        assert_eq!(
            cluster.try_pod(&format!("p{at}"), prefers.clone()),
            Ok("n2".into())
        );
    }
    cluster.node(
        "n1",
        json!({"status": {"images": [{"names": ["app:latest"], "sizeBytes": 3_000_000_000_u64}]}}),
    );
    let image = json!({"spec": {"containers": [{"name": "c", "image": "app"}]}});
    assert_eq!(
        cluster.try_pod("q", image),
        Ok("n1".into()),
        "where the image is"
    );
}

#[test]
fn the_emptier_node_is_better() {
    let mut cluster = Cluster::new(2);
    cluster.placed("there", "n1", json!({"spec": asks("2")}));
    assert_eq!(
        cluster.try_pod("p", json!({"spec": asks("1")})),
        Ok("n2".into())
    );
}

#[test]
fn host_ports_are_held_once() {
    let mut cluster = Cluster::new(1);
    let port = |address: &str| {
        json!({"spec": {"containers": [{"name": "c", "ports":
            [{"containerPort": 80, "hostPort": 80, "hostIP": address}]}]}})
    };
    assert!(cluster.try_pod("a", port("10.0.0.1")).is_ok());
    assert!(cluster.try_pod("b", port("10.0.0.2")).is_ok());
    assert_eq!(
        cluster.try_pod("c", port("")),
        refused(
            1,
            "1 node(s) didn't have free ports for the requested pod ports",
            &format!("1 {NO_VICTIMS}")
        )
    );
}

fn apart(field: &str, key: &str, app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"affinity": {field:
        {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}}})
}

#[test]
fn anti_affinity_holds_both_ways() {
    let mut cluster = Cluster::new(2);
    let web = apart("podAntiAffinity", "kubernetes.io/hostname", "web");
    let one = cluster.try_pod("a", web.clone()).unwrap();
    let two = cluster.try_pod("b", web.clone()).unwrap();
    assert_ne!(one, two);
    assert_eq!(
        cluster.try_pod("c", web),
        refused(
            2,
            "2 node(s) didn't match pod anti-affinity rules",
            &format!("2 {NO_VICTIMS}")
        )
    );
    assert_eq!(
        cluster.try_pod("d", json!({"metadata": {"labels": {"app": "web"}}})),
        refused(
            2,
            "2 node(s) didn't satisfy existing pods anti-affinity rules",
            &format!("2 {NO_VICTIMS}")
        )
    );
    let elsewhere = json!({"metadata": {"labels": {"app": "web"}, "namespace": "other"}});
    assert!(cluster.try_pod("e", elsewhere).is_ok(), "another namespace");
}

#[test]
fn affinity_follows_and_the_first_of_a_kind_goes_anywhere() {
    let mut cluster = Cluster::new(4);
    let zone = "topology.kubernetes.io/zone";
    let near = apart("podAffinity", zone, "db");
    let first = cluster.try_pod("a", near.clone()).unwrap();
    let zone_of = |name: &str| name[1..].parse::<u32>().unwrap() % 2;
    for at in 0..5 {
        let next = cluster.try_pod(&format!("b{at}"), near.clone()).unwrap();
        assert_eq!(zone_of(&next), zone_of(&first));
    }
    let mut stranger = apart("podAffinity", zone, "cache");
    stranger["metadata"]["labels"]["app"] = json!("other");
    assert_eq!(
        cluster.try_pod("s", stranger),
        refused(
            4,
            "4 node(s) didn't match pod affinity rules",
            &format!("4 {NO_HELP}")
        )
    );
}

#[test]
fn namespaces_are_selected_by_their_labels() {
    let mut cluster = Cluster::new(2);
    let namespace = json!({"metadata": {"name": "other", "labels": {"team": "x"}}});
    let namespace = serde_json::from_value(namespace).unwrap();
    cluster.change(Change::Namespace(Arc::new(namespace), true));
    let pod = json!({"metadata": {"namespace": "other", "labels": {"app": "db"}}});
    cluster.placed("db", "n1", pod);
    let far = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}},
          "namespaceSelector": {"matchLabels": {"team": "x"}}}]}}}});
    for at in 0..4 {
        assert_eq!(
            cluster.try_pod(&format!("p{at}"), far.clone()),
            Ok("n2".into())
        );
    }
}

fn spread(over: Value) -> Value {
    let mut one = json!({"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}});
    super::merge(&mut one, over);
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [one]}})
}

#[test]
fn pods_spread_over_zones() {
    let mut cluster = Cluster::new(3);
    let zones: Vec<u32> = (0..6)
        .map(|at| {
            cluster
                .try_pod(&format!("p{at}"), spread(json!({})))
                .unwrap()
        })
        .map(|node| node[1..].parse::<u32>().unwrap() % 2)
        .collect();
    for pair in zones.chunks(2) {
        assert_ne!(pair[0], pair[1], "{zones:?}");
    }
    cluster.node("n2", json!({"spec": {"unschedulable": true}}));
    assert!(
        cluster.try_pod("q", spread(json!({}))).is_ok(),
        "even: any zone"
    );
    assert_eq!(
        cluster.try_pod("r", spread(json!({}))),
        refused(
            3,
            "1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints",
            &format!("2 {NO_VICTIMS}, 1 {NO_HELP}").replace("2 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling", "1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod")
        )
    );
    let honours = spread(json!({"nodeTaintsPolicy": "Honor"}));
    assert!(
        cluster.try_pod("s", honours).is_err(),
        "a cordon is no taint of the node"
    );
}

#[test]
fn too_few_domains_count_as_an_empty_one() {
    let mut cluster = Cluster::new(2);
    let three = spread(json!({"minDomains": 3}));
    assert!(cluster.try_pod("a", three.clone()).is_ok());
    assert!(cluster.try_pod("b", three.clone()).is_ok());
    assert!(cluster.try_pod("c", three).is_err());
    cluster.node(
        "n3",
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "c"}}}),
    );
    cluster.pass(2);
    assert_eq!(cluster.outcome(), Ok("n3".into()), "the new zone wakes it");
}

#[test]
fn a_node_without_the_label_takes_none_of_those_that_spread() {
    let mut cluster = Cluster::new(1);
    let node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"pods": "10"}}});
    cluster.change(Change::Node(Arc::new(
        serde_json::from_value(node).unwrap(),
    )));
    assert_eq!(
        cluster.try_pod("p", spread(json!({}))),
        refused(
            1,
            "1 node(s) didn't match pod topology spread constraints (missing required label)",
            &format!("1 {NO_HELP}")
        )
    );
}

#[test]
fn a_revision_spreads_for_itself() {
    let mut cluster = Cluster::new(2);
    let of = |hash: &str| {
        let mut pod = spread(json!({"matchLabelKeys": ["hash"]}));
        pod["metadata"]["labels"]["hash"] = hash.into();
        pod
    };
    cluster.placed("o1", "n1", of("old"));
    cluster.placed("o2", "n1", of("old"));
    let one = cluster.try_pod("a", of("new")).unwrap();
    let two = cluster.try_pod("b", of("new")).unwrap();
    assert_ne!(one, two, "the old ones don't count");
}

#[test]
fn pods_of_a_service_spread_unasked() {
    let mut cluster = Cluster::new(4);
    let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}});
    let service = serde_json::from_value(service).unwrap();
    cluster.change(Change::Service(Arc::new(service), true));
    let web = json!({"metadata": {"labels": {"app": "web"}}});
    let mut nodes: Vec<String> = (0..4)
        .map(|at| cluster.try_pod(&format!("p{at}"), web.clone()).unwrap())
        .collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 4);
}

#[test]
fn volumes_hold_their_pods_where_they_are() {
    let mut cluster = Cluster::new(2);
    let pod = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let no = |why: &str| {
        Err(format!(
            "0/2 nodes are available: {why}. preemption: 0/2 nodes are available: 2 {NO_HELP}."
        ))
    };
    assert_eq!(
        cluster.try_pod("a", pod.clone()),
        no("persistentvolumeclaim \"data\" not found")
    );
    let claim = |bound: bool| {
        let mut claim = json!({"metadata": {"name": "data", "namespace": "default"}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        if bound {
            claim["spec"]["volumeName"] = json!("pv");
            claim["status"] = json!({"phase": "Bound"});
        }
        Change::Claim(Arc::new(serde_json::from_value(claim).unwrap()), true)
    };
    cluster.change(claim(false));
    cluster.pass(2);
    assert_eq!(
        cluster.outcome(),
        no("pod has unbound immediate PersistentVolumeClaims")
    );
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}}});
    cluster.change(Change::Volume(
        Arc::new(serde_json::from_value(volume).unwrap()),
        true,
    ));
    cluster.change(claim(true));
    cluster.pass(10);
    assert_eq!(cluster.outcome(), Ok("n2".into()));
    cluster.node("n2", json!({"spec": {"unschedulable": true}}));
    assert_eq!(
        cluster.try_pod("b", pod),
        refused(
            2,
            "1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were unschedulable",
            &format!("2 {NO_HELP}")
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever comes and goes: no node is given more than it has, and what is used is the sum of what is there.
    #[test]
    fn nodes_are_never_overcommitted(steps in proptest::collection::vec((0_u8..4, 0_u8..40, 1_u32..4000), 1..120)) {
        let mut cluster = Cluster::new(3);
        for (what, name, cpu) in steps {
            let name = format!("p{name}");
            let pod = pod_json(&name, json!({"spec": asks(&format!("{cpu}m"))}));
            match what {
                0 => {
                    let key = wharf_client::Key::new("default", &name);
                    if let Some(old) = cluster.core.world.find(&key).map(|(_, placed)| placed.pod.object.clone()) {
                        cluster.change(Change::PodGone(old));
                    }
                }
                1 => cluster.change(Change::NotBound(wharf_client::Key::new("default", &name), format!("uid-{name}"))),
                _ => drop(cluster.put(pod)),
            }
            cluster.pass(11);
            while let Some(act) = cluster.step() {
                let is_known = matches!(act, Act::Bind { .. } | Act::Refuse { .. });
                prop_assert!(is_known);
            }
            for (at, room) in cluster.core.world.rooms.iter().enumerate() {
                prop_assert!(room.used.cpu_millis <= room.has.cpu_millis);
                prop_assert!(room.used.pods <= room.has.pods);
                let pods = &cluster.core.world.nodes[at].pods;
                let sum: i64 = pods.iter().map(|id| cluster.core.world.placed(*id).unwrap().pod.requests.amounts.cpu_millis).sum();
                prop_assert_eq!(sum, room.used.cpu_millis);
            }
        }
    }
}

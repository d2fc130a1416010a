//! Objects before and after the server's decisions.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::resources::find;

#[test]
fn a_new_deployment_starts_at_generation_one_without_status() {
    let resource = find("apps", "v1", "deployments").unwrap();
    let mut object = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "5", "generation": 7,
        "deletionTimestamp": "x"}, "spec": {}, "status": {"replicas": 3}});
    prepare_create(resource, &mut object);
    assert_eq!(
        object,
        json!({"metadata": {"name": "a", "uid": "u", "generation": 1}, "spec": {}, "status": {}})
    );
}

#[test]
fn an_update_counts_only_changes_of_what_is_wished_for() {
    let resource = find("apps", "v1", "deployments").unwrap();
    let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 1}, "spec": {"replicas": 1},
        "status": {"replicas": 1}});
    let check = |mut new: Value, generation: i64| {
        prepare_update(resource, &mut new, &old);
        assert_eq!(new["metadata"]["generation"], generation);
        assert_eq!(new["status"], old["status"]);
        assert_eq!(new["metadata"]["uid"], "u");
    };
    check(
        json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}, "status": {"replicas": 9}}),
        1,
    );
    check(
        json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 1}}),
        1,
    );
    check(
        json!({"metadata": {"name": "a"}, "spec": {"replicas": 2}}),
        2,
    );
    check(
        json!({"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": {"replicas": 1}}),
        2,
    );
}

#[test]
fn a_status_update_changes_nothing_but_the_status() {
    let resource = find("apps", "v1", "deployments").unwrap();
    let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 4}, "spec": {"replicas": 1}, "status": {}});
    let mut new = json!({"metadata": {"name": "a", "generation": 9, "annotations": {"a": "b"}}, "spec": {"replicas": 5},
        "status": {"replicas": 1}});
    prepare_status_update(resource, &mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"name": "a", "generation": 4, "annotations": {"a": "b"}, "uid": "u"}, "spec": {"replicas": 1},
            "status": {"replicas": 1}})
    );
}

#[test]
fn pods_have_a_class() {
    let check = |containers: Value, expect: &str| {
        assert_eq!(
            quality_of_service(&json!({"spec": {"containers": containers}})),
            expect
        );
    };
    check(json!([{"name": "a"}]), "BestEffort");
    check(
        json!([{"resources": {"requests": {"cpu": "1"}}}]),
        "Burstable",
    );
    let whole = json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}});
    check(json!([whole]), "Guaranteed");
    check(json!([whole, {"name": "b"}]), "Burstable");
}

#[test]
fn a_job_selects_by_its_uid() {
    let resource = find("batch", "v1", "jobs").unwrap();
    let mut job =
        json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
    prepare_create(resource, &mut job);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({"job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": "u", "batch.kubernetes.io/controller-uid": "u"})
    );
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let resource = find("", "v1", "services").unwrap();
    let old = json!({"metadata": {}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ipFamilies": ["IPv4"], "ports": [{"name": "a", "port": 80, "nodePort": 30000}]}, "status": {"loadBalancer": {}}});
    let mut new =
        json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}]}});
    prepare_update(resource, &mut new, &old);
    assert_eq!(new["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
    let mut plain = json!({"metadata": {}, "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"name": "a", "port": 80, "nodePort": 30000}]}});
    prepare_update(resource, &mut plain, &old);
    assert_eq!(plain["spec"]["ports"], json!([{"name": "a", "port": 80}]));
    let mut name = json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}});
    prepare_update(resource, &mut name, &old);
    assert_eq!(
        name["spec"],
        json!({"type": "ExternalName", "externalName": "x"})
    );
}

#[test]
fn the_status_of_a_custom_object_is_apart() {
    let mut resource = find("", "v1", "configmaps").unwrap().clone();
    resource.custom = true;
    resource.subresources.push(crate::resources::Subresource {
        name: "status".into(),
        group: String::new(),
        version: "v1".into(),
        kind: "X".into(),
        verbs: Vec::new(),
    });
    let old = json!({"metadata": {"generation": 1}, "spec": {"a": 1}, "status": {"b": 1}});
    let mut new = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"a": 2}, "status": {"b": 2}});
    prepare_status_update(&resource, &mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"generation": 1}, "spec": {"a": 1}, "status": {"b": 2}})
    );
    let mut new = json!({"metadata": {}, "spec": {"a": 2}, "status": {"b": 2}});
    prepare_update(&resource, &mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"generation": 2}, "spec": {"a": 2}, "status": {"b": 1}})
    );
}

#[test]
fn label_keys_become_conditions() {
    let mut pod = json!({"metadata": {"labels": {"h": "1"}}, "spec": {"containers": [], "topologySpreadConstraints": [
        {"labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["h", "none"]}, {"matchLabelKeys": ["h"]}]}});
    prepare_create(find("", "v1", "pods").unwrap(), &mut pod);
    assert_eq!(
        pod["spec"]["topologySpreadConstraints"],
        json!([{"labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "h", "operator": "In", "values": ["1"]}]},
            "matchLabelKeys": ["h", "none"]}, {"matchLabelKeys": ["h"]}])
    );
}

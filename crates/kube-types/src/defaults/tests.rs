//! Objects before and after.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[track_caller]
fn check(group: &str, plural: &str, mut object: Value, expect: Value) {
    let resource = crate::resources::builtin()
        .iter()
        .find(|r| r.is(group, plural))
        .unwrap();
    apply(resource, &mut object);
    assert_eq!(object, expect);
    let once = object.clone();
    apply(resource, &mut object);
    assert_eq!(object, once, "defaults are the same when applied again");
}

#[test]
fn pods_get_their_defaults() {
    check(
        "",
        "pods",
        json!({"spec": {"serviceAccountName": "sa", "containers": [{"name": "a", "image": "x:1",
            "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]}}),
        json!({"spec": {"serviceAccountName": "sa", "containers": [{"name": "a", "image": "x:1",
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            "enableServiceLinks": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "serviceAccount": "sa"}}),
    );
}

#[test]
fn images_decide_when_they_are_pulled() {
    for (image, expect) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("r:5000/a", "Always"),
        ("r:5000/a:2", "IfNotPresent"),
        ("a@sha256:0", "IfNotPresent"),
        ("a:latest@sha256:0", "Always"),
        ("", "IfNotPresent"),
    ] {
        let mut pod = json!({"spec": {"containers": [{"image": image}]}});
        apply(crate::resources::find("", "v1", "pods").unwrap(), &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["imagePullPolicy"], expect,
            "{image}"
        );
    }
}

#[test]
fn workloads_get_their_defaults() {
    check(
        "apps",
        "deployments",
        json!({"spec": {"template": {}}}),
        json!({"spec": {"template": {"metadata": {}}, "replicas": 1, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}, "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600}}),
    );
    check(
        "batch",
        "jobs",
        json!({"spec": {"parallelism": 2}}),
        json!({"spec": {"parallelism": 2, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}}),
    );
}

#[test]
fn services_get_their_defaults() {
    check(
        "",
        "services",
        json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "x"}]}}),
        json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 1, "targetPort": "x", "protocol": "TCP"}], "sessionAffinity": "None", "type": "ClusterIP",
            "internalTrafficPolicy": "Cluster"}}),
    );
}

#[test]
fn namespaces_carry_their_name() {
    check(
        "",
        "namespaces",
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "status": {"phase": "Active"}, "spec": {}}),
    );
}

#[test]
fn texts_of_secrets_become_bytes() {
    check(
        "",
        "secrets",
        json!({"metadata": {"name": "s"}, "stringData": {"a": "hello", "b": ""}, "data": {"a": "b2xk", "c": "Yw=="}}),
        json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "aGVsbG8=", "b": "", "c": "Yw=="}}),
    );
}

//! Rows as kubectl shows them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::resources::{builtin, find};

const NOW: &str = "2026-11-23T12:00:00Z";

#[track_caller]
fn check(group: &str, version: &str, plural: &str, object: Value, expect: &[&str]) {
    let resource = find(group, version, plural).unwrap();
    let cells = row(resource, &object, Timestamp::parse(NOW).unwrap());
    let cells: Vec<String> = cells
        .iter()
        .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
        .collect();
    assert_eq!(cells, expect);
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    let now = Timestamp::parse(NOW).unwrap();
    for resource in builtin() {
        let cells = row(resource, &json!({"metadata": {"name": "a"}}), now);
        assert_eq!(
            cells.len(),
            columns(resource).len(),
            "{}",
            resource.qualified()
        );
        let name_at = columns(resource)
            .iter()
            .position(|c| c.format == "name")
            .unwrap();
        assert_eq!(cells[name_at], "a", "{}", resource.qualified());
    }
}

#[test]
fn pods_are_told_in_a_word() {
    let pod = |status: Value, expect: [&str; 3]| {
        let object = json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}, "status": status});
        check(
            "",
            "v1",
            "pods",
            object,
            &[
                "p", expect[0], expect[1], expect[2], "60s", "<none>", "<none>", "<none>", "<none>",
            ],
        );
    };
    pod(json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
    pod(
        json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "restartCount": 2,
            "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-11-23T11:59:30Z"}}}]}),
        ["1/1", "Running", "2 (30s ago)"],
    );
    pod(
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}),
        ["0/1", "Init:0/1", "0"],
    );
    pod(
        json!({"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
        ["0/1", "ImagePullBackOff", "0"],
    );
    pod(
        json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
        ["0/1", "ExitCode:3", "0"],
    );
    pod(
        json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
        ["0/1", "Completed", "0"],
    );
}

#[test]
fn common_kinds_have_their_rows() {
    check(
        "apps",
        "v1",
        "deployments",
        json!({"metadata": {"name": "d", "creationTimestamp": NOW}, "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"}},
            "template": {"spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}]}}},
            "status": {"readyReplicas": 1, "updatedReplicas": 2}}),
        &["d", "1/3", "2", "0", "0s", "x,y", "i,j", "a=1,b=2"],
    );
    check(
        "",
        "v1",
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}}),
        &[
            "s",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30080/TCP,53/UDP",
            "<unknown>",
            "a=b",
        ],
    );
    check(
        "",
        "v1",
        "nodes",
        json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"},
                "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}}),
        &[
            "n",
            "Ready,SchedulingDisabled",
            "control-plane",
            "<unknown>",
            "v1",
            "1.2.3.4",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ],
    );
    check(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        json!({"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}}),
        &[
            "h",
            "Deployment/d",
            "cpu: <unknown>/80%",
            "<unset>",
            "5",
            "0",
            "<unknown>",
        ],
    );
}

#[test]
fn custom_columns_follow_their_paths() {
    let object = json!({"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}],
        "list": [1, 2, 3]}, "metadata": {"labels": {"a.b/c": "x"}}});
    let found = |path: &str| {
        json_path(&object, path)
            .iter()
            .map(|v| v.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        found(r#".status.conditions[?(@.type=="Ready")].status"#),
        r#""True""#
    );
    assert_eq!(
        found(r#".status.conditions[?(@.type=='A')].status"#),
        r#""False""#
    );
    assert_eq!(found(".status.list[0]"), "1");
    assert_eq!(found(".status.list[-1]"), "3");
    assert_eq!(found(".status.list[1:]"), "2 3");
    assert_eq!(found(".status.list[*]"), "1 2 3");
    assert_eq!(found(r".metadata.labels.a\.b/c"), r#""x""#);
    assert_eq!(found(r#".metadata.labels['a.b/c']"#), r#""x""#);
    assert_eq!(found("..type"), r#""A" "Ready""#);
    assert_eq!(found(".none.here"), "");
    assert_eq!(found(".status.list[nonsense"), "");
    let mut resource = find("", "v1", "configmaps").unwrap().clone();
    resource.custom = true;
    resource.columns = vec![
        Column {
            name: "R".into(),
            kind: "string".into(),
            json_path: ".status.conditions[1].status".into(),
            ..Column::default()
        },
        Column {
            name: "N".into(),
            kind: "integer".into(),
            json_path: ".status.list[0]".into(),
            ..Column::default()
        },
        Column {
            name: "X".into(),
            kind: "integer".into(),
            json_path: ".status.none".into(),
            ..Column::default()
        },
    ];
    assert_eq!(
        row(&resource, &object, Timestamp::parse(NOW).unwrap()),
        [json!(""), json!("True"), json!(1), Value::Null]
    );
}

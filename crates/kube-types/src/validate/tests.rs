//! Objects and what is said of them.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::resources::{builtin, find};

fn resource(group: &str, plural: &str) -> &'static Resource {
    builtin().iter().find(|r| r.is(group, plural)).unwrap()
}

/// As the server does: read with defaults, prepared, then checked.
fn faults(group: &str, plural: &str, mut object: Value) -> Vec<String> {
    let resource = resource(group, plural);
    if object["metadata"].is_null() {
        object["metadata"] = json!({"name": "a"});
        if resource.namespaced {
            object["metadata"]["namespace"] = json!("n");
        }
    }
    object["metadata"]["uid"] = json!("u");
    crate::schema::read(resource, &mut object).unwrap();
    crate::strategy::prepare_create(resource, &mut object);
    create(resource, &object)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn check(group: &str, plural: &str, object: Value, expect: &[&str]) {
    assert_eq!(faults(group, plural, object), expect);
}

fn pod_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    change(&mut spec);
    json!({"spec": spec})
}

#[test]
fn names_and_labels_are_checked() {
    let meta =
        |meta: Value, expect: &[&str]| check("", "configmaps", json!({"metadata": meta}), expect);
    meta(json!({"name": "a.b-c", "namespace": "n"}), &[]);
    meta(
        json!({"namespace": "n"}),
        &["metadata.name: Required value: name or generateName is required"],
    );
    meta(
        json!({"name": "A", "namespace": "n"}),
        &[
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    meta(
        json!({"name": "a", "namespace": "n", "labels": {"a": "-"}}),
        &[
            "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    meta(
        json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
        &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
    );
    check(
        "",
        "namespaces",
        json!({"metadata": {"name": "a", "namespace": "n"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
}

#[test]
fn a_good_pod_has_no_faults() {
    check(
        "",
        "pods",
        pod_with(|spec| {
            *spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 80}],
            "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}],
            "envFrom": [{"configMapRef": {"name": "x"}}], "resources": {"limits": {"cpu": "1", "example.com/gpu": "1"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"exec": {"command": ["x"]}},
            "securityContext": {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}}],
            "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}],
            "tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"},
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "h", "labelSelector": {}}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]});
        }),
        &[],
    );
}

#[test]
fn containers_are_checked() {
    let pod = |spec: Value, expect: &[&str]| check("", "pods", json!({"spec": spec}), expect);
    pod(
        json!({"containers": []}),
        &["spec.containers: Required value"],
    );
    pod(
        json!({"containers": [{"image": "i"}]}),
        &["spec.containers[0].name: Required value"],
    );
    pod(
        json!({"containers": [{"name": "c"}]}),
        &["spec.containers[0].image: Required value"],
    );
    pod(
        json!({"containers": [{"name": "C", "image": "i"}]}),
        &[
            "spec.containers[0].name: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
        &["spec.containers[1].name: Duplicate value: \"c\""],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Sometimes"}]}),
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
}

#[test]
fn parts_of_containers_are_checked() {
    let pod = |spec: Value, expect: &[&str]| check("", "pods", json!({"spec": spec}), expect);
    pod(
        json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 70000}, {"containerPort": 1, "protocol": "X"}]}]}),
        &[
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": ""}]}]}),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].volumeMounts[0].mountPath: Required value",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "livenessProbe": {}}]}),
        &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]}),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"gpu": "1", "memory": "-1"}}}]}),
        &[
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            "spec.containers[0].resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}),
        &[
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ],
    );
    pod(
        json!({"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": [{"name": "e", "image": "i"}]}),
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
}

#[test]
fn the_rest_of_a_pod_is_checked() {
    let pod = |field: &str, value: Value, expect: &[&str]| {
        check("", "pods", pod_with(|spec| spec[field] = value), expect);
    };
    pod(
        "restartPolicy",
        json!("Often"),
        &[
            "spec.restartPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    pod(
        "volumes",
        json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    );
    pod(
        "volumes",
        json!([{"name": "v", "hostPath": {"path": "/a/../b"}}]),
        &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
    );
    pod(
        "tolerations",
        json!([{"effect": "NoSchedule"}]),
        &[
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ],
    );
    pod(
        "activeDeadlineSeconds",
        json!(0),
        &[
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ],
    );
    pod(
        "dnsPolicy",
        json!("None"),
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    pod("hostUsers", json!(true), &[]);
    pod(
        "initContainers",
        json!([{"name": "c", "image": "i", "lifecycle": {}}]),
        &[
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    pod(
        "securityContext",
        json!({"runAsUser": -1}),
        &[
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
}

#[track_caller]
fn check_update(
    group: &str,
    plural: &str,
    old: Value,
    change: impl FnOnce(&mut Value),
    expect: &[&str],
) {
    let resource = resource(group, plural);
    let mut old = old;
    old["metadata"] = json!({"name": "a", "uid": "u", "resourceVersion": "1"});
    if resource.namespaced {
        old["metadata"]["namespace"] = json!("n");
    }
    crate::schema::read(resource, &mut old).unwrap();
    let mut new = old.clone();
    change(&mut new);
    let found: Vec<String> = update(resource, &new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn what_may_not_change_is_told() {
    let pod = || pod_with(|_| {});
    check_update(
        "",
        "pods",
        pod(),
        |p| p["spec"]["containers"][0]["image"] = json!("j"),
        &[],
    );
    check_update(
        "",
        "pods",
        pod(),
        |p| p["metadata"]["uid"] = json!("v"),
        &["metadata.uid: Invalid value: \"v\": field is immutable"],
    );
    check_update(
        "",
        "pods",
        pod(),
        |p| p["metadata"]["resourceVersion"] = json!(""),
        &["metadata.resourceVersion: Invalid value: \"\": must be specified for an update"],
    );
    let resource = resource("", "pods");
    let mut old = pod();
    old["metadata"] = json!({"name": "a", "namespace": "n", "resourceVersion": "1"});
    crate::schema::read(resource, &mut old).unwrap();
    let mut new = old.clone();
    new["spec"]["hostNetwork"] = json!(true);
    let found = update(resource, &new, &old)[0].to_string();
    assert!(found.starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"), "{found}");
    let secret = || json!({"type": "Opaque", "data": {"a": "YQ=="}, "immutable": true});
    check_update(
        "",
        "secrets",
        secret(),
        |s| s["data"]["a"] = json!("Yg=="),
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    let deployment = || {
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    check_update(
        "apps",
        "deployments",
        deployment(),
        |d| d["spec"]["replicas"] = json!(3),
        &[],
    );
    check_update(
        "apps",
        "deployments",
        deployment(),
        |d| d["spec"]["selector"]["matchLabels"] = json!({"c": "d"}),
        &["spec.selector: Invalid value: {\"matchLabels\":{\"c\":\"d\"}}: field is immutable"],
    );
    check_update(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}}),
        |b| b["roleRef"]["name"] = json!("s"),
        &[
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
        ],
    );
}

#[test]
fn services_are_checked() {
    let service =
        |spec: Value, expect: &[&str]| check("", "services", json!({"spec": spec}), expect);
    service(json!({"ports": [{"port": 80}]}), &[]);
    service(json!({"type": "ExternalName", "externalName": "a.b"}), &[]);
    service(json!({}), &["spec.ports: Required value"]);
    service(
        json!({"ports": [{"port": 80}, {"port": 81}]}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
        ],
    );
    service(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    service(
        json!({"type": "X", "ports": [{"port": 80}]}),
        &[
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    service(
        json!({"clusterIP": "x", "ports": [{"port": 80}]}),
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    service(
        json!({"sessionAffinity": "Maybe", "ports": [{"port": 0}]}),
        &[
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.sessionAffinity: Unsupported value: \"Maybe\": supported values: \"ClientIP\", \"None\"",
        ],
    );
}

#[test]
fn workloads_are_checked() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    check(
        "apps",
        "deployments",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
        &[],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"template": template}}),
        &["spec.selector: Required value"],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"replicas": -1, "selector": {"matchLabels": {"a": "x"}}, "template": template}}),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        "apps",
        "statefulsets",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
        &[],
    );
    check(
        "apps",
        "daemonsets",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template,
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    check("batch", "jobs", json!({"spec": {"template": once}}), &[]);
    check(
        "batch",
        "jobs",
        json!({"spec": {"template": template}}),
        &[
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    check(
        "batch",
        "cronjobs",
        json!({"spec": {"schedule": "error", "jobTemplate": {"spec": {"template": once}}}}),
        &["spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]"],
    );
}

#[test]
fn other_kinds_are_checked() {
    check(
        "",
        "secrets",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ=="}}),
        &["data[tls.key]: Required value"],
    );
    check(
        "",
        "configmaps",
        json!({"data": {"a/b": "x"}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check(
        "rbac.authorization.k8s.io",
        "roles",
        json!({"rules": [{"resources": ["pods"], "verbs": ["get"]}]}),
        &["rules[0].apiGroups: Required value: resource rules must supply at least one api group"],
    );
    check(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]}),
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[0].namespace: Required value",
        ],
    );
}

#[test]
fn storage_and_network_are_checked() {
    check(
        "",
        "persistentvolumeclaims",
        json!({"spec": {}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": {}}),
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}),
        &["spec.ingress[0].from[0]: Required value: must specify a peer"],
    );
    check(
        "policy",
        "poddisruptionbudgets",
        json!({"spec": {"minAvailable": 1, "maxUnavailable": "10%"}}),
        &[
            "spec: Invalid value: {\"minAvailable\":1,\"maxUnavailable\":\"10%\"}: minAvailable and maxUnavailable cannot be both set",
        ],
    );
}

#[test]
fn policies_are_checked() {
    check(
        "autoscaling",
        "horizontalpodautoscalers",
        json!({"spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        &[
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    check(
        "scheduling.k8s.io",
        "priorityclasses",
        json!({"value": 2000000000}),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        "",
        "limitranges",
        json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
        &[
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
        ],
    );
    check(
        "",
        "resourcequotas",
        json!({"spec": {"hard": {"foo": "1"}}}),
        &["spec.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota"],
    );
}

#[test]
fn the_remaining_kinds_are_checked() {
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    check(
        "coordination.k8s.io",
        "leases",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
    check(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        json!({"webhooks": [{"name": "a.b.c", "clientConfig": {"url": "http://x"}}]}),
        &[
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].clientConfig.url: Invalid value: \"http://x\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ],
    );
}

#[test]
fn definitions_are_checked() {
    let with = |schema: Value, expect: &[&str]| {
        check(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            json!({"metadata": {"name": "ws.x.io"}, "spec": {"group": "x.io",
            "scope": "Cluster", "names": {"plural": "ws", "kind": "W"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}]}}),
            expect,
        );
    };
    with(
        json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "default": "x"}}}}}}),
        &[],
    );
    let path = "spec.versions[0].schema.openAPIV3Schema";
    with(
        json!({"type": "object", "properties": {"a": {}}}),
        &[&format!(
            "{path}.properties[a].type: Required value: must not be empty for specified object fields"
        )],
    );
    with(
        json!({"type": "object", "properties": {"a": {"type": "array"}}}),
        &[&format!(
            "{path}.properties[a].items: Required value: must be specified"
        )],
    );
    with(
        json!({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}),
        &[&format!(
            "{path}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural"
        )],
    );
    with(
        json!({"type": "string"}),
        &[&format!(
            "{path}.type: Invalid value: \"string\": must be object at the root"
        )],
    );
    with(
        json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
        &[&format!(
            "{path}.properties[a].default: Invalid value: \"x\": Invalid value: \"string\":  in body must be of type integer: \"string\""
        )],
    );
}

#[test]
fn statuses_are_checked() {
    let deployments = resource("apps", "deployments");
    let old = json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"}});
    let mut new = old.clone();
    new["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3});
    let found: Vec<String> = status_update(deployments, &new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
        ]
    );
}

#[test]
fn nothing_hostile_makes_a_check_fail() {
    // Every built-in kind, with a value of a wrong shape everywhere that its schema lets it pass.
    for resource in builtin() {
        for spec in [
            json!(null),
            json!({}),
            json!({"metadata": {}}),
            json!({"template": {}}),
        ] {
            let object = json!({"metadata": {"name": "a"}, "spec": spec, "status": spec, "rules": [spec], "webhooks": [spec]});
            create(resource, &object);
            update(resource, &object, &json!({}));
            status_update(resource, &object, &object);
        }
    }
    assert!(find("", "v1", "pods").is_some());
}

#[test]
fn custom_objects_are_checked_by_schema_and_rules() {
    let definition = json!({"spec": {"group": "x.io", "scope": "Cluster", "names": {"plural": "ws", "kind": "W"}, "versions": [{"name": "v1",
        "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
            "required": ["a"], "x-kubernetes-validations": [{"rule": "self.a < 10", "message": "too big"}],
            "properties": {"a": {"type": "integer"}}}}}}}]}});
    let resources = crate::crd::resources(&definition);
    let told = |spec: Value, old: Option<Value>| -> Vec<String> {
        let object =
            |spec: Value| json!({"metadata": {"name": "w", "resourceVersion": "1"}, "spec": spec});
        let found = match old {
            None => create(&resources[0], &object(spec)),
            Some(old) => update(&resources[0], &object(spec), &object(old)),
        };
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(json!({"a": 1}), None), Vec::<String>::new());
    assert_eq!(
        told(json!({"a": 10}), None),
        ["spec: Invalid value: too big"]
    );
    assert_eq!(
        told(json!({"a": 10}), Some(json!({"a": 10}))),
        Vec::<String>::new()
    );
    assert_eq!(
        told(json!({}), None),
        [
            "spec.a: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

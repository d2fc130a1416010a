//! Objects through the wire, and bytes that are no objects.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn through(object: Value) {
    let bytes = encode(&object).unwrap();
    assert_eq!(decode(&bytes).unwrap(), object);
}

#[test]
fn objects_come_back() {
    through(
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"a": "b"}, "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}}]},
        "data": {"a": "b"}, "binaryData": {"x": "AAEC"}}),
    );
    through(
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "c", "defaultMode": 420}}],
        "containers": [{"name": "c", "image": "i", "command": ["a", ""], "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
            "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 10},
            "readinessProbe": {"tcpSocket": {"port": 80}}}],
        "terminationGracePeriodSeconds": 0, "securityContext": {}}, "status": {"phase": "Running"}}),
    );
    through(
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 1}}}}),
    );
    through(
        json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "x", "renewTime": "2026-01-01T00:00:00.123456Z", "leaseTransitions": 0}}),
    );
    through(
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": [
        {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "b"}]}}]}),
    );
    through(
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "NotFound",
        "details": {"name": "a", "causes": [{"message": "m", "field": "f"}]}, "code": 404}),
    );
    through(
        json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "gracePeriodSeconds": 0, "propagationPolicy": "Foreground"}),
    );
    through(json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "a"},
        "spec": {"group": "g", "names": {"plural": "p", "kind": "K"}, "scope": "Cluster", "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "default": {"x": [1]}},
                "b": {"type": "array", "items": {"type": "string"}}, "c": {"additionalProperties": false}}}}}]},
        "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]}}
    ).as_object().map(|m| { let mut m = m.clone(); m.shift_remove("status"); Value::from(m) }).unwrap());
    through(
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": "t"},
        "status": {"authenticated": true, "user": {"username": "u", "extra": {"a": ["b", "c"]}}}}),
    );
}

#[test]
fn the_bytes_are_those_of_the_original() {
    // A ConfigMap as the Go client writes it: empty fields that have no presence are there.
    let bytes = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x1d\x0a\x11\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00\x12\x08\x0a\x01k\x12\x03val\x1a\x00\x22\x00";
    assert_eq!(
        decode(bytes).unwrap(),
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "val"}})
    );
    let written =
        encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "val"}})).unwrap();
    assert_eq!(written, b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0a\x12\x08\x0a\x01k\x12\x03val\x1a\x00\x22\x00");
}

#[test]
fn every_built_in_kind_has_its_message() {
    let newer = ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];
    for resource in crate::resources::builtin() {
        if !newer.contains(&resource.kind.as_str()) {
            assert!(
                can_encode(&resource.api_version(), &resource.kind),
                "{}",
                resource.kind
            );
        }
    }
    assert!(!can_encode("example.com/v1", "Widget"));
}

#[test]
fn bombs_are_refused() {
    // Schemas in schemas, deeper than any object.
    let mut schema: Vec<u8> = Vec::new();
    for _ in 0..400 {
        let mut outer = Vec::new();
        wire::bytes(&mut outer, 28, &schema);
        schema = outer;
        if schema.len() > 60_000 {
            break;
        }
    }
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    assert!(decode::message(name, &schema, 0).is_err());
    assert!(decode(b"k8s\0\x12\xff\xff\xff\xff\x0f").is_err());
    assert!(decode(b"{}").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12");
        wire::varint(&mut bytes, tail.len() as u64);
        bytes.extend_from_slice(&tail);
        let _ = decode(&bytes);
        let _ = decode(&tail);
    }
}

//! The engine on built-in definitions and on a custom schema.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn pod() -> Schema {
    Schema::builtin("io.k8s.api.core.v1.Pod").unwrap()
}

#[test]
fn every_definition_can_be_read_and_every_reference_leads_somewhere() {
    for name in definition_names() {
        let text = definition_text(name).unwrap();
        serde_json::from_str::<Value>(text).unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let target = part.split('"').next().unwrap();
            assert!(
                Schema::builtin(target).is_some(),
                "{name} refers to {target}"
            );
        }
    }
}

#[test]
fn list_and_patch_facts_are_known() {
    let containers = pod().at("spec.containers").cloned().unwrap();
    assert_eq!(containers.list_type, ListType::Map);
    assert_eq!(containers.list_keys, ["name"]);
    assert_eq!(containers.merge_key.as_deref(), Some("name"));
    let volumes = pod().at("spec.volumes").cloned().unwrap();
    assert!(volumes.patch_merge && volumes.patch_retain_keys);
    assert!(pod().at("spec.nodeSelector").unwrap().map_atomic);
    assert_eq!(
        pod().at("metadata.finalizers").unwrap().list_type,
        ListType::Set
    );
}

#[test]
fn unknown_and_repeated_fields_are_named_as_strict_decoding_does() {
    let text = br#"{"spec":{"x":1,"containers":[{"name":"a","name":"b","bad":{}}],"y":2}}"#;
    let (mut value, twice) = parse_strict(text).unwrap();
    assert_eq!(twice, [r#"duplicate field "spec.containers[0].name""#]);
    let unknown = prune(&pod(), &mut value);
    assert_eq!(
        unknown,
        [
            r#"unknown field "spec.x""#,
            r#"unknown field "spec.y""#,
            r#"unknown field "spec.containers[0].bad""#
        ]
    );
    assert_eq!(value, json!({"spec": {"containers": [{"name": "b"}]}}));
}

#[test]
fn a_deep_bomb_is_refused() {
    let bomb = "[".repeat(100_000);
    assert!(parse_strict(bomb.as_bytes()).is_err());
    assert!(parse(bomb.as_bytes()).is_err());
}

#[test]
fn wrong_types_are_told_like_the_original() {
    let check =
        |value: Value, expect: Option<&str>| assert_eq!(decode(&pod(), &value).as_deref(), expect);
    check(json!({"spec": {"containers": [{"name": "a"}]}}), None);
    check(
        json!({"spec": {"hostNetwork": "yes"}}),
        Some(
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
    );
    check(
        json!({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}),
        Some(
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
    );
    check(
        json!({"spec": {"containers": {}}}),
        Some(
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
    );
}

#[test]
fn nulls_and_empty_lists_vanish_and_choices_stay() {
    let mut value = json!({"metadata": {"labels": {}, "name": "a"},
        "spec": {"containers": [], "volumes": [], "nodeName": null, "tolerations": [], "x": [],
            "nodeName": "", "hostNetwork": false, "priority": 0, "runtimeClassName": "", "securityContext": {}}});
    prune(&pod(), &mut value);
    normalize(&pod(), &mut value);
    assert_eq!(
        value,
        json!({"metadata": {"name": "a"}, "spec": {"containers": [], "priority": 0, "runtimeClassName": "",
            "securityContext": {}}})
    );
}

#[test]
fn custom_values_are_checked_against_their_limits() {
    let schema = Schema::custom(
        &json!({"type": "object", "properties": {"spec": {"type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 5},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
        }}}}),
    );
    let check = |spec: Value, expect: &[&str]| {
        let errors: Vec<String> = super::check(&schema, &json!({"spec": spec}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, expect);
    };
    check(
        json!({"size": 3, "mode": "a", "name": "abc", "port": "http", "tags": ["a", "b"]}),
        &[],
    );
    check(json!({}), &["spec.size: Required value"]);
    check(
        json!({"size": "3"}),
        &[
            r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        ],
    );
    check(
        json!({"size": 9}),
        &["spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5"],
    );
    check(
        json!({"size": 1, "mode": "c"}),
        &[r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#],
    );
    check(
        json!({"size": 1, "name": "ABCD"}),
        &[
            "spec.name: Too long: may not be more than 3 bytes",
            r#"spec.name: Invalid value: "ABCD": spec.name in body should match '^[a-z]+$'"#,
        ],
    );
    check(
        json!({"size": 1, "tags": ["a", "a"]}),
        &[r#"spec.tags[1]: Duplicate value: "a""#],
    );
    check(
        json!({"size": 1, "port": true}),
        &[
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
        ],
    );
}

#[test]
fn custom_defaults_are_filled_in_from_the_top() {
    let schema = Schema::part(&json!({"type": "object", "properties": {
        "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
        "n": {"type": "string", "nullable": true, "default": "x"},
        "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
    }}));
    let mut value = json!({"n": null, "l": [{}, {"p": "UDP"}]});
    default(&schema, &mut value);
    assert_eq!(
        value,
        json!({"n": null, "l": [{"p": "TCP"}, {"p": "UDP"}], "a": {"b": 3}})
    );
}

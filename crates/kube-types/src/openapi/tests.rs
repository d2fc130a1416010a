//! The documents hang together.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::resources::builtin;

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("$ref", Value::String(target)) => found.push(target.clone()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[track_caller]
fn hangs_together(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    for target in found {
        let pointer = target.trim_start_matches('#');
        // Options of connections have no definition in the original either.
        if !target.ends_with("Options") || target.ends_with("DeleteOptions") {
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let all: Vec<&Resource> = builtin().iter().collect();
    hangs_together(&v2(&all));
    for resource in &all {
        hangs_together(&v3(&resource.group, &resource.version, &all));
    }
}

#[test]
fn a_patch_says_that_it_takes_dry_runs_and_validation() {
    let all: Vec<&Resource> = builtin().iter().collect();
    let document = v3("apps", "v1", &all);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&Value> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let schema = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        schema["x-kubernetes-group-version-kind"][0]["kind"],
        "Deployment"
    );
}

#[test]
fn custom_kinds_are_described_too() {
    let definition = json!({"spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                "properties": {"port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}}}}}]}});
    let resources = crate::crd::resources(&definition);
    let all: Vec<&Resource> = resources.iter().collect();
    let document = v3("example.com", "v1", &all);
    hangs_together(&document);
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["port"]["anyOf"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let old = v2(&all);
    hangs_together(&old);
    assert_eq!(
        old["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]["port"],
        json!({"x-kubernetes-int-or-string": true})
    );
}

#[test]
fn the_protobuf_form_has_every_definition() {
    use crate::protobuf::wire::{Raw, next};
    let all: Vec<&Resource> = builtin().iter().collect();
    let document = v2(&all);
    let bytes = v2_protobuf(&document);
    let mut rest = bytes.as_slice();
    let mut definitions = 0;
    while let Some((number, raw)) = next(&mut rest).unwrap() {
        if let (9, Raw::Bytes(mut inner)) = (number, raw) {
            while next(&mut inner).unwrap().is_some() {
                definitions += 1;
            }
        }
    }
    assert_eq!(
        definitions,
        document["definitions"].as_object().unwrap().len()
    );
}

//! The definitions of kinds, and of all that they refer to.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Form;
use crate::resources::Resource;
use crate::schema::definition_text;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const PREFIX: &str = "#/components/schemas/";

/// The full name of a resource's kind; of a custom one, its group turned around.
pub(super) fn name(resource: &Resource) -> String {
    if !resource.custom {
        return crate::resources::definition(&resource.group, &resource.version, &resource.kind);
    }
    let group: Vec<&str> = resource.group.split('.').rev().collect();
    format!("{}.{}.{}", group.join("."), resource.version, resource.kind)
}

/// The definitions of these resources' kinds and of everything they refer to.
pub(super) fn of(resources: &[&Resource], form: Form) -> Map<String, Value> {
    let mut wanted: Vec<String> = ["Status", "DeleteOptions", "Patch", "WatchEvent"]
        .iter()
        .map(|n| format!("{META}{n}"))
        .collect();
    let mut out = Map::new();
    for resource in resources {
        let own = name(resource);
        if resource.custom {
            custom(resource, &own, form, &mut out);
            wanted.extend(["ObjectMeta", "ListMeta"].map(|n| format!("{META}{n}")));
        } else {
            wanted.extend([format!("{own}List"), own]);
        }
        let subs = resource
            .subresources
            .iter()
            .filter(|s| s.kind != resource.kind);
        wanted.extend(subs.map(|s| crate::resources::definition(&s.group, &s.version, &s.kind)));
    }
    let mut seen = BTreeSet::new();
    while let Some(next) = wanted.pop() {
        if !seen.insert(next.clone()) {
            continue;
        }
        let Some(text) = definition_text(&next) else {
            continue;
        };
        wanted.extend(
            text.split(PREFIX)
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned),
        );
        if let Some(mut definition) = built_in(&next, text, form) {
            if next.strip_prefix(META) == Some("ObjectMeta") {
                describe_metadata(&mut definition);
            }
            out.insert(next, definition);
        }
    }
    out
}

/// What `kubectl explain KIND.metadata` tells.
const METADATA: &[(&str, &str)] = &[
    (
        "annotations",
        "Annotations carry what tools and people note about the object; nothing selects by them.",
    ),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp that the server sets when it makes the object. Read-only.",
    ),
    (
        "deletionGracePeriodSeconds",
        "DeletionGracePeriodSeconds is how long the object may take to end by itself. Read-only.",
    ),
    (
        "deletionTimestamp",
        "DeletionTimestamp is when the object is to be gone; set by the server when deletion was asked for. Read-only.",
    ),
    (
        "finalizers",
        "Finalizers must all be taken away before an object that is being deleted goes.",
    ),
    (
        "generateName",
        "GenerateName is a prefix from which the server makes a unique name when no name is given.",
    ),
    (
        "generation",
        "Generation counts the wanted states of the object. Read-only.",
    ),
    (
        "labels",
        "Labels sort and group objects; selectors find objects by them.",
    ),
    (
        "managedFields",
        "ManagedFields tells who owns which fields. Kept by the server.",
    ),
    (
        "name",
        "Name is unique among the objects of a kind in a namespace, and can't be changed.",
    ),
    (
        "namespace",
        "Namespace is where the name is unique; empty for kinds of the whole cluster. It can't be changed.",
    ),
    (
        "ownerReferences",
        "OwnerReferences name the objects that this one depends on: when all are gone, it goes too.",
    ),
    (
        "resourceVersion",
        "ResourceVersion changes with every write: an update that names it fails if the object was changed since.",
    ),
    ("selfLink", "SelfLink is not filled any more."),
    (
        "uid",
        "UID is unique over all objects that ever were. Read-only.",
    ),
];

fn describe_metadata(definition: &mut Value) {
    definition["description"] =
        "Standard object's metadata: who it is, where it belongs, who owns it.".into();
    for (field, text) in METADATA {
        if let Some(field) = definition["properties"]
            .get_mut(*field)
            .and_then(Value::as_object_mut)
        {
            field.insert("description".to_owned(), (*text).into());
        }
    }
}

fn built_in(name: &str, text: &str, form: Form) -> Option<Value> {
    if form == Form::V3 {
        // Version 3 can say what version 2 can't: either of two types.
        if name.ends_with(".resource.Quantity") {
            return Some(json!({"oneOf": [{"type": "string"}, {"type": "number"}]}));
        }
        if name.ends_with(".intstr.IntOrString") {
            return Some(
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            );
        }
        return serde_json::from_str(text).ok();
    }
    serde_json::from_str(&text.replace(PREFIX, "#/definitions/")).ok()
}

fn custom(resource: &Resource, name: &str, form: Form, out: &mut Map<String, Value>) {
    let mut schema = resource
        .open_api
        .as_deref()
        .cloned()
        .unwrap_or_else(|| json!({"type": "object"}));
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    if form == Form::V2 {
        strip_for_v2(&mut schema);
    }
    let kind =
        |kind: &str| json!([{"group": resource.group, "version": resource.version, "kind": kind}]);
    let meta = |name: &str| json!({"$ref": form.reference(&format!("{META}{name}"))});
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let fields = &mut schema["properties"];
    fields["apiVersion"] = json!({"type": "string",
        "description": "APIVersion defines the group and the version that this object is written in."});
    fields["kind"] =
        json!({"type": "string", "description": "Kind is the type of this object, in CamelCase."});
    fields["metadata"] = meta("ObjectMeta");
    schema["x-kubernetes-group-version-kind"] = kind(&resource.kind);
    out.insert(name.to_owned(), schema);
    let list = json!({
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta("ListMeta"),
            "items": {"type": "array", "items": {"$ref": form.reference(name)}},
        },
        "x-kubernetes-group-version-kind": kind(&resource.list_kind),
    });
    out.insert(format!("{name}List"), list);
}

/// Version 2 has no nullable, no alternatives and no types beside unknown fields; clients that know only it would refuse
/// good objects.
fn strip_for_v2(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for word in ["oneOf", "anyOf", "not", "nullable"] {
        map.shift_remove(word);
    }
    let either = map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let keeps = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if either || keeps {
        for word in ["type", "items", "properties"] {
            map.shift_remove(word);
        }
    }
    for value in map
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        strip_for_v2(value.1);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(word) {
            strip_for_v2(inner);
        }
    }
}

//! CustomResourceDefinitions: the resources they make.

use std::sync::Arc;

use serde_json::Value;

use crate::cel::Rules;
use crate::object::{at, list, text};
use crate::resources::{Resource, ScalePaths, Subresource};
use crate::schema::Schema;
use crate::table::Column;

const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// The resources that a definition's served versions make, in the order of preference.
pub fn resources(definition: &Value) -> Vec<Resource> {
    let mut versions: Vec<&Value> = list(definition, "spec.versions")
        .iter()
        .filter(|v| v["served"] == true)
        .collect();
    versions.sort_by_key(|v| version_rank(text(v, "name")));
    versions
        .into_iter()
        .map(|version| resource(definition, version))
        .collect()
}

/// The version that objects are stored in.
pub fn storage_version(definition: &Value) -> Option<&str> {
    let stored = list(definition, "spec.versions")
        .iter()
        .find(|v| v["storage"] == true)?;
    stored["name"].as_str()
}

/// Any resource of a version, served or not: objects may be stored in one that is not served.
pub fn version(definition: &Value, name: &str) -> Option<Resource> {
    let found = list(definition, "spec.versions")
        .iter()
        .find(|v| v["name"] == name)?;
    Some(resource(definition, found))
}

fn strings(value: &Value, path: &str) -> Vec<String> {
    list(value, path)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn resource(definition: &Value, version: &Value) -> Resource {
    let names = &definition["spec"]["names"];
    let kind = text(names, "kind");
    let or = |found: &str, other: String| {
        if found.is_empty() {
            other
        } else {
            found.to_owned()
        }
    };
    let mut resource = Resource {
        group: text(definition, "spec.group").to_owned(),
        version: text(version, "name").to_owned(),
        plural: text(names, "plural").to_owned(),
        singular: or(text(names, "singular"), kind.to_lowercase()),
        kind: kind.to_owned(),
        list_kind: or(text(names, "listKind"), format!("{kind}List")),
        namespaced: text(definition, "spec.scope") == "Namespaced",
        verbs: VERBS.iter().map(|&v| v.to_owned()).collect(),
        short_names: strings(names, "shortNames"),
        categories: strings(names, "categories"),
        subresources: Vec::new(),
        schema: schema(definition, version),
        custom: true,
        columns: list(version, "additionalPrinterColumns")
            .iter()
            .map(column)
            .collect(),
        scale: None,
        selectable_fields: list(version, "selectableFields")
            .iter()
            .map(|f| text(f, "jsonPath").to_owned())
            .collect(),
        rules: at(version, "schema.openAPIV3Schema")
            .and_then(Rules::of)
            .map(Arc::new),
        open_api: at(version, "schema.openAPIV3Schema").cloned().map(Arc::new),
    };
    add_subresources(&mut resource, version);
    resource
}

fn schema(definition: &Value, version: &Value) -> Schema {
    let Some(found) = at(version, "schema.openAPIV3Schema") else {
        return Schema::any();
    };
    if definition["spec"]["preserveUnknownFields"] == true {
        let mut open = found.clone();
        open["x-kubernetes-preserve-unknown-fields"] = true.into();
        return Schema::custom(&open);
    }
    Schema::custom(found)
}

fn column(definition: &Value) -> Column {
    Column {
        name: text(definition, "name").to_owned(),
        kind: text(definition, "type").to_owned(),
        format: text(definition, "format").to_owned(),
        description: text(definition, "description").to_owned(),
        priority: definition["priority"].as_i64().unwrap_or_default(),
        json_path: text(definition, "jsonPath").to_owned(),
    }
}

fn add_subresources(resource: &mut Resource, version: &Value) {
    let sub = |name: &str, group: &str, version: &str, kind: &str| Subresource {
        name: name.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        verbs: ["get", "patch", "update"].map(str::to_owned).to_vec(),
    };
    if at(version, "subresources.status").is_some() {
        let status = sub("status", &resource.group, &resource.version, &resource.kind);
        resource.subresources.push(status);
    }
    if let Some(scale) = at(version, "subresources.scale") {
        resource
            .subresources
            .push(sub("scale", "autoscaling", "v1", "Scale"));
        resource.scale = Some(ScalePaths {
            spec_replicas: text(scale, "specReplicasPath").to_owned(),
            status_replicas: text(scale, "statusReplicasPath").to_owned(),
            label_selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
        });
    }
}

/// Where a version stands: stable before beta before alpha, newer before older, and what isn't of that form last, by
/// name.
pub fn version_rank(version: &str) -> (u8, std::cmp::Reverse<u64>, std::cmp::Reverse<u64>, String) {
    let last = || {
        (
            3,
            std::cmp::Reverse(0),
            std::cmp::Reverse(0),
            version.to_owned(),
        )
    };
    let Some(rest) = version.strip_prefix('v') else {
        return last();
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let Ok(major) = rest[..end].parse::<u64>() else {
        return last();
    };
    let (sort, minor) = match &rest[end..] {
        "" => (0, Some(0)),
        tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(n), _) => (1, n.parse().ok()),
            (_, Some(n)) => (2, n.parse().ok()),
            _ => return last(),
        },
    };
    match minor {
        Some(minor) => (
            sort,
            std::cmp::Reverse(major),
            std::cmp::Reverse(minor),
            String::new(),
        ),
        None => last(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_preference() {
        let mut versions = vec![
            "foo10",
            "v1alpha1",
            "v10beta3",
            "v3beta1",
            "v11alpha2",
            "v1",
            "v2",
            "foo1",
            "v12alpha1",
            "v11beta2",
            "v10",
        ];
        versions.sort_by_key(|v| version_rank(v));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn a_definition_makes_its_resources() {
        let definition = json!({"spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {},
                    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                    "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                        "properties": {"n": {"type": "integer"}}}}}}},
                {"name": "v0", "served": false, "storage": false}]}});
        let made = resources(&definition);
        assert_eq!(
            made.iter().map(|r| r.version.as_str()).collect::<Vec<_>>(),
            ["v1", "v1beta1"]
        );
        assert_eq!(storage_version(&definition), Some("v1"));
        let v1 = &made[0];
        assert_eq!(
            (v1.singular.as_str(), v1.list_kind.as_str(), v1.namespaced),
            ("widget", "WidgetList", false)
        );
        assert!(v1.has_status() && v1.subresource("scale").is_some());
        let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"n": 1, "x": 2}, "other": 3});
        let unknown = crate::schema::read(v1, &mut object).unwrap();
        assert_eq!(
            unknown,
            [r#"unknown field "other""#, r#"unknown field "spec.x""#]
        );
        assert_eq!(object["metadata"], json!({"name": "a"}));
        let selector = crate::selector::FieldSelector::parse("spec.color=red").unwrap();
        selector.check(v1).unwrap();
        assert!(selector.matches(v1, &json!({"spec": {"color": "red"}})));
    }
}

//! The tables of Kubernetes kinds in `crates/kube-types/src/table`: names, types and merge keys from an OpenAPI document.
//!
//! Facts only: descriptions are not carried over. Versions that are not generally available are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::Result;

#[derive(Default)]
struct Resource {
    kind: Value,
    namespaced: bool,
    verbs: BTreeSet<String>,
}

/// Reads the OpenAPI v2 document and writes its tables; with the folder of the sources, that of protobuf fields too.
pub fn generate(document: Option<&str>, sources: Option<&str>) -> Result {
    let path = document.ok_or("name the OpenAPI v2 document of Kubernetes (swagger.json)")?;
    let text = std::fs::read(path).map_err(|e| format!("read {path}: {e}"))?;
    let document: Value = serde_json::from_slice(&text).map_err(|e| format!("{path}: {e}"))?;
    let folder = wharf_testkit::workspace_dir().join("crates/kube-types/src/table");
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).map_err(|e| format!("write {name}: {e}"))
    };
    std::fs::create_dir_all(&folder).map_err(|e| format!("make {}: {e}", folder.display()))?;
    write("resources.tsv", resources(&document))?;
    write("schemas.jsonl", schemas(&document))?;
    crate::proto::generate(sources, &folder)
}

/// One line for each resource and subresource of a version that is generally available.
fn resources(document: &Value) -> String {
    let mut found: BTreeMap<[String; 4], Resource> = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        let Some((key, namespaced)) = address(path) else {
            continue;
        };
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let action = operation["x-kubernetes-action"].as_str();
            let Some(verb) = action.and_then(|action| verb(action, method)) else {
                continue;
            };
            let resource = found.entry(key.clone()).or_default();
            resource.kind = operation["x-kubernetes-group-version-kind"].clone();
            resource.namespaced |= namespaced;
            resource.verbs.insert(verb.to_owned());
            if verb == "list" {
                resource.verbs.insert("watch".to_owned());
            }
        }
    }
    let mut out = String::new();
    for ([group, version, plural, sub], resource) in &found {
        let kind = |field: &str| resource.kind[field].as_str().unwrap_or_default();
        let verbs: Vec<&str> = resource.verbs.iter().map(String::as_str).collect();
        let _ = writeln!(
            out,
            "{group}\t{version}\t{plural}\t{sub}\t{}\t{}\t{}\t{}\t{}",
            kind("group"),
            kind("version"),
            kind("kind"),
            resource.namespaced,
            verbs.join(",")
        );
    }
    out
}

/// Group, version, plural and subresource of a path, and whether it is in a namespace.
fn address(path: &str) -> Option<([String; 4], bool)> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    if version.contains("alpha") || version.contains("beta") || rest.first() == Some(&"watch") {
        return None;
    }
    let (namespaced, rest) = match rest {
        ["namespaces", "{namespace}", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (plural, sub) = match rest {
        [plural] | [plural, "{name}"] => (plural, ""),
        [plural, "{name}", sub] => (plural, *sub),
        _ => return None,
    };
    let key = [group, version, plural, sub].map(str::to_owned);
    Some((key, namespaced))
}

fn verb<'a>(action: &'a str, method: &'a str) -> Option<&'a str> {
    match action {
        // A connection may be opened by several methods; each counts as the verb it is authorised by.
        "connect" => verb(method, ""),
        "post" => Some("create"),
        "put" => Some("update"),
        "get" | "list" | "patch" | "delete" | "deletecollection" => Some(action),
        _ => None,
    }
}

/// One definition a line: `name`, a tab, and the schema without prose.
fn schemas(document: &Value) -> String {
    let mut out = String::new();
    for (name, schema) in document["definitions"].as_object().into_iter().flatten() {
        if name.contains(".v1alpha") || name.contains(".v1beta") || name.contains(".v2beta") {
            continue;
        }
        let _ = writeln!(out, "{name}\t{}", without_prose(schema));
    }
    out
}

fn without_prose(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let mut kept = Map::new();
    for (name, value) in fields {
        let value = match name.as_str() {
            "description" | "x-kubernetes-unions" => continue,
            "$ref" => Value::from(
                value
                    .as_str()
                    .unwrap_or_default()
                    .replace("#/definitions/", "#/components/schemas/"),
            ),
            // Here the names are fields, and a field may be called "description".
            "properties" => value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), without_prose(schema)))
                .collect::<Map<_, _>>()
                .into(),
            "items" | "additionalProperties" => without_prose(value),
            _ => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    kept.into()
}

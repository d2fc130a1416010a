//! The paths of a resource: what can be done, to which kind, with which parameters.

use serde_json::{Map, Value, json};

use super::{Form, schemas};
use crate::resources::{Resource, Subresource};

/// What one path speaks of.
struct Target<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    definition: String,
    custom: bool,
}

/// Adds the paths of a resource and its subresources.
pub(super) fn add(resource: &Resource, form: Form, paths: &mut Map<String, Value>) {
    let root = if resource.group.is_empty() {
        "/api/"
    } else {
        "/apis/"
    };
    let base = format!("{root}{}", resource.api_version());
    let plural = &resource.plural;
    let all = format!("{base}/{plural}");
    let own = Target {
        group: &resource.group,
        version: &resource.version,
        kind: &resource.kind,
        definition: schemas::name(resource),
        custom: resource.custom,
    };
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{plural}")
    } else {
        all.clone()
    };
    let object = format!("{collection}/{{name}}");
    let verbs: Vec<&str> = resource.verbs.iter().map(String::as_str).collect();
    let mut put = |path: String, actions: &[(&str, &str)], target: &Target<'_>, verbs: &[&str]| {
        let mut item = Map::new();
        for (method, verb) in actions.iter().filter(|(_, verb)| verbs.contains(verb)) {
            item.insert((*method).to_owned(), operation(method, verb, target, form));
        }
        if !item.is_empty() {
            item.insert("parameters".to_owned(), path_parameters(&path, form));
            paths.insert(path, item.into());
        }
    };
    if resource.namespaced {
        put(all, &[("get", "list")], &own, &verbs);
    }
    put(
        collection,
        &[
            ("get", "list"),
            ("post", "create"),
            ("delete", "deletecollection"),
        ],
        &own,
        &verbs,
    );
    let single = [
        ("get", "get"),
        ("put", "update"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    put(object.clone(), &single, &own, &verbs);
    for sub in &resource.subresources {
        let verbs: Vec<&str> = sub.verbs.iter().map(String::as_str).collect();
        let target = subresource(resource, sub);
        let actions = [
            ("get", "get"),
            ("put", "update"),
            ("patch", "patch"),
            ("post", "create"),
        ];
        put(format!("{object}/{}", sub.name), &actions, &target, &verbs);
    }
}

fn subresource<'a>(resource: &Resource, sub: &'a Subresource) -> Target<'a> {
    let definition = if sub.kind == resource.kind {
        schemas::name(resource)
    } else {
        crate::resources::definition(&sub.group, &sub.version, &sub.kind)
    };
    Target {
        group: &sub.group,
        version: &sub.version,
        kind: &sub.kind,
        definition,
        custom: resource.custom,
    }
}

fn operation(method: &str, verb: &str, target: &Target<'_>, form: Form) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let names: &[&str] = match verb {
        "create" | "update" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &[
            "dryRun",
            "gracePeriodSeconds",
            "orphanDependents",
            "propagationPolicy",
        ],
        "list" => &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ],
        _ => &[],
    };
    let mut parameters: Vec<Value> = names.iter().map(|name| query(name, form)).collect();
    let mut out = json!({
        "responses": {"200": response(verb, target, form), "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": target.group, "version": target.version, "kind": target.kind},
    });
    if matches!(method, "post" | "put" | "patch") {
        body(method, target, form, &mut parameters, &mut out);
    }
    if form == Form::V2 {
        let types = if method == "patch" {
            json!(patches(target))
        } else {
            json!(["*/*"])
        };
        out["consumes"] = types;
        out["produces"] = json!(["application/json", "application/yaml"]);
    }
    out["parameters"] = parameters.into();
    out
}

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom kinds have no patch strategies: clients look here before they send a strategic merge patch.
fn patches(target: &Target<'_>) -> Vec<&'static str> {
    let strategic = |t: &&str| !t.contains("strategic");
    let all = PATCHES.iter().copied();
    match target.custom {
        true => all.filter(strategic).collect(),
        false => all.collect(),
    }
}

fn body(
    method: &str,
    target: &Target<'_>,
    form: Form,
    parameters: &mut Vec<Value>,
    out: &mut Value,
) {
    let patch = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
    let name = if method == "patch" {
        patch
    } else {
        &target.definition
    };
    let schema = json!({"$ref": form.reference(name)});
    if form == Form::V2 {
        parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        return;
    }
    let types: &[&str] = if method == "patch" {
        &patches(target)
    } else {
        &["*/*"]
    };
    let content: Map<String, Value> = types
        .iter()
        .map(|t| ((*t).to_owned(), json!({"schema": schema})))
        .collect();
    out["requestBody"] = json!({"content": content, "required": true});
}

fn response(verb: &str, target: &Target<'_>, form: Form) -> Value {
    let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status".to_owned();
    let name = match verb {
        "list" => format!("{}List", target.definition),
        "delete" | "deletecollection" => status,
        _ => target.definition.clone(),
    };
    let schema = json!({"$ref": form.reference(&name)});
    match form {
        Form::V2 => json!({"description": "OK", "schema": schema}),
        Form::V3 => {
            json!({"description": "OK", "content": {"application/json": {"schema": schema}}})
        }
    }
}

fn query(name: &str, form: Form) -> Value {
    let kind = match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "watch" | "force" | "allowWatchBookmarks" | "orphanDependents" | "sendInitialEvents" => {
            "boolean"
        }
        _ => "string",
    };
    match form {
        Form::V2 => json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}),
        Form::V3 => {
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        }
    }
}

fn path_parameters(path: &str, form: Form) -> Value {
    let named = ["name", "namespace"]
        .iter()
        .filter(|name| path.contains(&format!("{{{name}}}")));
    named
        .map(|name| match form {
            Form::V2 => json!({"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true}),
            Form::V3 => {
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
            }
        })
        .collect()
}

//! Whether a schema is structural: every field has a type, and logic only restricts what is already described.

use serde_json::Value;

use super::super::faults::{Faults, Seen};
use crate::field::{FieldError, Path};
use crate::object::{list, text};

/// Faults told of one schema; a hostile one has many.
const REPORTED_MAX: usize = 50;

/// The schema of a version.
pub(super) fn root(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if kind.is_empty() {
        out.required(&path.field("type"), "must not be empty at the root");
    } else if kind != "object" {
        out.invalid(&path.field("type"), kind, "must be object at the root");
    }
    if schema["nullable"] == true {
        out.forbidden(
            &path.field("nullable"),
            "nullable cannot be true at the root",
        );
    }
    visit(schema, path, Place::Root, out);
    out.extend(crate::cel::verify_rules(schema, path));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Item,
}

fn is(schema: &Value, extension: &str) -> bool {
    schema[extension] == true
}

fn visit(schema: &Value, path: &Path<'_>, place: Place, out: &mut Vec<FieldError>) {
    if out.len() > REPORTED_MAX {
        return;
    }
    let free = is(schema, "x-kubernetes-int-or-string")
        || is(schema, "x-kubernetes-preserve-unknown-fields");
    let kind = text(schema, "type");
    if kind.is_empty() && !free {
        match place {
            Place::Root => {}
            Place::Field => out.required(
                &path.field("type"),
                "must not be empty for specified object fields",
            ),
            Place::Item => out.required(
                &path.field("type"),
                "must not be empty for specified array items",
            ),
        }
    }
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    if !kind.is_empty() && !TYPES.contains(&kind) {
        out.not_supported(&path.field("type"), kind, &TYPES);
    }
    unsupported(schema, path, out);
    extensions(schema, path, out);
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_err()
    {
        out.invalid(
            &path.field("pattern"),
            pattern,
            "must be a valid regular expression, but isn't",
        );
    }
    logic(schema, path, out);
    children(schema, path, out);
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        let faults = crate::schema::check(&crate::schema::Schema::part(schema), default);
        if let Some(fault) = faults.first() {
            let here = path.field("default");
            let words = fault.to_string();
            out.invalid(
                &here,
                default.clone(),
                words.trim_start_matches(": ").to_owned(),
            );
        }
    }
}

fn unsupported(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for field in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if schema.get(field).is_some_and(|v| !v.is_null()) {
            out.forbidden(&path.field(field), &format!("{field} is not supported"));
        }
    }
    if schema["uniqueItems"] == true {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        out.forbidden(&path.field("uniqueItems"), detail);
    }
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    if let Some(additional) = additional {
        if schema["properties"]
            .as_object()
            .is_some_and(|p| !p.is_empty())
            && *additional != false
        {
            let detail = "additionalProperties and properties are mutual exclusive";
            out.forbidden(&path.field("additionalProperties"), detail);
        }
        if *additional == false {
            out.forbidden(
                &path.field("additionalProperties"),
                "additionalProperties cannot be set to false",
            );
        }
    }
    if schema["items"].is_array() {
        out.forbidden(
            &path.field("items"),
            "items must be a schema object and not an array",
        );
    }
}

fn extensions(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema[preserve] == false {
        out.invalid(&path.field(preserve), false, "must be true or undefined");
    }
    if is(schema, "x-kubernetes-embedded-resource") {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "object" => {}
            "" => out.required(&path.field("type"), detail),
            other => out.invalid(&path.field("type"), other, detail),
        }
        let described = schema["properties"]
            .as_object()
            .is_some_and(|p| !p.is_empty());
        if !described && !is(schema, preserve) {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            out.required(&path.field("properties"), detail);
        }
    }
    if is(schema, "x-kubernetes-int-or-string") && is(schema, preserve) {
        out.invalid(
            &path.field(preserve),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    if let Some(sort) = schema["x-kubernetes-map-type"].as_str() {
        if kind != "object" {
            let detail = "must be object if x-kubernetes-map-type is specified";
            out.invalid(&path.field("type"), kind, detail);
        }
        if !matches!(sort, "atomic" | "granular") {
            out.not_supported(
                &path.field("x-kubernetes-map-type"),
                sort,
                &["atomic", "granular"],
            );
        }
    }
    list_type(schema, path, out);
}

fn list_type(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let sort = schema["x-kubernetes-list-type"].as_str();
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let sort_path = path.field("x-kubernetes-list-type");
    let keys_path = path.field("x-kubernetes-list-map-keys");
    if let Some(sort) = sort {
        if text(schema, "type") != "array" {
            let detail = "must be array if x-kubernetes-list-type is specified";
            out.invalid(&path.field("type"), text(schema, "type"), detail);
        }
        if !matches!(sort, "atomic" | "set" | "map") {
            out.not_supported(&sort_path, sort, &["atomic", "set", "map"]);
        }
    }
    if !keys.is_empty() && sort != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match sort {
            None => out.required(&sort_path, detail),
            Some(sort) => out.invalid(&sort_path, sort, detail),
        }
    }
    if sort != Some("map") {
        return;
    }
    if keys.is_empty() {
        out.required(
            &keys_path,
            "must not be empty if x-kubernetes-list-type is map",
        );
    }
    let items = &schema["items"];
    let items_path = path.field("items");
    if !items.is_object() {
        return out.required(
            &items_path,
            "must have a schema if x-kubernetes-list-type is map",
        );
    }
    if text(items, "type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        out.invalid(&items_path.field("type"), text(items, "type"), detail);
    }
    let mut seen = Seen::default();
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(property) = items["properties"].get(key) else {
            out.invalid(
                &keys_path,
                keys.to_vec(),
                "entries must all be names of item properties",
            );
            continue;
        };
        if seen.twice(key) {
            out.invalid(
                &keys_path,
                keys.to_vec(),
                "must not contain duplicate entries",
            );
        }
        let required = list(items, "required").iter().any(|r| r == key);
        if !required && property.get("default").is_none() {
            let properties = items_path.field("properties");
            let here = properties.key(key);
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            out.required(&here.field("default"), detail);
        }
    }
}

/// Inside allOf, anyOf, oneOf and not nothing may be described, only restricted.
fn logic(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let either = is(schema, "x-kubernetes-int-or-string");
    for word in ["allOf", "anyOf", "oneOf"] {
        let place = path.field(word);
        for (index, part) in list(schema, word).iter().enumerate() {
            restriction(part, either, &place.index(index), out);
        }
    }
    if schema["not"].is_object() {
        restriction(&schema["not"], false, &path.field("not"), out);
    }
}

fn restriction(part: &Value, either: bool, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if out.len() > REPORTED_MAX {
        return;
    }
    let kind = text(part, "type");
    // `anyOf: [{type: integer}, {type: string}]` is how int-or-string is written.
    if !(kind.is_empty() || either && matches!(kind, "integer" | "string")) {
        out.forbidden(&path.field("type"), "must be empty to be structural");
    }
    let undefined = [
        "additionalProperties",
        "default",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
    ];
    for field in undefined
        .into_iter()
        .filter(|f| part.get(f).is_some_and(|v| !v.is_null()))
    {
        out.forbidden(&path.field(field), "must be undefined to be structural");
    }
    for field in ["title", "description"]
        .into_iter()
        .filter(|f| !text(part, f).is_empty())
    {
        out.forbidden(&path.field(field), "must be empty to be structural");
    }
    let flags = [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ];
    for field in flags.into_iter().filter(|f| is(part, f)) {
        out.forbidden(&path.field(field), "must be false to be structural");
    }
    let properties = path.field("properties");
    for (name, inner) in part["properties"].as_object().into_iter().flatten() {
        restriction(inner, false, &properties.key(name), out);
    }
    if part["items"].is_object() {
        restriction(&part["items"], false, &path.field("items"), out);
    }
    logic(part, path, out);
}

fn children(schema: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let properties = path.field("properties");
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        visit(inner, &properties.key(name), Place::Field, out);
    }
    if schema["additionalProperties"].is_object() {
        visit(
            &schema["additionalProperties"],
            &path.field("additionalProperties"),
            Place::Field,
            out,
        );
    }
    let items = path.field("items");
    if schema["items"].is_object() {
        visit(&schema["items"], &items, Place::Item, out);
    } else if text(schema, "type") == "array" {
        out.required(&items, "must be specified");
    }
}

//! Reading an OpenAPI schema into a [`Node`].

use std::sync::Arc;

use serde_json::Value;

use super::{Format, Kind, ListType, Node, Schema};

/// The prefix of references between definitions.
const REFERENCE: &str = "#/components/schemas/";

/// Keywords that only restrict values; a schema with any of them keeps its text for [`super::check`].
const LIMITS: [&str; 17] = [
    "maximum",
    "minimum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "multipleOf",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "enum",
    "oneOf",
    "anyOf",
    "allOf",
];

/// The schema of a JSON schema: a definition of the table, or one made from the text.
pub(super) fn schema(text: &Value) -> Schema {
    let target = text["$ref"]
        .as_str()
        .or_else(|| text["allOf"][0]["$ref"].as_str())
        .and_then(|r| r.strip_prefix(REFERENCE))
        .and_then(Schema::builtin);
    match target {
        // A reference with extensions beside it is a copy with those extensions.
        Some(target) if has_extensions(text) => {
            let mut node = (*target).clone();
            extensions(text, &mut node);
            node.into()
        }
        Some(target) => target,
        None => node(text, "").into(),
    }
}

fn has_extensions(text: &Value) -> bool {
    text.as_object()
        .into_iter()
        .flatten()
        .any(|(name, _)| name.starts_with("x-kubernetes-"))
}

pub(super) fn node(text: &Value, name: &'static str) -> Node {
    let mut node = Node {
        name,
        kind: kind(text["type"].as_str().unwrap_or_default()),
        format: format(text["format"].as_str().unwrap_or_default()),
        nullable: text["nullable"] == true,
        default: text.get("default").filter(|d| !d.is_null()).cloned(),
        ..Node::default()
    };
    for (field, value) in text["properties"].as_object().into_iter().flatten() {
        node.properties.insert(field.clone(), schema(value));
    }
    for field in text["required"].as_array().into_iter().flatten() {
        node.required.extend(field.as_str().map(str::to_owned));
    }
    node.items = text["items"].as_object().map(|_| schema(&text["items"]));
    node.additional = match &text["additionalProperties"] {
        Value::Object(_) => Some(schema(&text["additionalProperties"])),
        Value::Bool(true) => Some(Schema::any()),
        _ => None,
    };
    extensions(text, &mut node);
    let limited = LIMITS.iter().any(|l| text.get(l).is_some()) || text.get("not").is_some();
    let known = matches!(
        text["format"].as_str(),
        None | Some("int32" | "int64" | "double" | "float")
    );
    if limited || !known || text.get("x-kubernetes-validations").is_some() {
        node.limits = Some(Arc::new(text.clone()));
    }
    node
}

fn extensions(text: &Value, node: &mut Node) {
    let flag = |name: &str| text[name] == true;
    match text["x-kubernetes-list-type"].as_str() {
        Some("set") => node.list_type = ListType::Set,
        Some("map") => node.list_type = ListType::Map,
        _ => {}
    }
    for key in text["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
    {
        node.list_keys.extend(key.as_str().map(str::to_owned));
    }
    node.map_atomic |= text["x-kubernetes-map-type"] == "atomic";
    let strategy = text["x-kubernetes-patch-strategy"]
        .as_str()
        .unwrap_or_default();
    for word in strategy.split(',') {
        node.patch_merge |= word == "merge";
        node.patch_retain_keys |= word == "retainKeys";
    }
    if let Some(key) = text["x-kubernetes-patch-merge-key"].as_str() {
        node.merge_key = Some(key.to_owned());
    }
    if flag("x-kubernetes-int-or-string") {
        node.kind = Kind::Any;
        node.format = Format::IntOrString;
    }
    node.preserve_unknown |= flag("x-kubernetes-preserve-unknown-fields");
    node.embedded_resource |= flag("x-kubernetes-embedded-resource");
}

fn kind(name: &str) -> Kind {
    match name {
        "object" => Kind::Object,
        "array" => Kind::Array,
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        _ => Kind::Any,
    }
}

fn format(name: &str) -> Format {
    match name {
        "int32" => Format::Int32,
        "int64" => Format::Int64,
        "float" => Format::Float,
        "double" => Format::Double,
        "byte" => Format::Byte,
        "date-time" => Format::DateTime,
        "int-or-string" => Format::IntOrString,
        _ => Format::None,
    }
}

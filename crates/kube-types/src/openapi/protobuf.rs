//! The v2 document in the protobuf form that clients ask for: the messages of `openapi.v2.Document`.

use serde_json::{Map, Value};

use crate::protobuf::wire;

/// The media type of this form.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Writes a document that [`super::v2`] made.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, info(&document["info"]));
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.message(2, named(path, path_item(item)));
    }
    out.message(8, paths);
    let mut definitions = Message::default();
    for (name, schema) in entries(&document["definitions"]) {
        definitions.message(1, named(name, self::schema(schema)));
    }
    out.message(9, definitions);
    out.bytes
}

#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            wire::bytes(&mut self.bytes, number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, value: &Value) {
        for text in value.as_array().into_iter().flatten() {
            self.text(number, text);
        }
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if *value == true {
            wire::integer(&mut self.bytes, number, 1);
        }
    }

    fn integer(&mut self, number: u32, value: &Value) {
        if let Some(found) = value.as_i64() {
            wire::integer(&mut self.bytes, number, found);
        }
    }

    fn double(&mut self, number: u32, value: &Value) {
        if let Some(found) = value.as_f64() {
            wire::double(&mut self.bytes, number, found);
        }
    }

    fn message(&mut self, number: u32, message: Message) {
        wire::bytes(&mut self.bytes, number, &message.bytes);
    }

    /// Everything that begins with `x-`, as YAML, which JSON is.
    fn extensions(&mut self, number: u32, holder: &Value) {
        for (name, value) in entries(holder).filter(|(name, _)| name.starts_with("x-")) {
            self.message(number, named(name, any(value)));
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn named(name: &str, value: Message) -> Message {
    let mut out = Message::default();
    wire::bytes(&mut out.bytes, 1, name.as_bytes());
    out.message(2, value);
    out
}

/// One of several: a message whose only field is this one.
fn one(number: u32, value: Message) -> Message {
    let mut out = Message::default();
    out.message(number, value);
    out
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    wire::bytes(&mut out.bytes, 2, value.to_string().as_bytes());
    out
}

fn info(info: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &info["title"]);
    out.text(2, &info["version"]);
    out
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if item[method].is_object() {
            out.message(number, operation(&item[method]));
        }
    }
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        out.message(9, one(1, self::parameter(parameter)));
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        out.message(8, one(1, self::parameter(parameter)));
    }
    let mut responses = Message::default();
    for (code, response) in entries(&operation["responses"]) {
        let mut value = Message::default();
        value.text(1, &response["description"]);
        if response["schema"].is_object() {
            value.message(2, one(1, schema(&response["schema"])));
        }
        responses.message(1, named(code, one(1, value)));
    }
    out.message(9, responses);
    out.extensions(13, operation);
    out
}

fn parameter(parameter: &Value) -> Message {
    let mut out = Message::default();
    match parameter["in"].as_str() {
        Some("body") => {
            out.text(2, &parameter["name"]);
            out.text(3, &parameter["in"]);
            out.flag(4, &parameter["required"]);
            out.message(5, schema(&parameter["schema"]));
            one(1, out)
        }
        place => {
            out.flag(1, &parameter["required"]);
            out.text(2, &parameter["in"]);
            out.text(4, &parameter["name"]);
            // In a path there is no field for empty values, and all later ones move up.
            let in_path = place == Some("path");
            out.text(if in_path { 5 } else { 6 }, &parameter["type"]);
            out.flag(if in_path { 18 } else { 20 }, &parameter["uniqueItems"]);
            one(2, one(if in_path { 4 } else { 3 }, out))
        }
    }
}

/// Its depth is that of the definition, which the parser bounded.
fn schema(schema: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &schema["$ref"]);
    out.text(2, &schema["format"]);
    out.text(3, &schema["title"]);
    out.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        out.message(5, any(default));
    }
    for (number, field) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.double(number, &schema[field]);
    }
    for (number, field) in [
        (8, "exclusiveMaximum"),
        (10, "exclusiveMinimum"),
        (16, "uniqueItems"),
    ] {
        out.flag(number, &schema[field]);
    }
    let counts = [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ];
    for (number, field) in counts {
        out.integer(number, &schema[field]);
    }
    out.text(13, &schema["pattern"]);
    out.texts(19, &schema["required"]);
    for value in schema["enum"].as_array().into_iter().flatten() {
        out.message(20, any(value));
    }
    match &schema["additionalProperties"] {
        Value::Bool(flag) => {
            let mut item = Message::default();
            wire::integer(&mut item.bytes, 2, i64::from(*flag));
            out.message(21, item);
        }
        Value::Object(_) => out.message(21, one(1, self::schema(&schema["additionalProperties"]))),
        _ => {}
    }
    if schema["type"].is_string() {
        let mut kind = Message::default();
        kind.text(1, &schema["type"]);
        out.message(22, kind);
    }
    if schema["items"].is_object() {
        out.message(23, one(1, self::schema(&schema["items"])));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        out.message(24, self::schema(part));
    }
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, value) in entries(&schema["properties"]) {
            properties.message(1, named(name, self::schema(value)));
        }
        out.message(25, properties);
    }
    out.extensions(31, schema);
    out
}

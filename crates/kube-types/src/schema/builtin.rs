//! The table of built-in definitions, each read when first needed.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

use super::{Format, Kind, Link, Node, Schema, parse};

static TEXT: &str = include_str!("../table/schemas.jsonl");

static DEFINITIONS: LazyLock<HashMap<&'static str, Definition>> = LazyLock::new(|| {
    TEXT.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, text)| {
            (
                name,
                Definition {
                    name,
                    text,
                    node: OnceLock::new(),
                },
            )
        })
        .collect()
});

/// One definition: its text, and its schema once asked for.
pub(super) struct Definition {
    name: &'static str,
    text: &'static str,
    node: OnceLock<Node>,
}

impl Definition {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn node(&self) -> &Node {
        self.node.get_or_init(|| {
            let short = self.name.rsplit('.').next().unwrap_or(self.name);
            let mut node = match serde_json::from_str::<Value>(self.text) {
                Ok(schema) => parse::node(&schema, short),
                Err(_) => Node::default(),
            };
            special(self.name, &mut node);
            node.omitted_when_zero = crate::protobuf::omitted_when_zero(self.name);
            node
        })
    }
}

/// What the OpenAPI document can't say of a few definitions.
fn special(name: &str, node: &mut Node) {
    let any = |node: &mut Node| {
        node.kind = Kind::Any;
        node.preserve_unknown = true;
    };
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => node.format = Format::Quantity,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => node.format = Format::MicroTime,
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => {
            node.preserve_unknown = true;
            node.map_atomic = true;
        }
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => {
            node.preserve_unknown = true;
            node.map_atomic = true;
        }
        _ if name.ends_with(".v1.JSON") || name.contains(".JSONSchemaPropsOr") => any(node),
        _ => {}
    }
}

pub(super) fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.get(name)
}

/// apiVersion, kind and metadata, as every custom kind has them.
pub(super) fn meta() -> Vec<(&'static str, Schema)> {
    let text = || {
        Schema::from(Node {
            kind: Kind::String,
            ..Node::default()
        })
    };
    let mut fields = vec![("apiVersion", text()), ("kind", text())];
    if let Some(meta) = definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        fields.push(("metadata", Schema(Link::Builtin(meta))));
    }
    fields
}

/// The full names of all built-in definitions, in the table's order.
pub fn definition_names() -> impl Iterator<Item = &'static str> {
    TEXT.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, _)| name)
}

/// The JSON text of a definition, with references to `#/components/schemas/`.
pub fn definition_text(name: &str) -> Option<&'static str> {
    definition(name).map(|definition| definition.text)
}

//! Structural schemas: what fields an object has, of which types, and how their lists and maps merge.
//!
//! Built-in kinds come from a table of OpenAPI definitions that is read one definition at a time, when first needed;
//! custom kinds from the `openAPIV3Schema` of their CustomResourceDefinition. Both are the same [`Schema`].

mod builtin;
mod decode;
mod default;
mod parse;
mod prune;
mod read;
mod strict;
mod verify;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

pub use builtin::{definition_names, definition_text};
pub use decode::decode;
pub use default::default;
pub use prune::{normalize, prune};
pub use read::read;
pub use strict::{ParseError, parse, parse_strict};
pub use verify::{check, check_update};

/// A schema: cheap to copy, and read from its table when first looked into.
#[derive(Clone)]
pub struct Schema(Link);

#[derive(Clone)]
enum Link {
    Builtin(&'static builtin::Definition),
    Made(Arc<Node>),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// A format that this crate gives a meaning to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    #[default]
    None,
    Int32,
    Int64,
    Float,
    Double,
    Byte,
    DateTime,
    MicroTime,
    IntOrString,
    Quantity,
}

/// How a list is merged by server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// What is known of a value. See "Specifying a structural schema" and the `x-kubernetes-*` extensions.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The definition's name without its package, as `PodSpec`; empty for anonymous schemas.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The format.
    pub format: Format,
    /// Fields of an object.
    pub properties: BTreeMap<String, Schema>,
    /// Fields that an object must have.
    pub required: Vec<String>,
    /// Items of a list.
    pub items: Option<Schema>,
    /// Entries of a map.
    pub additional: Option<Schema>,
    /// How a list merges.
    pub list_type: ListType,
    /// The fields that identify an item of a list of type map.
    pub list_keys: Vec<String>,
    /// Whether an object or map is owned as one.
    pub map_atomic: bool,
    /// Strategic merge patch merges this list or map.
    pub patch_merge: bool,
    /// Strategic merge patch obeys `$retainKeys` here.
    pub patch_retain_keys: bool,
    /// The field that identifies an item in a strategic merge patch.
    pub merge_key: Option<String>,
    /// Null is a value.
    pub nullable: bool,
    /// Fields that the schema lacks are kept.
    pub preserve_unknown: bool,
    /// An object with apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// Fields whose empty value (no text, zero, false) means the same as their absence.
    pub omitted_when_zero: Vec<&'static str>,
    /// The default.
    pub default: Option<Value>,
    /// The schema as given, for the checks on values that only custom resources have.
    pub limits: Option<Arc<Value>>,
}

impl Deref for Schema {
    type Target = Node;

    fn deref(&self) -> &Node {
        match &self.0 {
            Link::Builtin(definition) => definition.node(),
            Link::Made(node) => node,
        }
    }
}

impl std::fmt::Debug for Schema {
    /// By name where it has one: definitions refer to themselves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Link::Builtin(definition) => f.write_str(definition.name()),
            Link::Made(node) => f
                .debug_struct("Schema")
                .field("kind", &node.kind)
                .field("properties", &node.properties.keys())
                .finish(),
        }
    }
}

impl Schema {
    /// The definition with this full name, as `io.k8s.api.core.v1.Pod`.
    pub fn builtin(name: &str) -> Option<Self> {
        builtin::definition(name).map(|definition| Self(Link::Builtin(definition)))
    }

    /// A schema that takes anything and keeps it.
    pub fn any() -> Self {
        Node {
            preserve_unknown: true,
            ..Node::default()
        }
        .into()
    }

    /// The schema of a custom kind's version: its `openAPIV3Schema` with the object's own fields joined in.
    pub fn custom(open_api_v3: &Value) -> Self {
        let mut node = parse::node(open_api_v3, "");
        node.kind = Kind::Object;
        let object = builtin::meta();
        for (name, schema) in object {
            node.properties.insert(name.to_owned(), schema);
        }
        node.into()
    }

    /// A part of a custom kind's schema, without the object's own fields.
    pub fn part(open_api_v3: &Value) -> Self {
        parse::node(open_api_v3, "").into()
    }

    /// The full name of a built-in definition.
    pub fn definition(&self) -> Option<&'static str> {
        match &self.0 {
            Link::Builtin(definition) => Some(definition.name()),
            Link::Made(_) => None,
        }
    }

    /// The schema of a field or map entry.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_ref())
    }

    /// The schema at a dotted path; `[]` steps into items.
    pub fn at(&self, path: &str) -> Option<&Schema> {
        let mut here = self;
        for step in path.split('.') {
            here = match step {
                "[]" => here.items.as_ref()?,
                name => here.child(name)?,
            };
        }
        Some(here)
    }
}

impl From<Node> for Schema {
    fn from(node: Node) -> Self {
        Self(Link::Made(Arc::new(node)))
    }
}

#[cfg(test)]
mod tests;

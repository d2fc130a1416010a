//! The OpenAPI documents of the server: v2, and v3 for each group version.
//!
//! They carry types, merge keys, kinds and parameters, which is what clients decide by; they carry no prose.

mod paths;
mod protobuf;
mod schemas;

use serde_json::{Map, Value, json};

pub use protobuf::{MEDIA_TYPE, v2_protobuf};

use crate::resources::Resource;

/// The version of the API that is spoken: it stands in the documents and at `/version`.
pub const VERSION: &str = "v1.35.0";

/// Where references lead, and how a few things are said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    V2,
    V3,
}

impl Form {
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The v2 document of all these resources.
pub fn v2(resources: &[&Resource]) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        paths::add(resource, Form::V2, &mut paths);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": schemas::of(resources, Form::V2),
    })
}

/// The v3 document of one group version; of `resources`, those of another one are left out.
pub fn v3(group: &str, version: &str, resources: &[&Resource]) -> Value {
    let own: Vec<&Resource> = resources
        .iter()
        .copied()
        .filter(|r| r.group == group && r.version == version)
        .collect();
    let mut paths = Map::new();
    for resource in &own {
        paths::add(resource, Form::V3, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas::of(&own, Form::V3)},
    })
}

#[cfg(test)]
mod tests;

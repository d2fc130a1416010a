//! The OpenAPI documents of the server: v2, and v3 for each group version.

use serde_json::{Value, json};

use crate::resources::Resource;

/// The v2 document of all these resources.
pub fn v2(_resources: &[&Resource]) -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.35.0"}, "paths": {}, "definitions": {}})
}

/// The v3 document of one group version.
pub fn v3(_group: &str, _version: &str, _resources: &[&Resource]) -> Value {
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.35.0"}, "paths": {}, "components": {"schemas": {}}})
}

//! From parsed JSON to an object of a kind: types checked, unknown fields dropped, canonical, defaults filled in.

use serde_json::Value;

use super::{Schema, decode, normalize, prune};
use crate::defaults;
use crate::resources::Resource;

/// Makes an object of the resource's kind of `object`. Gives the unknown fields that were dropped, as
/// `unknown field "spec.foo"`: the server refuses them, warns of them or is silent, as the client asks.
///
/// # Errors
/// A type that doesn't fit, in the original's words for an answer of 400.
pub fn read(resource: &Resource, object: &mut Value) -> Result<Vec<String>, String> {
    if resource.custom {
        return read_custom(resource, object);
    }
    if let Some(message) = decode(&resource.schema, object) {
        let (kind, version) = (&resource.kind, &resource.version);
        return Err(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {message}"
        ));
    }
    let unknown = prune(&resource.schema, object);
    normalize(&resource.schema, object);
    defaults::apply(resource, object);
    Ok(unknown)
}

/// Of a custom object only the metadata has types here; the rest is validated later, and that answers 422.
fn read_custom(resource: &Resource, object: &mut Value) -> Result<Vec<String>, String> {
    if let Some(meta) = Schema::builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        if let Some(message) = decode(&meta, &object["metadata"]) {
            return Err(format!("failed to decode metadata: {message}"));
        }
        if let Some(metadata) = object.get_mut("metadata") {
            normalize(&meta, metadata);
        }
    }
    let unknown = prune(&resource.schema, object);
    defaults::apply(resource, object);
    Ok(unknown)
}

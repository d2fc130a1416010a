//! The defaults of built-in kinds, filled in when an object is decoded.

use serde_json::Value;

use crate::resources::Resource;

/// Fills in the defaults of the object's kind.
pub fn apply(resource: &Resource, object: &mut Value) {
    if resource.custom {
        crate::schema::default(&resource.schema, object);
    }
}

//! What makes an object invalid: one file per kind, and one for what all have.

pub mod meta;
pub mod names;

use serde_json::Value;

use crate::field::FieldError;
use crate::resources::Resource;

/// Everything wrong with an object that is to be created. Defaults are filled in and the name generated before.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = meta::create(resource, object);
    if resource.custom {
        errors.extend(crate::schema::check(&resource.schema, object));
    }
    errors
}

/// Everything wrong with an object that is to replace another.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if resource.custom {
        errors.extend(crate::schema::check_update(&resource.schema, new, old));
    }
    errors
}

/// Everything wrong with a new status.
pub fn status_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if resource.custom {
        errors.extend(crate::schema::check_update(&resource.schema, new, old));
    }
    errors
}

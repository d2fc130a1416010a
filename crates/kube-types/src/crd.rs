//! CustomResourceDefinitions: the resources they make.

use serde_json::Value;

use crate::resources::Resource;

/// The resources that a definition's served versions make.
pub fn resources(_definition: &Value) -> Vec<Resource> {
    Vec::new()
}

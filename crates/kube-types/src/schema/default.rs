//! Filling in the defaults that a schema states.

use serde_json::Value;

use super::Schema;

/// Sets every absent field that has a default; null counts as absent where it is no value.
pub fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, child) in &schema.properties {
                let Some(default) = &child.default else {
                    continue;
                };
                match map.get_mut(name) {
                    None => {
                        map.insert(name.clone(), default.clone());
                    }
                    Some(slot) if slot.is_null() && !child.nullable => *slot = default.clone(),
                    Some(_) => {}
                }
            }
            let additional_default = schema.additional.as_ref().and_then(|a| a.default.clone());
            for (name, value) in map.iter_mut() {
                if let (true, Some(default)) = (value.is_null(), &additional_default) {
                    *value = default.clone();
                }
                if let Some(child) = schema.child(name) {
                    self::default(child, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    if let (true, false, Some(default)) =
                        (item.is_null(), schema.nullable, &schema.default)
                    {
                        *item = default.clone();
                    }
                    self::default(schema, item);
                }
            }
        }
        _ => {}
    }
}

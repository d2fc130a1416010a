//! allOf, anyOf, oneOf and not.

use serde_json::Value;

use super::super::Schema;
use crate::field::{FieldError, Path, go_quote};

pub(super) fn check(limits: &Value, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let fits = |schema: &Value| faults(schema, value, path).is_empty();
    let mut bad = |detail: String| {
        let shown = if value.is_object() || value.is_array() {
            Value::from("")
        } else {
            value.clone()
        };
        errors.push(FieldError::invalid(path, shown, detail));
    };
    let name = go_quote(&path.to_string());
    if let Some(any) = limits["anyOf"].as_array()
        && !any.iter().any(fits)
    {
        bad(format!("{name} must validate at least one schema (anyOf)"));
    }
    if let Some(one) = limits["oneOf"].as_array() {
        match one.iter().filter(|schema| fits(schema)).count() {
            1 => {}
            0 => bad(format!(
                "{name} must validate one and only one schema (oneOf). Found none valid"
            )),
            n => bad(format!(
                "{name} must validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    if limits["not"].is_object() && fits(&limits["not"]) {
        bad(format!("{name} must not validate the schema (not)"));
    }
    if let Some(all) = limits["allOf"].as_array() {
        let faults: Vec<FieldError> = all
            .iter()
            .flat_map(|schema| faults(schema, value, path))
            .collect();
        if !faults.is_empty() {
            bad(format!("{name} must validate all the schemas (allOf)"));
            errors.extend(faults);
        }
    }
}

/// These schemas are small and rare (value validations only): they are read each time.
fn faults(schema: &Value, value: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    super::visit(&Schema::part(schema), value, *path, &mut errors);
    errors
}

//! The keywords that bound one value: numbers, lengths, patterns, enumerations, formats.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use regex::Regex;
use serde_json::Value;

use super::formats;
use crate::field::{FieldError, FieldErrorKind, Path};

/// A compiled pattern takes at most so many bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn check(limits: &Value, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Number(_) => number(limits, value, path, errors),
        Value::String(text) => string(limits, text, path, errors),
        Value::Array(items) => array(limits, items, path, errors),
        Value::Object(map) => object(limits, map.len(), path, errors),
        _ => {}
    }
    enumeration(limits, value, path, errors);
}

fn number(limits: &Value, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(found) = value.as_f64() else {
        return;
    };
    let mut bad = |detail: String| errors.push(FieldError::invalid(path, value.clone(), detail));
    if let Some(max) = limits["maximum"].as_f64() {
        let limit = &limits["maximum"];
        if limits["exclusiveMaximum"] == true {
            if found >= max {
                bad(format!("{path} in body should be less than {limit}"));
            }
        } else if found > max {
            bad(format!(
                "{path} in body should be less than or equal to {limit}"
            ));
        }
    }
    if let Some(min) = limits["minimum"].as_f64() {
        let limit = &limits["minimum"];
        if limits["exclusiveMinimum"] == true {
            if found <= min {
                bad(format!("{path} in body should be greater than {limit}"));
            }
        } else if found < min {
            bad(format!(
                "{path} in body should be greater than or equal to {limit}"
            ));
        }
    }
    if let Some(of) = limits["multipleOf"].as_f64() {
        let quotient = found / of;
        if of > 0.0 && (quotient - quotient.round()).abs() > 1e-9 {
            bad(format!(
                "{path} in body should be a multiple of {}",
                limits["multipleOf"]
            ));
        }
    }
}

fn string(limits: &Value, text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(max) = limits["maxLength"].as_u64().filter(|max| length > *max) {
        errors.push(FieldError::too_long(
            path,
            usize::try_from(max).unwrap_or(usize::MAX),
        ));
    }
    let mut bad = |detail: String| errors.push(FieldError::invalid(path, text, detail));
    if let Some(min) = limits["minLength"].as_u64().filter(|min| length < *min) {
        bad(format!(
            "{path} in body should be at least {min} chars long"
        ));
    }
    if let Some(pattern) = limits["pattern"].as_str()
        && !compiled(pattern).is_some_and(|regex| regex.is_match(text))
    {
        bad(format!("{path} in body should match '{pattern}'"));
    }
    if let Some(format) = limits["format"].as_str()
        && !formats::fits(format, text)
    {
        let quoted = crate::field::go_quote(text);
        bad(format!("{path} in body must be of type {format}: {quoted}"));
    }
}

fn array(limits: &Value, items: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let length = items.len() as u64;
    if let Some(max) = limits["maxItems"].as_u64().filter(|max| length > *max) {
        errors.push(FieldError::too_many(
            path,
            items.len(),
            usize::try_from(max).unwrap_or(usize::MAX),
        ));
    }
    if let Some(min) = limits["minItems"].as_u64().filter(|min| length < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        errors.push(FieldError::invalid(path, length, detail));
    }
    if limits["uniqueItems"] == true {
        let mut seen = std::collections::HashSet::new();
        if !items.iter().all(|item| seen.insert(item.to_string())) {
            let detail = format!("{path} in body shouldn't contain duplicates");
            errors.push(FieldError::invalid(path, items.to_vec(), detail));
        }
    }
}

fn object(limits: &Value, length: usize, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let max = limits["maxProperties"].as_u64();
    if let Some(max) = max.filter(|max| length as u64 > *max) {
        errors.push(FieldError::too_many(
            path,
            length,
            usize::try_from(max).unwrap_or(usize::MAX),
        ));
    }
    let min = limits["minProperties"].as_u64();
    if let Some(min) = min.filter(|min| (length as u64) < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        errors.push(FieldError::invalid(path, length, detail));
    }
}

fn enumeration(limits: &Value, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(valid) = limits["enum"].as_array() else {
        return;
    };
    if valid.contains(value) {
        return;
    }
    let shown: Vec<String> = valid
        .iter()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        .collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let mut error = FieldError::not_supported(path, value.clone(), &shown);
    error.kind = FieldErrorKind::NotSupported;
    errors.push(error);
}

/// The pattern compiled once; `None` if it is no regular expression or too big.
pub(crate) fn compiled(pattern: &str) -> Option<Regex> {
    static CACHE: LazyLock<Mutex<HashMap<Arc<str>, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut cache = CACHE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(found) = cache.get(pattern) {
        return found.clone();
    }
    // CustomResourceDefinitions come and go: the cache is dropped rather than growing for ever.
    if cache.len() >= 4_096 {
        cache.clear();
    }
    let made = regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .ok();
    cache.insert(pattern.into(), made.clone());
    made
}

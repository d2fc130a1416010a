//! Short ways to note faults.

use std::collections::HashSet;

use serde_json::Value;

use super::names;
use crate::field::{FieldError, Path};
use crate::object;

/// Notes faults in a list of them.
pub(crate) trait Faults {
    /// Notes a fault.
    fn put(&mut self, error: FieldError);

    /// A value is missing.
    fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.put(FieldError::required(path, detail));
    }

    /// A value doesn't fit.
    fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.put(FieldError::invalid(path, value, detail));
    }

    /// A value is none of those that exist.
    fn not_supported(&mut self, path: &Path<'_>, value: &str, valid: &[&str]) {
        self.put(FieldError::not_supported(path, value, valid));
    }

    /// A value is there twice.
    fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.put(FieldError::duplicate(path, value));
    }

    /// A value may not be given.
    fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.put(FieldError::forbidden(path, detail));
    }

    /// A value names nothing.
    fn not_found(&mut self, path: &Path<'_>, value: &str) {
        self.put(FieldError::not_found(path, value));
    }

    /// Each fault that a rule finds in a text.
    fn rule(&mut self, path: &Path<'_>, text: &str, rule: fn(&str) -> Vec<String>) {
        for fault in rule(text) {
            self.invalid(path, text, fault);
        }
    }

    /// A text that must be there and follow a rule.
    fn required_rule(&mut self, path: &Path<'_>, text: &str, rule: fn(&str) -> Vec<String>) {
        if text.is_empty() {
            self.required(path, "");
        } else {
            self.rule(path, text, rule);
        }
    }

    /// A text that must be one of those given.
    fn one_of(&mut self, path: &Path<'_>, text: &str, valid: &[&str]) {
        if text.is_empty() {
            self.required(path, "");
        } else if !valid.contains(&text) {
            self.not_supported(path, text, valid);
        }
    }

    /// A text that may be absent, or must be one of those given.
    fn optional_one_of(&mut self, path: &Path<'_>, value: &Value, valid: &[&str]) {
        if let Some(text) = value.as_str().filter(|text| !valid.contains(text)) {
            self.not_supported(path, text, valid);
        }
    }

    /// A number that may not be below zero.
    fn not_negative(&mut self, path: &Path<'_>, value: &Value) {
        if let Some(number) = value.as_i64().filter(|n| *n < 0) {
            self.invalid(path, number, "must be greater than or equal to 0");
        }
    }

    /// A field that may not change.
    fn immutable(&mut self, path: &Path<'_>, new: &Value, old: &Value) {
        if !object::same(Some(new), Some(old)) {
            self.invalid(path, new.clone(), "field is immutable");
        }
    }

    /// An address of either family.
    fn ip(&mut self, path: &Path<'_>, text: &str) {
        if text.parse::<std::net::IpAddr>().is_err() {
            self.invalid(
                path,
                text,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }

    /// A range of addresses.
    fn cidr(&mut self, path: &Path<'_>, text: &str) {
        if !is_cidr(text) {
            self.invalid(
                path,
                text,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }

    /// A port by number or name.
    fn port(&mut self, path: &Path<'_>, port: &Value) {
        match port {
            Value::String(name) => self.rule(path, name, names::port_name),
            other => {
                let number = other.as_i64().unwrap_or_default();
                for fault in names::port_number(number) {
                    self.invalid(path, number, fault);
                }
            }
        }
    }
}

impl Faults for Vec<FieldError> {
    fn put(&mut self, error: FieldError) {
        self.push(error);
    }
}

/// Whether a text is an address and a length of its prefix.
pub(crate) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_ipv4() => 32,
        Ok(_) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

/// A set that tells whether a text is new.
#[derive(Default)]
pub(crate) struct Seen<'a>(HashSet<&'a str>);

impl<'a> Seen<'a> {
    /// Whether the text was there before; it is from now on.
    pub(crate) fn twice(&mut self, text: &'a str) -> bool {
        !self.0.insert(text)
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

/// The conditions of a label selector object.
pub(crate) fn label_selector(selector: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    super::meta::labels(&selector["matchLabels"], &path.field("matchLabels"), out);
    let expressions = path.field("matchExpressions");
    for (index, expression) in object::list(selector, "matchExpressions")
        .iter()
        .enumerate()
    {
        let at = expressions.index(index);
        let values = object::list(expression, "values");
        match object::text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                out.required(
                    &at.field("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                out.forbidden(
                    &at.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Exists" | "DoesNotExist" => {}
            other => out.invalid(
                &at.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        out.rule(
            &at.field("key"),
            object::text(expression, "key"),
            names::qualified_name,
        );
        for (index, value) in values.iter().enumerate() {
            let list = at.field("values");
            out.rule(
                &list.index(index),
                value.as_str().unwrap_or_default(),
                names::label_value,
            );
        }
    }
}

/// Whether a path stays below where it starts: relative, without `..`.
pub(crate) fn descending(text: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text.starts_with('/') {
        out.invalid(path, text, "must be a relative path");
    }
    backsteps(text, path, out);
}

/// `..` may not be a step of a path.
pub(crate) fn backsteps(text: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text.split('/').any(|step| step == "..") {
        out.invalid(path, text, "must not contain '..'");
    }
}

//! Selecting objects by the few fields that each kind offers.

use serde_json::Value;

use super::{LENGTH_MAX, SelectorError};
use crate::object;
use crate::resources::Resource;

/// Conditions on fields that all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Reads the text form, as `metadata.name=a,status.phase!=Failed`. `\\`, `\,` and `\=` stand for themselves.
    ///
    /// # Errors
    /// The text is no selector, with the original's words.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > LENGTH_MAX {
            return Err(SelectorError(format!(
                "the selector is longer than {LENGTH_MAX} bytes"
            )));
        }
        let mut terms = Vec::new();
        for term in split(text, ',') {
            if term.is_empty() {
                continue;
            }
            let bad = || {
                SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ))
            };
            let at = unescaped(term, '=').ok_or_else(bad)?;
            let (field, value) = (&term[..at], &term[at + 1..]);
            let (field, equal, value) = if let Some(field) = field.strip_suffix('!') {
                (field, false, value)
            } else {
                (field, true, value.strip_prefix('=').unwrap_or(value))
            };
            terms.push((field.to_owned(), equal, unescape(value)?));
        }
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The conditions: field, whether it must be equal (or else unequal), value.
    pub fn terms(&self) -> &[(String, bool, String)] {
        &self.terms
    }

    /// The value that the field must have, if the selector asks for exactly one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|(f, equal, _)| *equal && f == field)
            .map(|(_, _, value)| value.as_str())
    }

    /// Refuses fields that the resource doesn't offer, in the original's words.
    ///
    /// # Errors
    /// `field label not supported: …`
    pub fn check(&self, resource: &Resource) -> Result<(), SelectorError> {
        let supported = supported_fields(resource);
        let plain = !resource.custom && own_fields(&resource.group, &resource.plural).is_empty();
        for (field, _, _) in &self.terms {
            if supported.iter().any(|s| s == field) {
                continue;
            }
            return Err(SelectorError(if plain {
                let name = crate::field::go_quote(field);
                format!(
                    "{name} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(())
    }

    /// Whether an object is selected.
    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|(field, equal, value)| (field_value(resource, object, field) == *value) == *equal)
    }
}

/// The fields that may be selected by.
pub fn supported_fields(resource: &Resource) -> Vec<String> {
    let mut fields = vec!["metadata.name".to_owned()];
    if resource.namespaced {
        fields.push("metadata.namespace".to_owned());
    }
    let own: &[&str] = if resource.custom {
        let custom = resource
            .selectable_fields
            .iter()
            .map(|f| f.trim_start_matches('.').to_owned());
        fields.extend(custom);
        &[]
    } else {
        own_fields(&resource.group, &resource.plural)
    };
    fields.extend(own.iter().map(|&f| f.to_owned()));
    fields
}

fn own_fields(group: &str, plural: &str) -> &'static [&'static str] {
    match (group, plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase", "name"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") => &["status.replicas"],
        ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

/// The text of a field that selectors may name; empty for an absent one.
pub fn field_value(resource: &Resource, object: &Value, field: &str) -> String {
    let plain = |path: &str| match object::at(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let or = |text: String, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text
        }
    };
    match (resource.plural.as_str(), field) {
        ("nodes", "spec.unschedulable") | ("pods", "spec.hostNetwork") => or(plain(field), "false"),
        ("namespaces", "name") => plain("metadata.name"),
        ("replicationcontrollers" | "replicasets", "status.replicas") => or(plain(field), "0"),
        ("jobs", "status.successful") => or(plain("status.succeeded"), "0"),
        ("pods", "status.podIPs") => object::list(object, "status.podIPs")
            .iter()
            .filter_map(|ip| ip["ip"].as_str())
            .collect::<Vec<_>>()
            .join(","),
        ("events", "source") => or(plain("source.component"), &plain("reportingComponent")),
        ("events", "reportingComponent") => or(plain(field), &plain("source.component")),
        _ => plain(field),
    }
}

fn split(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(end) = unescaped(rest, at) {
        parts.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    parts.push(rest);
    parts
}

/// The position of a sign that no backslash precedes.
fn unescaped(text: &str, sign: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == sign {
            return Some(at);
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let shown: String = other.into_iter().collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{shown}"
                    )));
                }
            },
            '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {text}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

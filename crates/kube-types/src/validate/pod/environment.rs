//! Environment variables and where their values come from.

use serde_json::Value;

use super::super::faults::{Faults, descending};
use super::super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, list, text};

/// Fields that a variable may take its value from.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn variables(container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let here = path.index(index);
        out.required_rule(
            &here.field("name"),
            text(variable, "name"),
            names::environment_name,
        );
        value_from(variable, &here.field("valueFrom"), out);
    }
}

fn value_from(variable: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let Some(source) = at(variable, "valueFrom") else {
        return;
    };
    let mut sources = 0;
    if let Some(found) = at(source, "fieldRef") {
        sources += 1;
        field(found, &FIELDS, &path.field("fieldRef"), out);
    }
    if let Some(found) = at(source, "resourceFieldRef") {
        sources += 1;
        resource_field(found, false, &path.field("resourceFieldRef"), out);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(found) = at(source, name) {
            sources += 1;
            let here = path.field(name);
            out.rule(
                &here.field("name"),
                text(found, "name"),
                names::dns1123_subdomain,
            );
            out.required_rule(
                &here.field("key"),
                text(found, "key"),
                names::config_map_key,
            );
        }
    }
    if let Some(found) = at(source, "fileKeyRef") {
        sources += 1;
        let here = path.field("fileKeyRef");
        out.required_rule(
            &here.field("key"),
            text(found, "key"),
            names::environment_name,
        );
        for name in ["volumeName", "path"] {
            if text(found, name).is_empty() {
                out.required(&here.field(name), "");
            }
        }
        descending(text(found, "path"), &here.field("path"), out);
    }
    if sources == 0 {
        out.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !text(variable, "value").is_empty() {
        out.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        out.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        );
    }
}

/// A field of the pod itself.
pub(super) fn field(reference: &Value, known: &[&str], path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text(reference, "apiVersion").is_empty() {
        return out.required(&path.field("apiVersion"), "");
    }
    let found = text(reference, "fieldPath");
    if found.is_empty() {
        return out.required(&path.field("fieldPath"), "");
    }
    let subscript = found.strip_suffix("']").and_then(|f| f.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            out.rule(path, &key.to_lowercase(), names::qualified_name)
        }
        Some(("metadata.labels", key)) => out.rule(path, key, names::qualified_name),
        Some((field, _)) => out.invalid(path, field, "does not support subscript"),
        None if known.contains(&found) => {}
        None if matches!(found, "metadata.labels" | "metadata.annotations") => {
            out.not_supported(&path.field("fieldPath"), found, known);
        }
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {found}");
            out.invalid(&path.field("fieldPath"), found, detail);
        }
    }
}

/// A request or limit of a container.
pub(super) fn resource_field(
    reference: &Value,
    in_volume: bool,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(reference, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|p| resource.starts_with(p));
    if in_volume && text(reference, "containerName").is_empty() {
        out.required(&path.field("containerName"), "");
    } else if resource.is_empty() {
        out.required(&path.field("resource"), "");
    } else if !KNOWN.contains(&resource) && !huge {
        out.not_supported(&path.field("resource"), resource, &KNOWN);
    }
}

pub(super) fn sources(container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let here = path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            out.rule(&here.field("prefix"), prefix, names::environment_name);
        }
        let mut found = 0;
        for name in ["configMapRef", "secretRef"] {
            if let Some(reference) = at(source, name) {
                found += 1;
                let place = here.field(name);
                out.required_rule(
                    &place.field("name"),
                    text(reference, "name"),
                    names::dns1123_subdomain,
                );
            }
        }
        match found {
            0 => out.invalid(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => out.invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

//! The metadata that every object has.

use serde_json::Value;

use super::names;
use crate::field::{FieldError, Path, go_quote};
use crate::object;
use crate::resources::Resource;

/// Keys and values of all annotations together: bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Checks the metadata of an object that is to be created.
pub fn create(resource: &Resource, value: &Value) -> Vec<FieldError> {
    let root = Path::new("metadata");
    let mut errors = Vec::new();
    let meta = &value["metadata"];
    let rule = name_rule(resource);
    let generate = object::text(meta, "generateName");
    if !generate.is_empty() {
        for fault in names::generated(rule, generate) {
            errors.push(FieldError::invalid(
                &root.field("generateName"),
                generate,
                fault,
            ));
        }
    }
    let name = object::text(meta, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            &root.field("name"),
            "name or generateName is required",
        ));
    } else {
        for fault in rule(name) {
            errors.push(FieldError::invalid(&root.field("name"), name, fault));
        }
    }
    let namespace = object::text(meta, "namespace");
    let at = root.field("namespace");
    if !resource.namespaced {
        if !namespace.is_empty() {
            errors.push(FieldError::forbidden(&at, "not allowed on this type"));
        }
    } else if namespace.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(
            names::dns1123_label(namespace)
                .into_iter()
                .map(|f| FieldError::invalid(&at, namespace, f)),
        );
    }
    if let Some(generation) = object::int(meta, "generation").filter(|g| *g < 0) {
        errors.push(FieldError::invalid(
            &root.field("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
    either(meta, &mut errors);
    errors
}

/// Checks the metadata of an object that is to replace another.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let root = Path::new("metadata");
    let mut errors = Vec::new();
    let (new, old) = (&new["metadata"], &old["metadata"]);
    if object::at(old, "deletionTimestamp").is_some() {
        let had = object::list(old, "finalizers");
        let mut added: Vec<&str> = object::list(new, "finalizers")
            .iter()
            .filter(|f| !had.contains(f))
            .filter_map(Value::as_str)
            .collect();
        added.sort_unstable();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| go_quote(f)).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            errors.push(FieldError::forbidden(&root.field("finalizers"), detail));
        }
    }
    if object::text(new, "resourceVersion").is_empty() {
        errors.push(FieldError::invalid(
            &root.field("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    let generation = object::int(new, "generation").unwrap_or_default();
    if generation < object::int(old, "generation").unwrap_or_default() {
        errors.push(FieldError::invalid(
            &root.field("generation"),
            generation,
            "must not be decremented",
        ));
    }
    let fixed = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fixed {
        immutable(&root.field(field), &new[field], &old[field], &mut errors);
    }
    either(new, &mut errors);
    errors
}

/// Notes a field that may not change but did.
pub fn immutable(path: &Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if !object::same(Some(new), Some(old)) {
        errors.push(FieldError::invalid(path, new.clone(), "field is immutable"));
    }
}

/// What holds for new and for changed objects.
fn either(meta: &Value, errors: &mut Vec<FieldError>) {
    let root = Path::new("metadata");
    labels(&meta["labels"], &root.field("labels"), errors);
    annotations(&meta["annotations"], &root.field("annotations"), errors);
    owners(
        &meta["ownerReferences"],
        &root.field("ownerReferences"),
        errors,
    );
    finalizers(&meta["finalizers"], &root.field("finalizers"), errors);
    managed(&meta["managedFields"], &root.field("managedFields"), errors);
}

/// Keys and values of a map of labels.
pub fn labels(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        errors.extend(
            names::qualified_name(key)
                .into_iter()
                .map(|f| FieldError::invalid(path, key.as_str(), f)),
        );
        let text = value.as_str().unwrap_or_default();
        errors.extend(
            names::label_value(text)
                .into_iter()
                .map(|f| FieldError::invalid(path, text, f)),
        );
    }
}

/// Keys of annotations, and the size of all.
pub fn annotations(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in value.as_object().into_iter().flatten() {
        let faults = names::qualified_name(&key.to_lowercase());
        errors.extend(
            faults
                .into_iter()
                .map(|f| FieldError::invalid(path, key.as_str(), f)),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
}

fn owners(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut controller: Option<String> = None;
    for owner in value.as_array().into_iter().flatten() {
        let api_version = object::text(owner, "apiVersion");
        let (group, version) = crate::resources::split_api_version(api_version);
        if version.is_empty() {
            errors.push(FieldError::invalid(
                &path.field("apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if object::text(owner, field).is_empty() {
                errors.push(FieldError::invalid(
                    &path.field(field),
                    "",
                    "must not be empty",
                ));
            }
        }
        let kind = object::text(owner, "kind");
        if (group, version, kind) == ("", "v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if object::flag(owner, "controller") {
            let name = format!("{kind}/{}", object::text(owner, "name"));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.push(FieldError::invalid(path, value.clone(), detail));
            } else {
                controller = Some(name);
            }
        }
    }
}

fn finalizers(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let list: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in &list {
        errors.extend(
            names::qualified_name(name)
                .into_iter()
                .map(|f| FieldError::invalid(path, *name, f)),
        );
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, value.clone(), detail));
    }
}

fn managed(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, entry) in value.as_array().into_iter().flatten().enumerate() {
        let at = path.index(index);
        let operation = object::text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(
                &at.field("operation"),
                operation,
                "must be `Apply` or `Update`",
            ));
        }
        let fields_type = object::text(entry, "fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.push(FieldError::invalid(
                &at.field("fieldsType"),
                fields_type,
                "must be `FieldsV1`",
            ));
        }
        field_manager(object::text(entry, "manager"), &at.field("manager"), errors);
        if object::text(entry, "subresource").len() > 256 {
            errors.push(FieldError::too_long(&at.field("subresource"), 256));
        }
    }
}

/// A field manager's name: at most 128 bytes, printable.
pub fn field_manager(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.len() > 128 {
        errors.push(FieldError::too_long(path, 128));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", c as u32);
        errors.push(FieldError::invalid(path, name, detail));
    }
}

/// The form that names of a resource's objects have.
pub fn name_rule(resource: &Resource) -> fn(&str) -> Vec<String> {
    if resource.custom {
        return names::dns1123_subdomain;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => names::dns1123_label,
        ("", "services") => names::dns1035_label,
        ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io", _) => names::path_segment,
        ("networking.k8s.io", "ipaddresses") => canonical_ip,
        ("apiextensions.k8s.io", _) => names::dns1123_subdomain,
        ("", "replicationcontrollers") | ("apps", "replicasets") => names::dns1123_subdomain,
        _ => names::dns1123_subdomain,
    }
}

fn canonical_ip(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == text => Vec::new(),
        _ => vec!["must be a valid IP address in canonical form".to_owned()],
    }
}

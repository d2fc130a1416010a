//! Roles and their bindings.

use serde_json::Value;

use super::faults::{Faults, label_selector};
use super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, list, same, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A Role or ClusterRole.
pub fn role(object: &Value, namespaced: bool, out: &mut Vec<FieldError>) {
    let root = Path::new("rules");
    for (index, rule) in list(object, "rules").iter().enumerate() {
        policy_rule(rule, namespaced, &root.index(index), out);
    }
    if let Some(aggregation) = at(object, "aggregationRule") {
        let root = Path::new("aggregationRule");
        let place = root.field("clusterRoleSelectors");
        let selectors = list(aggregation, "clusterRoleSelectors");
        if selectors.is_empty() {
            out.required(
                &place,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            label_selector(selector, &place.index(index), out);
        }
    }
}

fn policy_rule(rule: &Value, namespaced: bool, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let empty = |field: &str| list(rule, field).is_empty();
    if empty("verbs") {
        out.required(
            &path.field("verbs"),
            "verbs must contain at least one value",
        );
    }
    if !empty("nonResourceURLs") {
        let place = path.field("nonResourceURLs");
        let shown = rule["nonResourceURLs"].clone();
        if namespaced {
            out.invalid(
                &place,
                shown.clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
            out.invalid(
                &place,
                shown,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if empty("apiGroups") {
        out.required(
            &path.field("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if empty("resources") {
        out.required(
            &path.field("resources"),
            "resource rules must supply at least one resource",
        );
    }
}

/// A RoleBinding or ClusterRoleBinding.
pub fn binding(object: &Value, namespaced: bool, out: &mut Vec<FieldError>) {
    let root = Path::new("roleRef");
    let group = text(object, "roleRef.apiGroup");
    if group != GROUP {
        out.not_supported(&root.field("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let kind = text(object, "roleRef.kind");
    if !kinds.contains(&kind) {
        out.not_supported(&root.field("kind"), kind, kinds);
    }
    out.required_rule(
        &root.field("name"),
        text(object, "roleRef.name"),
        names::path_segment,
    );
    let root = Path::new("subjects");
    for (index, subject) in list(object, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &root.index(index), out);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        out.required(&path.field("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                out.rule(&path.field("name"), name, names::dns1123_subdomain);
            }
            if !group.is_empty() {
                out.not_supported(&path.field("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                out.required(&path.field("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                out.not_supported(&path.field("apiGroup"), group, &[GROUP]);
            }
        }
        other => out.not_supported(
            &path.field("kind"),
            other,
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

/// What of a binding may change.
pub fn binding_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    if !same(new.get("roleRef"), old.get("roleRef")) {
        out.invalid(
            &Path::new("roleRef"),
            new["roleRef"].clone(),
            "cannot change roleRef",
        );
    }
}

//! Requests, limits and claims.

use std::collections::HashSet;

use serde_json::Value;

use super::super::faults::{Faults, Seen};
use super::super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, list, map, text};
use crate::quantity::Quantity;

/// A list of amounts: names, and nothing below zero.
pub fn amounts(amounts: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (name, amount) in amounts.as_object().into_iter().flatten() {
        let here = path.key(name);
        resource_name(name, &here, out);
        quantity(name, amount, &here, out);
    }
}

fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
        || name.starts_with("hugepages-")
        || name.starts_with("requests.")
        || name.starts_with("limits.")
        || matches!(
            name,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        )
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// The name of a resource: a known one, or one with a domain.
pub(crate) fn resource_name(name: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let faults = names::qualified_name(name);
    if !faults.is_empty() {
        return out.rule(path, name, names::qualified_name);
    }
    if !name.contains('/') && !is_standard(name) {
        out.invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        );
    }
}

fn container_resource(name: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let before = out.len();
    resource_name(name, path, out);
    if name.contains('/') {
        let quota_name = format!("requests.{name}");
        let extended = !is_native(name)
            && !name.starts_with("requests.")
            && names::qualified_name(&quota_name).is_empty();
        if !is_native(name) && !extended {
            out.invalid(path, name, "doesn't follow extended resource name standard");
        }
    } else if !matches!(name, "cpu" | "memory" | "ephemeral-storage")
        && !name.starts_with("hugepages-")
    {
        out.invalid(path, name, "must be a standard resource for containers");
    }
    let _ = before;
}

fn quantity(name: &str, amount: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let Ok(found) = Quantity::from_value(amount) else {
        return;
    };
    if found.sign().is_lt() {
        out.invalid(
            path,
            found.to_string(),
            "must be greater than or equal to 0",
        );
    }
    if !is_native(name) && found.milli_value() % 1_000 != 0 {
        out.invalid(path, found.to_string(), "must be an integer");
    }
}

/// Requests and limits of a container or pod.
pub(crate) fn requirements(
    resources: &Value,
    claims: &HashSet<&str>,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let (limits, requests) = (path.field("limits"), path.field("requests"));
    let is_huge = |name: &str| name.starts_with("hugepages-");
    let (mut plain, mut huge) = (false, false);
    for (name, amount) in map(resources, "limits") {
        container_resource(name, &limits.key(name), out);
        quantity(name, amount, &limits.key(name), out);
        plain |= matches!(name.as_str(), "cpu" | "memory");
        huge |= is_huge(name);
    }
    for (name, amount) in map(resources, "requests") {
        container_resource(name, &requests.key(name), out);
        quantity(name, amount, &requests.key(name), out);
        plain |= matches!(name.as_str(), "cpu" | "memory");
        huge |= is_huge(name);
        let overcommit = is_native(name) && !is_huge(name);
        let Ok(asked) = Quantity::from_value(amount) else {
            continue;
        };
        match resources["limits"]
            .get(name)
            .and_then(|l| Quantity::from_value(l).ok())
        {
            Some(limit) if asked != limit && !overcommit => {
                out.invalid(
                    &requests,
                    asked.to_string(),
                    format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if asked > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                out.invalid(&requests, asked.to_string(), detail);
            }
            None if !overcommit => {
                out.required(
                    &limits,
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
    if huge && !plain {
        out.forbidden(path, "HugePages require cpu or memory");
    }
    let place = path.field("claims");
    let mut seen = HashSet::new();
    for (index, claim) in list(resources, "claims").iter().enumerate() {
        let here = place.index(index);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            out.required(&here.field("name"), "");
        } else if !seen.insert((name, request)) {
            out.duplicate(&here, name);
        } else if !claims.contains(name) {
            out.not_found(&here.field("name"), name);
        }
    }
}

/// What happens to a container when its resources change.
pub(super) fn resize(container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = Seen::default();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let here = path.index(index);
        let name = text(policy, "resourceName");
        if seen.twice(name) {
            out.duplicate(&here, name);
        }
        out.one_of(&here.field("resourceName"), name, &["cpu", "memory"]);
        let policies = ["NotRequired", "RestartContainer"];
        out.one_of(
            &here.field("restartPolicy"),
            text(policy, "restartPolicy"),
            &policies,
        );
    }
}

/// The names of a pod's claims.
pub(super) fn claim_names(spec: &Value) -> HashSet<&str> {
    list(spec, "resourceClaims")
        .iter()
        .map(|c| text(c, "name"))
        .filter(|n| !n.is_empty())
        .collect()
}

/// A pod's claims of devices.
pub(super) fn claims(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = Seen::default();
    for (index, claim) in list(spec, "resourceClaims").iter().enumerate() {
        let here = path.index(index);
        let name = text(claim, "name");
        if seen.has(name) {
            out.duplicate(&here.field("name"), name);
        } else {
            out.required_rule(&here.field("name"), name, names::dns1123_label);
            seen.twice(name);
        }
        let (direct, template) = (
            at(claim, "resourceClaimName"),
            at(claim, "resourceClaimTemplateName"),
        );
        match (direct, template) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                out.invalid(&here, claim.clone(), detail);
            }
            (None, None) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                out.invalid(&here, claim.clone(), detail);
            }
            _ => {}
        }
    }
}

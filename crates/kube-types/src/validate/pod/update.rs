//! What of a pod may change, and through which subresource.

use serde_json::Value;

use super::super::faults::Faults;
use super::super::names;
use super::whole;
use crate::field::{FieldError, Path, go_quote};
use crate::object::{at, int, list, same, text};

const MAY_CHANGE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod that replaces another.
pub fn update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    whole(new, out);
    let path = Path::new("spec");
    for field in ["containers", "initContainers"] {
        if containers(&new["spec"], &old["spec"], field, &path.field(field), out) {
            return;
        }
    }
    if deadline(
        &new["spec"],
        &old["spec"],
        &path.field("activeDeadlineSeconds"),
        out,
    ) {
        return;
    }
    added_tolerations(&new["spec"], &old["spec"], &path.field("tolerations"), out);
    removed_gates(
        &new["spec"],
        &old["spec"],
        &path.field("schedulingGates"),
        out,
    );
    let kept = with_free_fields(&new["spec"], &old["spec"]);
    if !same(Some(&kept), Some(&old["spec"])) {
        let changed: Vec<&str> = kept
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .chain(
                old["spec"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.as_str()),
            )
            .filter(|name| !same(kept.get(*name), old["spec"].get(*name)))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let detail = format!(
            "pod updates may not change fields other than {MAY_CHANGE}\nchanged: {}",
            changed.join(", ")
        );
        out.forbidden(&path, &detail);
    }
}

/// Tells whether nothing more is worth checking.
fn containers(
    new: &Value,
    old: &Value,
    field: &str,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) -> bool {
    let (new, old) = (list(new, field), list(old, field));
    if new.len() != old.len() {
        out.forbidden(path, "pod updates may not add or remove containers");
        return true;
    }
    for (index, container) in new.iter().enumerate() {
        let image = text(container, "image");
        if image.trim() != image {
            let here = path.index(index);
            out.invalid(
                &here.field("image"),
                image,
                "must not have leading or trailing whitespace",
            );
        }
    }
    false
}

fn deadline(new: &Value, old: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) -> bool {
    let (new, old) = (
        int(new, "activeDeadlineSeconds"),
        int(old, "activeDeadlineSeconds"),
    );
    match (new, old) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            out.invalid(path, new, names::range(0, i64::from(i32::MAX)));
            true
        }
        (Some(new), Some(old)) if old < new => {
            out.invalid(path, new, "must be less than or equal to previous value");
            true
        }
        (None, Some(_)) => {
            out.invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
            false
        }
        _ => false,
    }
}

fn added_tolerations(new: &Value, old: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let plain = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.shift_remove("tolerationSeconds");
        }
        toleration
    };
    let now: Vec<Value> = list(new, "tolerations").iter().map(plain).collect();
    if !list(old, "tolerations")
        .iter()
        .all(|t| now.contains(&plain(t)))
    {
        out.forbidden(
            path,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn removed_gates(new: &Value, old: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let before = list(old, "schedulingGates");
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !before.iter().any(|g| text(g, "name") == name) {
            let here = path.index(index);
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            out.forbidden(&here.field("name"), &detail);
        }
    }
}

/// The new specification with the old one's values where a change is allowed.
fn with_free_fields(new: &Value, old: &Value) -> Value {
    let mut kept = new.clone();
    for field in ["containers", "initContainers"] {
        let before = list(old, field).to_vec();
        for (container, before) in kept[field].as_array_mut().into_iter().flatten().zip(before) {
            container["image"] = before["image"].clone();
        }
        if list(&kept, field).is_empty() {
            crate::object::carry(&mut kept, old, field);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        crate::object::carry(&mut kept, old, field);
    }
    let (was, is) = (
        int(old, "terminationGracePeriodSeconds"),
        int(new, "terminationGracePeriodSeconds"),
    );
    if was.is_some_and(|was| was < 0) && is == Some(1) {
        crate::object::carry(&mut kept, old, "terminationGracePeriodSeconds");
    }
    if !list(old, "schedulingGates").is_empty() {
        crate::object::carry(&mut kept, old, "nodeSelector");
        let affinity = old["affinity"].get("nodeAffinity").cloned();
        match (affinity, kept["affinity"].as_object_mut()) {
            (Some(affinity), Some(kept)) => {
                kept.insert("nodeAffinity".to_owned(), affinity);
            }
            (Some(affinity), None) => {
                kept["affinity"] = serde_json::json!({"nodeAffinity": affinity})
            }
            (None, Some(kept)) => {
                kept.shift_remove("nodeAffinity");
            }
            (None, None) => {}
        }
    }
    kept
}

/// A pod's new status.
pub fn status_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let path = Path::new("status");
    let conditions = path.field("conditions");
    for (index, condition) in list(new, "status.conditions").iter().enumerate() {
        let here = conditions.index(index);
        let name = text(condition, "type");
        let system = [
            "PodScheduled",
            "Ready",
            "Initialized",
            "ContainersReady",
            "DisruptionTarget",
            "PodReadyToStartContainers",
        ];
        if !system.contains(&name) {
            out.rule(&here.field("Type"), name, names::qualified_name);
        }
    }
    let nominated = text(new, "status.nominatedNodeName");
    if nominated != text(old, "status.nominatedNodeName") && !nominated.is_empty() {
        out.rule(
            &path.field("nominatedNodeName"),
            nominated,
            names::dns1123_subdomain,
        );
    }
    out.immutable(
        &path.field("qosClass"),
        &new["status"]["qosClass"],
        &old["status"]["qosClass"],
    );
    for (list_name, specs) in [
        ("containerStatuses", "spec.containers"),
        ("initContainerStatuses", "spec.initContainers"),
    ] {
        let place = path.field(list_name);
        transitions(new, old, list_name, specs, &place, out);
    }
    let ips = path.field("podIPs");
    let mut seen = super::Seen::default();
    for (index, ip) in list(new, "status.podIPs").iter().enumerate() {
        let here = ips.index(index);
        out.ip(&here, text(ip, "ip"));
        if seen.twice(text(ip, "ip")) {
            out.duplicate(&here, ip.clone());
        }
    }
}

/// A container that ended for good may not run again.
fn transitions(
    new: &Value,
    old: &Value,
    field: &str,
    specs: &str,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let policy = text(old, "spec.restartPolicy");
    if policy == "Always" {
        return;
    }
    for (index, status) in list(&old["status"], field).iter().enumerate() {
        let Some(ended) = at(status, "state.terminated") else {
            continue;
        };
        let failed = int(ended, "exitCode").unwrap_or_default() != 0;
        let name = text(status, "name");
        let own = list(old, specs)
            .iter()
            .any(|c| text(c, "name") == name && at(c, "restartPolicy").is_some());
        if own || failed && policy == "OnFailure" {
            continue;
        }
        let now = list(&new["status"], field)
            .iter()
            .find(|s| text(s, "name") == name);
        if now.is_some_and(|now| at(now, "state.terminated").is_none()) {
            let here = path.index(index);
            out.forbidden(
                &here.field("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}

/// Ephemeral containers may only be added.
pub fn ephemeral_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    whole(new, out);
    let spec = Path::new("spec");
    let path = spec.field("ephemeralContainers");
    for before in list(old, "spec.ephemeralContainers") {
        let name = text(before, "name");
        match list(new, "spec.ephemeralContainers")
            .iter()
            .find(|c| text(c, "name") == name)
        {
            None => {
                let detail = format!(
                    "existing ephemeral containers {} may not be removed\n",
                    go_quote(name)
                );
                out.forbidden(&path, &detail);
            }
            Some(now) if !same(Some(now), Some(before)) => {
                let detail = format!(
                    "existing ephemeral containers {} may not be changed\n",
                    go_quote(name)
                );
                out.forbidden(&path, &detail);
            }
            Some(_) => {}
        }
    }
}

/// Only cpu and memory of containers may change through `resize`.
pub fn resize_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    whole(new, out);
    let path = Path::new("spec");
    let class = crate::strategy::quality_of_service;
    if class(new) != class(old) {
        out.invalid(
            &path,
            class(new),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let mut kept = new["spec"].clone();
    for field in ["containers", "initContainers"] {
        let before = list(&old["spec"], field).to_vec();
        if list(&kept, field).len() != before.len() {
            out.forbidden(
                &path.field(field),
                "pod resize may not add or remove containers",
            );
            return;
        }
        for (container, before) in kept[field].as_array_mut().into_iter().flatten().zip(before) {
            crate::object::carry(container, &before, "resources");
        }
        if list(&kept, field).is_empty() {
            crate::object::carry(&mut kept, &old["spec"], field);
        }
    }
    crate::object::carry(&mut kept, &old["spec"], "resources");
    if !same(Some(&kept), Some(&old["spec"])) {
        out.forbidden(&path, "only cpu and memory resources are mutable");
    }
}

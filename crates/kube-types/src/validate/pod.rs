//! Pods and pod templates.

mod container;
mod environment;
mod probe;
mod resources;
mod scheduling;
mod security;
mod update;
mod volume;

use serde_json::Value;

use super::faults::{Faults, Seen};
use super::{meta, names};
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};

pub use resources::amounts;
pub use scheduling::{node_selector, taint_effect};
pub use update::{ephemeral_update, resize_update, status_update, update};

pub(crate) use resources::resource_name;

/// A new pod.
pub fn create(pod: &Value, out: &mut Vec<FieldError>) {
    whole(pod, out);
    let root = Path::new("spec");
    if !list(pod, "spec.ephemeralContainers").is_empty() {
        out.forbidden(
            &root.field("ephemeralContainers"),
            "cannot be set on create",
        );
    }
    if !text(pod, "spec.nodeName").is_empty() && !list(pod, "spec.schedulingGates").is_empty() {
        out.forbidden(
            &root.field("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

fn whole(pod: &Value, out: &mut Vec<FieldError>) {
    spec(&pod["spec"], &Path::new("spec"), out);
}

/// A template of pods.
pub fn template(template: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    meta::labels(&template["metadata"]["labels"], &path.field("labels"), out);
    meta::annotations(
        &template["metadata"]["annotations"],
        &path.field("annotations"),
        out,
    );
    let spec_path = path.field("spec");
    spec(&template["spec"], &spec_path, out);
    if !list(template, "spec.ephemeralContainers").is_empty() {
        out.forbidden(
            &spec_path.field("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// What a pod is made of.
fn spec(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if int(spec, "terminationGracePeriodSeconds").is_none() {
        out.required(&path.field("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(spec, &path.field("volumes"), out);
    let claims = resources::claim_names(spec);
    resources::claims(spec, &path.field("resourceClaims"), out);
    let context = container::Context {
        spec,
        volumes,
        claims,
    };
    container::main(&context, &path.field("containers"), out);
    container::init(&context, &path.field("initContainers"), out);
    container::ephemeral(&context, &path.field("ephemeralContainers"), out);
    let policies = ["Always", "OnFailure", "Never"];
    out.one_of(
        &path.field("restartPolicy"),
        text(spec, "restartPolicy"),
        &policies,
    );
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    out.one_of(&path.field("dnsPolicy"), text(spec, "dnsPolicy"), &dns);
    meta::labels(&spec["nodeSelector"], &path.field("nodeSelector"), out);
    security::pod(spec, path, out);
    scheduling::affinity(&spec["affinity"], &path.field("affinity"), out);
    dns_config(spec, &path.field("dnsConfig"), out);
    gates(spec, path, out);
    scheduling::spread(spec, &path.field("topologySpreadConstraints"), out);
    identity(spec, path, out);
    scheduling::tolerations(spec, &path.field("tolerations"), out);
    hosts(spec, &path.field("hostAliases"), out);
    operating_system(spec, path, out);
}

type Rule = fn(&str) -> Vec<String>;

/// Names that the pod is known by or refers to.
fn identity(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns1123_subdomain),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ];
    for (field, rule) in rules {
        let name = text(spec, field);
        if !name.is_empty() {
            out.rule(&path.field(field), name, rule);
        }
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        out.invalid(
            &path.field("activeDeadlineSeconds"),
            seconds,
            names::range(1, i64::from(i32::MAX)),
        );
    }
    let preemption = ["PreemptLowerPriority", "Never"];
    out.optional_one_of(
        &path.field("preemptionPolicy"),
        &spec["preemptionPolicy"],
        &preemption,
    );
    resources::amounts(&spec["overhead"], &path.field("overhead"), out);
}

fn gates(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let readiness = path.field("readinessGates");
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let at = readiness.index(index);
        out.rule(
            &at.field("conditionType"),
            text(gate, "conditionType"),
            names::qualified_name,
        );
    }
    let scheduling = path.field("schedulingGates");
    let mut seen = Seen::default();
    for (index, gate) in list(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        out.rule(&scheduling.index(index), name, names::qualified_name);
        if seen.twice(name) {
            out.duplicate(&scheduling.index(index), name);
        }
    }
}

fn hosts(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = path.index(index);
        out.ip(&at.field("ip"), text(alias, "ip"));
        let names_path = at.field("hostnames");
        for (index, name) in list(alias, "hostnames").iter().enumerate() {
            out.rule(
                &names_path.index(index),
                name.as_str().unwrap_or_default(),
                names::dns1123_subdomain,
            );
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let config = at(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            return out.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        };
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return out.required(&path.field("nameservers"), detail);
        }
    }
    let Some(config) = config else {
        return;
    };
    let servers = path.field("nameservers");
    if list(config, "nameservers").len() > 3 {
        out.invalid(
            &servers,
            config["nameservers"].clone(),
            "must not have more than 3 nameservers",
        );
    }
    for (index, server) in list(config, "nameservers").iter().enumerate() {
        out.ip(&servers.index(index), server.as_str().unwrap_or_default());
    }
    let searches = path.field("searches");
    let found: Vec<&str> = list(config, "searches")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if found.len() > 32 {
        out.invalid(
            &searches,
            config["searches"].clone(),
            "must not have more than 32 search paths",
        );
    }
    if found.join(" ").len() > 2_048 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        out.invalid(&searches, config["searches"].clone(), detail);
    }
    for (index, search) in found.iter().enumerate().filter(|(_, s)| **s != ".") {
        let search = search.trim_end_matches('.');
        let plain = search.replace('_', "a");
        for fault in names::dns1123_subdomain(&plain) {
            out.invalid(&searches.index(index), search, fault);
        }
    }
    let options = path.field("options");
    for (index, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            out.required(&options.index(index), "must not be empty");
        }
    }
}

fn operating_system(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(os) = at(spec, "os") {
        let at = path.field("os");
        out.one_of(&at.field("name"), text(os, "name"), &["linux", "windows"]);
    }
}

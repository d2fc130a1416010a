//! What makes an object invalid: one file per kind or family of kinds, and one for what all have.
//!
//! The words, reasons and paths are those clients know from the original. Custom kinds are checked against their
//! schema and its rules.

mod admission;
mod batch;
mod config;
mod cron;
mod definition;
mod faults;
pub mod meta;
pub mod names;
mod network;
mod pod;
mod policy;
mod rbac;
mod service;
mod storage;
mod workload;

use serde_json::Value;

use crate::field::{FieldError, FieldErrorKind, Path};
use crate::resources::Resource;

/// Everything wrong with an object that is to be created. Defaults are filled in and the name generated before.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    if is_review(resource) {
        return review(resource, object);
    }
    let mut errors = meta::create(resource, object);
    if resource.custom {
        custom(resource, object, None, &mut errors);
    } else if resource.is("", "pods") {
        pod::create(object, &mut errors);
    } else {
        kind(resource, object, &mut errors);
    }
    errors
}

/// Everything wrong with an object that is to replace another.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if resource.custom {
        custom(resource, new, Some(old), &mut errors);
        return errors;
    }
    change(resource, new, old, &mut errors);
    errors
}

/// Everything wrong with a new status.
pub fn status_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if resource.custom {
        custom(resource, new, Some(old), &mut errors);
        return errors;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::status_update(new, old, &mut errors),
        ("", "namespaces") => config::namespace_status(new, &mut errors),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets") => {
            workload::counts(new, &mut errors);
        }
        ("certificates.k8s.io", _) => admission::conditions(new, &mut errors),
        _ => {}
    }
    errors
}

/// A custom object by its schema, and by its rules if its shape lets them run.
fn custom(resource: &Resource, new: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let schema = &resource.schema;
    let errors = match old {
        Some(old) => crate::schema::check_update(schema, new, old),
        None => crate::schema::check(schema, new),
    };
    let shapeless = errors.iter().any(|e| {
        matches!(
            e.kind,
            FieldErrorKind::Required
                | FieldErrorKind::TypeInvalid
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooMany
        )
    });
    out.extend(errors);
    let Some(rules) = &resource.rules else {
        return;
    };
    if shapeless {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        out.push(FieldError::invalid(
            &Path::new("<nil>"),
            Value::Null,
            detail,
        ));
    } else {
        out.extend(rules.validate(new, old));
    }
}

/// Everything wrong with what is written through another subresource: `approval`, `finalize`, `ephemeralcontainers`,
/// `resize`, `binding`.
pub fn subresource(resource: &Resource, name: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match name {
        "status" => return status_update(resource, new, old),
        "binding" => {
            config::binding(new, &mut errors);
            return errors;
        }
        "ephemeralcontainers" => pod::ephemeral_update(new, old, &mut errors),
        "resize" => pod::resize_update(new, old, &mut errors),
        "approval" => admission::conditions(new, &mut errors),
        "finalize" => config::namespace(new, &mut errors),
        _ => {}
    }
    errors.splice(0..0, meta::update(new, old));
    errors
}

/// Kinds that are asked and answered, never stored: they have no name.
fn is_review(resource: &Resource) -> bool {
    !resource.custom
        && matches!(
            resource.group.as_str(),
            "authentication.k8s.io" | "authorization.k8s.io"
        )
}

fn review(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match resource.plural.as_str() {
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            admission::access_review(object, true, &mut errors);
        }
        "selfsubjectaccessreviews" => admission::access_review(object, false, &mut errors),
        _ => {}
    }
    errors
}

/// What holds for new and for changed objects of a kind alike.
fn kind(resource: &Resource, object: &Value, out: &mut Vec<FieldError>) {
    let plural = resource.plural.as_str();
    match resource.group.as_str() {
        "" => core(plural, object, out),
        "apps" => match plural {
            "deployments" => workload::deployment(object, out),
            "replicasets" => workload::replica_set(object, out),
            "statefulsets" => workload::stateful_set(object, out),
            "daemonsets" => workload::daemon_set(object, out),
            _ => workload::controller_revision(object, out),
        },
        "batch" if plural == "jobs" => batch::job(object, out),
        "batch" => batch::cron_job(object, out),
        "autoscaling" => policy::autoscaler(object, out),
        "policy" => policy::disruption_budget(object, out),
        "events.k8s.io" => config::event(object, out),
        "networking.k8s.io" => match plural {
            "ingresses" => network::ingress(object, out),
            "ingressclasses" => network::ingress_class(object, out),
            "networkpolicies" => network::policy(object, out),
            "servicecidrs" => network::service_ranges(object, out),
            _ => network::address(object, out),
        },
        "discovery.k8s.io" => network::slice(object, out),
        "rbac.authorization.k8s.io" if plural.ends_with("roles") => {
            rbac::role(object, resource.namespaced, out)
        }
        "rbac.authorization.k8s.io" => rbac::binding(object, resource.namespaced, out),
        _ => others(resource, object, out),
    }
}

fn core(plural: &str, object: &Value, out: &mut Vec<FieldError>) {
    match plural {
        "configmaps" => config::config_map(object, out),
        "secrets" => config::secret(object, out),
        "namespaces" => config::namespace(object, out),
        "nodes" => config::node(object, out),
        "services" => service::service(object, out),
        "endpoints" => config::endpoints(object, out),
        "events" => config::event(object, out),
        "bindings" => config::binding(object, out),
        "podtemplates" => config::pod_template(object, out),
        "replicationcontrollers" => workload::replication_controller(object, out),
        "persistentvolumes" => storage::volume(object, out),
        "persistentvolumeclaims" => storage::claim(object, out),
        "resourcequotas" => policy::quota(object, out),
        "limitranges" => policy::limit_range(object, out),
        _ => {}
    }
}

fn others(resource: &Resource, object: &Value, out: &mut Vec<FieldError>) {
    match resource.plural.as_str() {
        "storageclasses" => storage::class(object, out),
        "csidrivers" => storage::driver(object, out),
        "volumeattachments" => storage::attachment(object, out),
        "priorityclasses" => policy::priority_class(object, out),
        "runtimeclasses" => policy::runtime_class(object, out),
        "leases" => policy::lease(object, out),
        "validatingwebhookconfigurations" => admission::webhooks(object, false, out),
        "mutatingwebhookconfigurations" => admission::webhooks(object, true, out),
        "validatingadmissionpolicies" => admission::policy(object, true, out),
        "mutatingadmissionpolicies" => admission::policy(object, false, out),
        "validatingadmissionpolicybindings" => admission::policy_binding(object, true, out),
        "mutatingadmissionpolicybindings" => admission::policy_binding(object, false, out),
        "customresourcedefinitions" => definition::definition(object, out),
        "apiservices" => admission::api_service(object, out),
        "certificatesigningrequests" => admission::signing_request(object, out),
        "flowschemas" => admission::flow_schema(object, out),
        "prioritylevelconfigurations" => admission::priority_level(object, out),
        _ => {}
    }
}

/// What of a kind may change, and whether the result is good.
fn change(resource: &Resource, new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => return pod::update(new, old, out),
        ("", "services") => return service::update(new, old, out),
        ("", "nodes") => return config::node_update(new, old, out),
        ("", "persistentvolumeclaims") => return storage::claim_update(new, old, out),
        ("", "persistentvolumes") => return storage::volume_update(new, old, out),
        ("apiextensions.k8s.io", _) => return definition::update(new, old, out),
        ("batch", "jobs") => return batch::job_update(new, old, out),
        _ => {}
    }
    kind(resource, new, out);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "configmaps") => config::immutable_data(new, old, out),
        ("", "secrets") => {
            admission::fixed(new, old, "type", out);
            config::immutable_data(new, old, out);
        }
        ("", "resourcequotas") => policy::quota_update(new, old, out),
        ("apps", "deployments" | "replicasets" | "daemonsets") => {
            workload::fixed_selector(new, old, out)
        }
        ("apps", "statefulsets") => workload::stateful_set_update(new, old, out),
        ("apps", "controllerrevisions") => admission::fixed(new, old, "data", out),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            rbac::binding_update(new, old, out)
        }
        ("scheduling.k8s.io", _) => policy::priority_class_update(new, old, out),
        ("storage.k8s.io", "storageclasses") => storage::class_update(new, old, out),
        ("storage.k8s.io", "volumeattachments") => admission::fixed(new, old, "spec", out),
        ("node.k8s.io", _) => admission::fixed(new, old, "handler", out),
        ("discovery.k8s.io", _) => admission::fixed(new, old, "addressType", out),
        ("networking.k8s.io", "ipaddresses") => admission::fixed(new, old, "spec", out),
        _ => {}
    }
}

#[cfg(test)]
mod tests;

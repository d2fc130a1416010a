//! What a node may: its own node, lease and pods, and the secrets, config maps, claims and accounts of those pods.

use serde_json::Value;
use wharf_kube_types::object;

use super::Ask;
use crate::api::Api;
use crate::authn::User;

/// The node that a user is.
pub fn name_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// Whether a node may do this.
pub fn allows(api: &Api, node: &str, ask: &Ask<'_>) -> bool {
    let verb = ask.verb;
    let writes = matches!(verb, "create" | "update" | "patch" | "delete");
    match (ask.group, ask.resource, ask.subresource) {
        ("", "nodes", "") => reads(verb) || verb == "create" || writes && ask.name == node,
        ("", "nodes", "status") => ask.name == node && matches!(verb, "update" | "patch" | "get"),
        ("", "services", "") => reads(verb),
        ("", "pods", "") => reads(verb) || matches!(verb, "create" | "delete"),
        ("", "pods", "status") => matches!(verb, "update" | "patch"),
        ("", "pods", "eviction") => verb == "create",
        ("", "events", "") | ("events.k8s.io", "events", "") => {
            matches!(verb, "create" | "update" | "patch")
        }
        ("coordination.k8s.io", "leases", "") => {
            ask.namespace == "kube-node-lease" && (verb == "create" || ask.name == node)
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            verb == "create" || reads(verb)
        }
        ("authentication.k8s.io", "tokenreviews", "") => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            verb == "create"
        }
        ("storage.k8s.io", "csinodes", "") => ask.name == node || verb == "create",
        ("storage.k8s.io", "csidrivers" | "volumeattachments", "") => reads(verb),
        ("node.k8s.io", "runtimeclasses", "") => reads(verb),
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") => {
            reads(verb) && !ask.name.is_empty() && refers(api, node, ask)
        }
        ("", "persistentvolumes", "") => verb == "get",
        ("", "serviceaccounts", "token") => verb == "create" && refers(api, node, ask),
        ("", "serviceaccounts", "") => verb == "get" && refers(api, node, ask),
        _ => false,
    }
}

/// Whether a pod on the node refers to the object.
fn refers(api: &Api, node: &str, ask: &Ask<'_>) -> bool {
    let Ok(pods) = api.builtin("", "pods") else {
        return false;
    };
    let mut all = pods.cache.all(&pods.range(ask.namespace)).into_iter();
    all.any(|object| {
        let pod = object.record.to_value();
        object::text(&pod, "spec.nodeName") == node && names(&pod["spec"], ask.resource, ask.name)
    })
}

fn names(spec: &Value, resource: &str, name: &str) -> bool {
    if resource == "serviceaccounts" {
        return match object::text(spec, "serviceAccountName") {
            "" => name == "default",
            own => own == name,
        };
    }
    let fields: &[&str] = match resource {
        "secrets" => &["secretName", "secretRef", "secretKeyRef", "secret"],
        "configmaps" => &["configMap", "configMapRef", "configMapKeyRef"],
        _ => &["claimName", "ephemeral"],
    };
    if resource == "secrets" {
        let pull = object::list(spec, "imagePullSecrets");
        if pull.iter().any(|secret| secret["name"] == name) {
            return true;
        }
    }
    mentions(spec, fields, name, 0)
}

/// Whether one of these fields, anywhere in the value, names it.
fn mentions(value: &Value, fields: &[&str], name: &str, depth: usize) -> bool {
    if depth > 32 {
        return false;
    }
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let here = fields.contains(&key.as_str())
                && (value == name || value["name"] == name || value["secretName"] == name);
            here || mentions(value, fields, name, depth + 1)
        }),
        Value::Array(items) => items.iter().any(|v| mentions(v, fields, name, depth + 1)),
        _ => false,
    }
}

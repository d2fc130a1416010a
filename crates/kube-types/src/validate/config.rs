//! ConfigMaps, Secrets, Namespaces, Nodes, Endpoints, Bindings and Events.

use serde_json::Value;

use super::faults::Faults;
use super::{names, pod};
use crate::field::{FieldError, Path};
use crate::object::{at, flag, list, map, same, text};
use crate::protobuf::base64_decode;

/// The values of a ConfigMap or Secret together: bytes.
const DATA_MAX: usize = 1024 * 1024;

/// A ConfigMap.
pub fn config_map(object: &Value, out: &mut Vec<FieldError>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        let path = Path::new(field);
        for (key, value) in map(object, field) {
            let here = path.key(key);
            out.rule(&here, key, names::config_map_key);
            if field == "data" && object["binaryData"].get(key).is_some() {
                out.invalid(
                    &here,
                    key.as_str(),
                    "duplicate of key present in binaryData",
                );
            }
            let text = value.as_str().unwrap_or_default();
            size += if field == "data" {
                text.len()
            } else {
                text.len() / 4 * 3
            };
        }
    }
    if size > DATA_MAX {
        out.put(FieldError::too_long(&Path::new(""), DATA_MAX));
    }
}

/// A Secret.
pub fn secret(object: &Value, out: &mut Vec<FieldError>) {
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in map(object, "data") {
        out.rule(&path.key(key), key, names::config_map_key);
        size += value.as_str().unwrap_or_default().len() / 4 * 3;
    }
    if size > DATA_MAX {
        out.put(FieldError::too_long(&path, DATA_MAX));
    }
    let has = |key: &str| object["data"].get(key).is_some_and(|v| !v.is_null());
    match text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if object["metadata"]["annotations"][key]
                .as_str()
                .unwrap_or_default()
                .is_empty()
            {
                let root = Path::new("metadata");
                out.required(&root.field("annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => docker(object, ".dockercfg", out),
        "kubernetes.io/dockerconfigjson" => docker(object, ".dockerconfigjson", out),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            out.required(&path.key("username"), "");
            out.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth"
            if object["data"]["ssh-privatekey"]
                .as_str()
                .unwrap_or_default()
                .is_empty() =>
        {
            out.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                out.required(&path.key(key), "");
            }
        }
        _ => {}
    }
}

fn docker(object: &Value, key: &str, out: &mut Vec<FieldError>) {
    let path = Path::new("data");
    let Some(found) = object["data"][key].as_str() else {
        return out.required(&path.key(key), "");
    };
    let parsed: Result<serde_json::Map<String, Value>, _> =
        serde_json::from_slice(&base64_decode(found).unwrap_or_default());
    if let Err(error) = parsed {
        out.invalid(
            &path.key(key),
            "<secret contents redacted>",
            error.to_string(),
        );
    }
}

/// A ConfigMap or Secret that says it doesn't change.
pub fn immutable_data(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    if !flag(old, "immutable") {
        return;
    }
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        out.forbidden(&Path::new("immutable"), DETAIL);
    }
    for field in ["data", "binaryData"] {
        if !same(new.get(field), old.get(field)) {
            out.forbidden(&Path::new(field), DETAIL);
        }
    }
}

/// A Namespace.
pub fn namespace(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let path = root.field("finalizers");
    for finalizer in list(object, "spec.finalizers")
        .iter()
        .filter_map(Value::as_str)
    {
        out.rule(&path, finalizer, names::qualified_name);
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            out.invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

/// A Namespace's new status.
pub fn namespace_status(new: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("status");
    let phase = text(new, "status.phase");
    let leaving = at(new, "metadata.deletionTimestamp").is_some();
    if leaving && phase != "Terminating" && !phase.is_empty() {
        out.invalid(
            &root.field("Phase"),
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        );
    } else if !leaving && phase != "Active" && !phase.is_empty() {
        out.invalid(
            &root.field("Phase"),
            phase,
            "may only be 'Active' if `deletionTimestamp` is empty",
        );
    }
}

/// A Node.
pub fn node(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let path = root.field("taints");
    let mut seen = std::collections::HashSet::new();
    for (index, taint) in list(object, "spec.taints").iter().enumerate() {
        let here = path.index(index);
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        out.rule(&here.field("key"), key, names::qualified_name);
        let faults = names::label_value(text(taint, "value"));
        if !faults.is_empty() {
            out.invalid(&here.field("value"), text(taint, "value"), faults.join(";"));
        }
        pod::taint_effect(effect, &here.field("effect"), out);
        if !seen.insert((key, effect)) {
            out.put(FieldError {
                detail: "taints must be unique by key and effect pair".to_owned(),
                ..FieldError::duplicate(&here, taint.clone())
            });
        }
    }
    let path = root.field("podCIDRs");
    let ranges = list(object, "spec.podCIDRs");
    for (index, range) in ranges.iter().enumerate() {
        out.cidr(&path.index(index), range.as_str().unwrap_or_default());
    }
    if ranges.len() > 2 {
        out.invalid(
            &path,
            ranges.to_vec(),
            "may specify no more than one CIDR for each IP family",
        );
    }
}

/// A Node that replaces another.
pub fn node_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    node(new, out);
    let root = Path::new("spec");
    let ranges = list(old, "spec.podCIDRs");
    if !ranges.is_empty() && ranges != list(new, "spec.podCIDRs") {
        out.forbidden(
            &root.field("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    let provider = text(old, "spec.providerID");
    if !provider.is_empty() && provider != text(new, "spec.providerID") {
        out.forbidden(
            &root.field("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}

/// Endpoints of the core group.
pub fn endpoints(object: &Value, out: &mut Vec<FieldError>) {
    let path = Path::new("subsets");
    for (index, subset) in list(object, "subsets").iter().enumerate() {
        let here = path.index(index);
        let (ready, other) = (list(subset, "addresses"), list(subset, "notReadyAddresses"));
        if ready.is_empty() && other.is_empty() {
            out.required(&here, "must specify `addresses` or `notReadyAddresses`");
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", other)] {
            let place = here.field(field);
            for (index, address) in addresses.iter().enumerate() {
                let item = place.index(index);
                endpoint_ip(text(address, "ip"), &item.field("ip"), out);
                if !text(address, "hostname").is_empty() {
                    out.rule(
                        &item.field("hostname"),
                        text(address, "hostname"),
                        names::dns1123_label,
                    );
                }
            }
        }
        let ports = list(subset, "ports");
        let place = here.field("ports");
        for (index, port) in ports.iter().enumerate() {
            let item = place.index(index);
            let name = text(port, "name");
            if ports.len() > 1 && name.is_empty() {
                out.required(&item.field("name"), "");
            } else if !name.is_empty() {
                out.rule(&item.field("name"), name, names::dns1123_label);
            }
            out.port(&item.field("port"), &port["port"]);
            out.one_of(
                &item.field("protocol"),
                text(port, "protocol"),
                &["SCTP", "TCP", "UDP"],
            );
        }
    }
}

/// An address that traffic may be sent to.
pub fn endpoint_ip(ip: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let Ok(address) = ip.parse::<std::net::IpAddr>() else {
        return out.ip(path, ip);
    };
    let (local, multicast) = match address {
        std::net::IpAddr::V4(v4) => (
            v4.is_link_local(),
            v4.is_multicast() && v4.octets()[..3] == [224, 0, 0],
        ),
        std::net::IpAddr::V6(v6) => (
            (v6.segments()[0] & 0xffc0) == 0xfe80,
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if address.is_unspecified() {
        out.invalid(path, ip, format!("may not be unspecified ({ip})"));
    } else if address.is_loopback() {
        out.invalid(
            path,
            ip,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    } else if local {
        out.invalid(
            path,
            ip,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    } else if multicast {
        out.invalid(
            path,
            ip,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

/// A Binding of a pod to a node.
pub fn binding(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("target");
    let kind = text(object, "target.kind");
    if !matches!(kind, "" | "Node") {
        out.not_supported(&root.field("kind"), kind, &["Node", "<empty>"]);
    }
    if text(object, "target.name").is_empty() {
        out.required(&root.field("name"), "");
    }
}

/// A PodTemplate.
pub fn pod_template(object: &Value, out: &mut Vec<FieldError>) {
    pod::template(&object["template"], &Path::new("template"), out);
}

/// An Event of either group.
pub fn event(object: &Value, out: &mut Vec<FieldError>) {
    let regarding = if at(object, "regarding").is_some() {
        "regarding"
    } else {
        "involvedObject"
    };
    let root = Path::new(regarding);
    let (namespace, about) = (
        crate::object::namespace(object),
        text(&object[regarding], "namespace"),
    );
    if about.is_empty() {
        // What is in no namespace has its events in the default one.
        if !matches!(namespace, "" | "default" | "kube-system") {
            out.invalid(
                &root.field("namespace"),
                about,
                "does not match event.namespace",
            );
        }
    } else if namespace != about {
        out.invalid(
            &root.field("namespace"),
            about,
            "does not match event.namespace",
        );
    }
}

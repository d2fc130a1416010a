//! Small rules of single kinds: who asks for a certificate, default classes, finalizers of storage, nodes' own limits.

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::{Attributes, Operation};
use crate::authz::{Ask, forbidden, node};
use crate::call::Call;

const CERTIFICATES: &str = "certificates.k8s.io";

/// Fills in what a kind's rule gives.
///
/// # Errors
/// The store's.
pub fn fill(call: &Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    let resource = &call.kind.resource;
    let (Some(value), true) = (
        what.object.as_deref_mut(),
        call.subresource.is_empty() && !resource.custom,
    ) else {
        return Ok(());
    };
    if what.operation != Operation::Create {
        return Ok(());
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        (CERTIFICATES, "certificatesigningrequests") => identity(call, value),
        ("", "persistentvolumeclaims") => {
            finalizer(value, "kubernetes.io/pvc-protection");
            default_class(
                call,
                value,
                "storage.k8s.io",
                "storageclasses",
                "storageclass.kubernetes.io/is-default-class",
                "storageClassName",
            )?;
        }
        ("", "persistentvolumes") => finalizer(value, "kubernetes.io/pv-protection"),
        ("networking.k8s.io", "ingresses") => {
            default_class(
                call,
                value,
                "networking.k8s.io",
                "ingressclasses",
                "ingressclass.kubernetes.io/is-default-class",
                "ingressClassName",
            )?;
        }
        ("", "nodes") => not_ready(value),
        _ => {}
    }
    Ok(())
}

/// A request for a certificate says truly who made it.
fn identity(call: &Call, value: &mut Value) {
    let user = &call.user;
    let spec = object::object_mut(value, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.shift_remove(field);
    }
    spec.insert("username".to_owned(), user.name.clone().into());
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.clone().into());
    }
    spec.insert("groups".to_owned(), json!(user.groups));
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

fn finalizer(value: &mut Value, name: &str) {
    let list = object::metadata_mut(value)
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|f| f == name)
    {
        list.push(name.into());
    }
}

fn default_class(
    call: &Call,
    value: &mut Value,
    group: &str,
    plural: &str,
    annotation: &str,
    field: &str,
) -> Result<(), Status> {
    if value["spec"].get(field).is_some() {
        return Ok(());
    }
    let classes = call.api.builtin(group, plural)?;
    let all = classes.cache.all("");
    let mut defaults: Vec<Value> = all
        .iter()
        .map(|o| o.record.to_value())
        .filter(|class| class["metadata"]["annotations"][annotation] == "true")
        .collect();
    defaults.sort_by_key(|class| object::text(class, "metadata.creationTimestamp").to_owned());
    if let Some(class) = defaults.last() {
        object::object_mut(value, "spec").insert(field.to_owned(), object::name(class).into());
    }
    Ok(())
}

/// Nothing is scheduled to a node before it says that it is ready.
fn not_ready(node: &mut Value) {
    let taints = object::object_mut(node, "spec")
        .entry("taints")
        .or_insert_with(|| json!([]));
    if let Some(list) = taints.as_array_mut()
        && !list
            .iter()
            .any(|t| t["key"] == "node.kubernetes.io/not-ready")
    {
        list.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
    }
}

/// Refuses what a kind's rule forbids.
///
/// # Errors
/// 403.
pub fn check(call: &Call, what: &Attributes<'_>) -> Result<(), Status> {
    if let Some(name) = node::name_of(&call.user) {
        restrict_node(call, what, name)?;
    }
    let resource = &call.kind.resource;
    if !resource.is(CERTIFICATES, "certificatesigningrequests") {
        return Ok(());
    }
    let verb = match (call.subresource.as_str(), what.operation) {
        ("approval", Operation::Update) => "approve",
        ("status", Operation::Update) if certificate(what) => "sign",
        _ => return Ok(()),
    };
    let signer = what
        .object
        .as_deref()
        .map_or("", |o| object::text(o, "spec.signerName"));
    let domain = signer.split('/').next().unwrap_or_default();
    let whole = format!("{domain}/*");
    let ask = |name| Ask {
        verb,
        group: CERTIFICATES,
        resource: "signers",
        name,
        ..Ask::default()
    };
    let may = |name| {
        call.api
            .authorizer
            .allows(&call.api, &call.user, &ask(name))
            .allowed
    };
    if may(signer) || may(&whole) {
        return Ok(());
    }
    Err(forbidden(&call.user, &ask(signer)))
}

fn certificate(what: &Attributes<'_>) -> bool {
    let of =
        |value: Option<&Value>| value.map(|v| object::text(v, "status.certificate").to_owned());
    of(what.object.as_deref()) != of(what.old)
}

/// A node may write only itself, and pods that are bound to it.
fn restrict_node(call: &Call, what: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let resource = &call.kind.resource;
    let refuse = |why: String| {
        Err(Status::forbidden(
            &resource.group,
            &resource.plural,
            &call.name,
            &why,
        ))
    };
    let value = what.object.as_deref().or(what.old);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "nodes") if call.name != node => refuse(format!(
            "node {node:?} is not allowed to modify node {:?}",
            call.name
        )),
        ("", "pods") => {
            let bound = what
                .old
                .or(value)
                .map_or("", |pod| object::text(pod, "spec.nodeName"));
            let mirror = value.is_some_and(|pod| {
                pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string()
            });
            if bound != node {
                return refuse(format!(
                    "node {node:?} can only modify pods with spec.nodeName set to itself"
                ));
            }
            if what.operation == Operation::Create && !mirror {
                return refuse(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

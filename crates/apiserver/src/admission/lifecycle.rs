//! Objects only in namespaces that exist and stay, and namespaces that nobody may delete.

use wharf_kube_types::{Status, object};

use super::{Attributes, Operation};
use crate::call::Call;

/// Namespaces without which nothing works.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses new objects in namespaces that are not there or are going, and the deletion of lasting namespaces.
///
/// # Errors
/// 403 or 404.
pub async fn check(call: &Call, what: &Attributes<'_>) -> Result<(), Status> {
    let resource = &call.kind.resource;
    if what.operation == Operation::Delete
        && resource.is("", "namespaces")
        && LASTING.contains(&call.name.as_str())
    {
        return Err(Status::forbidden(
            "",
            "namespaces",
            &call.name,
            "this namespace may not be deleted",
        ));
    }
    if what.operation != Operation::Create || !resource.namespaced {
        return Ok(());
    }
    let namespaces = call.api.builtin("", "namespaces")?;
    let key = namespaces.key("", &call.namespace);
    // The cache first: a namespace that was there a moment ago costs no look at the store.
    let record = match namespaces.cache.get(&key) {
        Some(object) => Some(object.record.clone()),
        None => call.api.read(&key).await?,
    };
    let Some(record) = record else {
        return Err(Status::not_found(&namespaces.resource, &call.namespace));
    };
    if !is_going(&record) {
        return Ok(());
    }
    let mut status = Status::forbidden(
        &resource.group,
        &resource.plural,
        &call.name,
        &format!(
            "unable to create new content in namespace {} because it is being terminated",
            call.namespace
        ),
    );
    status.details["causes"] = serde_json::json!([{
        "reason": "NamespaceTerminating", "field": "metadata.namespace",
        "message": format!("namespace {} is being terminated", call.namespace),
    }]);
    Err(status)
}

fn is_going(record: &crate::object::Record) -> bool {
    // Most namespaces stay: only those that mention a deletion are read.
    if !record.mentions(b"deletionTimestamp") {
        return false;
    }
    !object::text(&record.to_value(), "metadata.deletionTimestamp").is_empty()
}

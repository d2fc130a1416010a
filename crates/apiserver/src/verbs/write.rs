//! What all writes share: metadata that the server sets, admission, validation, managed fields, the commit.

use serde_json::{Value, json};
use wharf_kube_types::apply::{Manager, track};
use wharf_kube_types::{FieldError, Status, object, validate};
use wharf_store::Expect;

use crate::admission::{self, Attributes, Operation};
use crate::api::Refused;
use crate::call::Call;
use crate::object::Record;
use crate::{clock, convert, present};

/// A stored object is at most this large.
const OBJECT_BYTES_MAX: usize = 3 << 20;
/// How often a write is tried again that others came before.
pub const RETRIES_MAX: usize = 64;

/// The status of an object with faults.
pub fn invalid(call: &Call, name: &str, errors: &[FieldError]) -> Status {
    let resource = &call.kind.resource;
    Status::invalid(&resource.group, &resource.kind, name, errors)
}

/// Refuses an object with faults.
///
/// # Errors
/// 422 with the faults.
pub fn refuse_faults(call: &Call, name: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(call, name, errors))
}

/// Notes who changed what; not for kinds whose size matters more.
pub fn note_manager(call: &Call, old: Option<&Value>, new: &mut Value) {
    let resource = &call.kind.resource;
    let manager = Manager {
        name: &call.manager,
        api_version: &call.kind.api_version(),
        subresource: &call.subresource,
        now: &clock::now_text(),
    };
    track(resource, old, new, manager);
}

/// The bytes to store of an object of the version on the wire.
///
/// # Errors
/// The object is too large, or can't be converted.
pub async fn encode(call: &Call, mut value: Value) -> Result<Record, Status> {
    object::metadata_mut(&mut value).shift_remove("resourceVersion");
    if !call.kind.is_stored_version() {
        match &call.kind.definition {
            None => convert::to_stored(&mut value, &call.kind),
            Some(definition) => {
                let stored = definition.stored(&call.kind.stored)?;
                let values = std::slice::from_mut(&mut value);
                present::convert(&call.api, definition, stored, values).await?;
            }
        }
    }
    let record = Record::encode(&value, 0);
    if record.size() > OBJECT_BYTES_MAX {
        return Err(Status::too_large(&format!(
            "the object would be {} bytes, the limit is {OBJECT_BYTES_MAX}",
            record.size()
        )));
    }
    Ok(record)
}

/// Lets admission change and judge a new object, and validates it.
///
/// # Errors
/// Who refused it, and why.
pub async fn admit_new(call: &mut Call, value: &mut Value) -> Result<(), Status> {
    admission::change(
        call,
        &mut Attributes::new(Operation::Create, Some(value), None),
    )
    .await?;
    let name = object::name(value).to_owned();
    let errors = validate::create(&call.kind.resource, value);
    refuse_faults(call, &name, &errors)?;
    admission::check(
        call,
        &mut Attributes::new(Operation::Create, Some(value), None),
    )
    .await
}

/// Lets admission change and judge an object that is to replace another, and validates it.
///
/// # Errors
/// Who refused it, and why.
pub async fn admit_changed(call: &mut Call, value: &mut Value, old: &Value) -> Result<(), Status> {
    admission::change(
        call,
        &mut Attributes::new(Operation::Update, Some(value), Some(old)),
    )
    .await?;
    let resource = &call.kind.resource;
    let errors = match call.subresource.as_str() {
        "status" => validate::status_update(resource, value, old),
        // Nothing but the node's name changes, which no update may change.
        "binding" => Vec::new(),
        _ => validate::update(resource, value, old),
    };
    refuse_faults(call, object::name(old), &errors)?;
    admission::check(
        call,
        &mut Attributes::new(Operation::Update, Some(value), Some(old)),
    )
    .await
}

/// Sets what the server decides about a new object's metadata.
///
/// # Errors
/// The names contradict the request.
pub fn stamp(call: &Call, value: &mut Value) -> Result<(), Status> {
    place(call, value)?;
    let meta = object::metadata_mut(value);
    if meta
        .get("resourceVersion")
        .is_some_and(|v| v != "" && !v.is_null())
    {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    meta.insert("uid".to_owned(), crate::random::uuid().into());
    meta.insert("creationTimestamp".to_owned(), clock::now_text().into());
    Ok(())
}

/// Makes the object's namespace that of the request.
///
/// # Errors
/// The object says another one.
pub fn place(call: &Call, value: &mut Value) -> Result<(), Status> {
    let meta = object::metadata_mut(value);
    let own = meta
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !call.kind.resource.namespaced {
        if !own.is_empty() && call.namespace.is_empty() {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        meta.shift_remove("namespace");
    } else if own.is_empty() {
        meta.insert("namespace".to_owned(), call.namespace.clone().into());
    } else if own != call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// A record that was just made, as the call's client sees it.
///
/// # Errors
/// It can't be converted.
pub async fn seen(call: &Call, record: Record) -> Result<Record, Status> {
    present::one(&call.api, &call.kind, &call.key(), record, !call.dry_run).await
}

/// Replaces the newest state of an object, if it is still the newest.
///
/// # Errors
/// It is no longer, or the store can't write.
pub async fn replace(call: &Call, old: &Record, value: Value) -> Result<Record, Refused> {
    let record = encode(call, value).await.map_err(Refused::Status)?;
    if call.dry_run {
        return Ok(record.at(old.revision));
    }
    let expect = Expect::Revision(old.revision);
    let revision = call.api.commit(&call.key(), expect, Some(&record)).await;
    admission::allocate::settle(call, &record, revision.as_ref().ok().copied()).await;
    Ok(record.at(revision?))
}

/// Whether an object that is being deleted has nothing left to wait for.
pub fn is_finished(call: &Call, value: &Value) -> bool {
    let meta = &value["metadata"];
    let waits = !object::list(meta, "finalizers").is_empty()
        || call.kind.resource.is("", "namespaces")
            && !object::list(value, "spec.finalizers").is_empty();
    let grace = meta["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or_default();
    meta["deletionTimestamp"].is_string() && grace == 0 && !waits
}

/// Counts the generation up where the kind has one.
pub fn next_generation(value: &mut Value) {
    let meta = object::metadata_mut(value);
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
        meta.insert("generation".to_owned(), json!(generation + 1));
    }
}

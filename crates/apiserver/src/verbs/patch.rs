//! PATCH: JSON, merge and strategic merge patches, and server-side apply.

use serde_json::Value;
use wharf_kube_types::apply::{ApplyError, Manager, apply};
use wharf_kube_types::patch::{PatchError, json_patch, merge_patch, strategic_merge};
use wharf_kube_types::{Schema, Status, object, schema};

use crate::body::Body;
use crate::call::{Call, Validation};
use crate::clock;
use crate::object::Record;
use crate::verbs::update::{Demand, Made, change};

/// A patch.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, by patch strategies.
    Strategic(Value),
}

const MEDIA_TYPES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// Patches or applies the object. True if it was made.
///
/// # Errors
/// Why it can't be patched.
pub async fn patch(call: &mut Call, body: Body<'_>) -> Result<(Record, bool), Status> {
    let parse = || {
        schema::parse_strict(body.bytes)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))
    };
    let patch = match body.media_type() {
        "application/json-patch+json" => Patch::Json(parse()?.0),
        "application/merge-patch+json" => Patch::Merge(parse()?.0),
        "application/strategic-merge-patch+json" if !call.kind.resource.custom => {
            Patch::Strategic(parse()?.0)
        }
        "application/apply-patch+yaml" => {
            let (value, doubled) = crate::yaml::read(body.bytes)
                .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
            if let Some(fault) = doubled.first() {
                match call.validation {
                    Validation::Ignore => {}
                    Validation::Warn => call.warnings.extend(doubled),
                    Validation::Strict => {
                        return Err(Status::bad_request(format!("error decoding YAML: {fault}")));
                    }
                }
            }
            return apply_object(call, value).await;
        }
        other => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {MEDIA_TYPES}: {other}"
            )));
        }
    };
    let record = patch_object(call, &patch).await?;
    Ok((record, false))
}

/// Patches the object.
///
/// # Errors
/// Why it can't be patched.
pub async fn patch_object(call: &mut Call, patch: &Patch) -> Result<Record, Status> {
    change(call, &Demand::default(), |call, old| {
        let mut new = old.clone();
        apply_patch(&call.kind.resource.schema, &mut new, patch)
            .map_err(|e| patch_status(call, &e))?;
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(Status::modified(&call.kind.resource, &call.name));
        }
        let uid = object::text(&new, "metadata.uid");
        if !uid.is_empty() && uid != object::text(old, "metadata.uid") {
            let path = wharf_kube_types::Path::new("metadata.uid");
            let error = wharf_kube_types::FieldError::invalid(&path, uid, "field is immutable");
            return Err(super::write::invalid(call, &call.name, &[error]));
        }
        call.warnings.clear();
        let new = call.check_object(new, Vec::new())?;
        Ok(Made::plain(new))
    })
    .await
}

/// Applies a patch to a value of a schema.
///
/// # Errors
/// The patch is none, or does not fit.
pub fn apply_patch(schema: &Schema, value: &mut Value, patch: &Patch) -> Result<(), PatchError> {
    match patch {
        Patch::Json(patch) => json_patch(value, patch),
        Patch::Merge(patch) if patch.is_object() => {
            merge_patch(value, patch);
            Ok(())
        }
        Patch::Merge(_) => Err(PatchError::Malformed(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}".to_owned(),
        )),
        Patch::Strategic(patch) => strategic_merge(schema, value, patch),
    }
}

/// The answer to a patch that can't be applied.
pub fn patch_status(call: &Call, error: &PatchError) -> Status {
    match error {
        PatchError::Malformed(message) => Status::bad_request(message.clone()),
        PatchError::TooLarge(message) => Status::too_large(message),
        PatchError::Unfit(message) => {
            let mut status = Status::invalid("", "", "", &[]);
            status.message = format!(
                "the server rejected our request due to an error in our request: {message}"
            );
            status.details =
                serde_json::json!({"name": call.name, "kind": call.kind.resource.plural});
            status
        }
    }
}

/// Server-side apply. True if the object was made.
///
/// # Errors
/// Conflicts with other managers, or why the object can't be written.
pub async fn apply_object(call: &mut Call, config: Value) -> Result<(Record, bool), Status> {
    if call.query.get("fieldManager").is_empty() && call.manager != "wharf" {
        let path = wharf_kube_types::Path::new("fieldManager");
        let error = wharf_kube_types::FieldError::required(&path, "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let config = prepare(call, config)?;
    let force = call.query.flag("force");
    for _ in 0..super::write::RETRIES_MAX {
        let there = call.api.read(&call.key()).await?;
        if there.is_none() && call.subresource.is_empty() {
            if !object::text(&config, "metadata.uid").is_empty() {
                return Err(call.not_found());
            }
            let made = applied(call, None, &config, force)?;
            let name = call.name.clone();
            let record = super::create::create_applied(call, made).await;
            match record {
                Ok(record) => return Ok((record, true)),
                Err(status) if status.reason == "AlreadyExists" => {
                    call.name = name;
                    continue;
                }
                Err(status) => return Err(status),
            }
        }
        let demand = Demand::of(&config)?;
        let record = change(call, &demand, |call, old| {
            let value = applied(call, Some(old), &config, force)?;
            Ok(Made { value, noted: true })
        })
        .await?;
        return Ok((record, false));
    }
    Err(Status::modified(&call.kind.resource, &call.name))
}

/// Checks what is applied by type and fields, without defaults: those are not the client's.
fn prepare(call: &mut Call, mut config: Value) -> Result<Value, Status> {
    if object::text(&config, "kind").is_empty() || object::text(&config, "apiVersion").is_empty() {
        return Err(Status::bad_request(
            "apiVersion and kind must be set in the applied object",
        ));
    }
    let meta = object::metadata_mut(&mut config);
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        meta.insert("name".to_owned(), call.name.clone().into());
    } else if name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    super::write::place(call, &mut config)?;
    let schema = &call.kind.resource.schema;
    let unknown = schema::prune(schema, &mut config.clone());
    if !unknown.is_empty() {
        return Err(untyped(call, &unknown));
    }
    // Read once for its faults only.
    call.check_object(config.clone(), Vec::new())?;
    let schema = &call.kind.resource.schema;
    if !call.kind.resource.custom {
        schema::normalize(schema, &mut config);
    }
    Ok(config)
}

/// What is applied has to fit the schema, whatever validation of fields was asked for: nobody could own the rest.
fn untyped(call: &Call, unknown: &[String]) -> Status {
    let lines: Vec<String> = unknown
        .iter()
        .map(|fault| {
            let path = fault.split('"').nth(1).unwrap_or(fault);
            format!(".{path}: field not declared in schema")
        })
        .collect();
    let what = match lines.as_slice() {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let object = match call.namespace.as_str() {
        "" => call.name.clone(),
        namespace => format!("{namespace}/{}", call.name),
    };
    let resource = &call.kind.resource;
    Status::unknown(format!(
        "failed to create typed patch object ({object}; {}, Kind={}): {what}",
        resource.api_version(),
        resource.kind
    ))
}

fn applied(
    call: &mut Call,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Status> {
    let manager = Manager {
        name: &call.manager,
        api_version: &call.kind.api_version(),
        subresource: &call.subresource,
        now: &clock::now_text(),
    };
    let resource = &call.kind.resource;
    let mut value =
        apply(resource, live, config, manager, force).map_err(|error| match &error {
            ApplyError::Conflicts(_) => Status::apply_conflict(error.to_string(), error.causes()),
            ApplyError::Invalid(message) => Status::bad_request(message.clone()),
        })?;
    schema::read(resource, &mut value).map_err(Status::bad_request)?;
    Ok(value)
}

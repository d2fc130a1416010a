//! CREATE.

use serde_json::Value;
use wharf_kube_types::{Status, object, strategy};
use wharf_store::Expect;

use crate::admission::allocate;
use crate::api::Refused;
use crate::call::Call;
use crate::object::Record;
use crate::verbs::write;

const GENERATED_PREFIX_MAX: usize = 58;
const GENERATED_SUFFIX: usize = 5;
/// Names that are tried before a client has to try again.
const GENERATE_TRIES: usize = 8;

/// Makes an object. The call's name becomes the object's.
///
/// # Errors
/// Why it can't be made.
pub async fn create(call: &mut Call, value: Value) -> Result<Record, Status> {
    if call.kind.terminating {
        let resource = &call.kind.resource;
        return Err(Status::forbidden(
            &resource.group,
            &resource.plural,
            "",
            "create not allowed while custom resource definition is terminating",
        ));
    }
    let prefix = object::text(&value, "metadata.generateName").to_owned();
    let generated = object::name(&value).is_empty() && !prefix.is_empty();
    if !generated {
        return match once(call, value, false).await {
            Ok(record) => Ok(record),
            Err(Refused::Status(status)) => Err(status),
            Err(Refused::Conflict) => Err(Status::already_exists(&call.kind.resource, &call.name)),
        };
    }
    for _ in 0..GENERATE_TRIES {
        let mut value = value.clone();
        let name = generate(&prefix);
        object::metadata_mut(&mut value).insert("name".to_owned(), name.into());
        match once(call, value, false).await {
            Err(Refused::Conflict) => {}
            Err(Refused::Status(status)) => return Err(status),
            Ok(record) => return Ok(record),
        }
    }
    Err(Status::generate_name_conflict(
        &call.kind.resource,
        &call.name,
    ))
}

/// Makes an object that was applied: its managed fields are noted already.
///
/// # Errors
/// Why it can't be made.
pub async fn create_applied(call: &mut Call, value: Value) -> Result<Record, Status> {
    once(call, value, true)
        .await
        .map_err(|refused| match refused {
            Refused::Conflict => Status::already_exists(&call.kind.resource, &call.name),
            Refused::Status(status) => status,
        })
}

async fn once(call: &mut Call, mut value: Value, noted: bool) -> Result<Record, Refused> {
    write::stamp(call, &mut value).map_err(Refused::Status)?;
    object::name(&value).clone_into(&mut call.name);
    strategy::prepare_create(&call.kind.resource, &mut value);
    write::admit_new(call, &mut value)
        .await
        .map_err(Refused::Status)?;
    if !noted {
        write::note_manager(call, None, &mut value);
    }
    let key = call.key();
    let record = write::encode(call, value).await.map_err(Refused::Status)?;
    if call.dry_run {
        let there = call.api.read(&key).await.map_err(Refused::Status)?;
        if there.is_some() {
            return Err(Refused::Conflict);
        }
        return write::seen(call, record).await.map_err(Refused::Status);
    }
    let revision = call.api.commit(&key, Expect::Absent, Some(&record)).await;
    allocate::settle(call, &record, revision.as_ref().ok().copied()).await;
    let record = record.at(revision?);
    write::seen(call, record).await.map_err(Refused::Status)
}

fn generate(prefix: &str) -> String {
    let cut: String = prefix.chars().take(GENERATED_PREFIX_MAX).collect();
    cut + &crate::random::suffix(GENERATED_SUFFIX)
}

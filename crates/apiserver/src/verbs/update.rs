//! UPDATE, and the loop that every change of an existing object goes through.

use serde_json::Value;
use wharf_kube_types::{FieldError, Path, Resource, Status, object, strategy};
use wharf_store::Expect;

use crate::api::Refused;
use crate::call::Call;
use crate::object::Record;
use crate::output::wire;
use crate::present;
use crate::verbs::write;

/// What a change demands of the state that it is made from.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Its resource version.
    pub version: Option<u64>,
    /// Its uid.
    pub uid: Option<String>,
}

impl Demand {
    /// What an object on the wire demands of the one that it replaces.
    ///
    /// # Errors
    /// Its resource version is none.
    pub fn of(value: &Value) -> Result<Self, Status> {
        let version = match object::text(value, "metadata.resourceVersion") {
            "" | "0" => None,
            text => Some(super::list::parse_version(text)?),
        };
        let uid = object::text(value, "metadata.uid");
        Ok(Self {
            version,
            uid: (!uid.is_empty()).then(|| uid.to_owned()),
        })
    }

    fn check(&self, call: &Call, old: &Record, value: &Value) -> Result<(), Status> {
        let uid = object::text(value, "metadata.uid");
        if let Some(wanted) = self.uid.as_deref().filter(|wanted| *wanted != uid) {
            return Err(Status::conflict(
                &call.kind.resource,
                &call.name,
                &format!(
                    "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
                ),
            ));
        }
        if self.version.is_some_and(|wanted| wanted != old.revision) {
            return Err(Status::modified(&call.kind.resource, &call.name));
        }
        Ok(())
    }
}

/// What an object should become.
#[derive(Debug)]
pub struct Made {
    /// The object on the wire.
    pub value: Value,
    /// Its managed fields say already who changed what.
    pub noted: bool,
}

impl Made {
    /// A change that is noted as an update.
    pub fn plain(value: Value) -> Self {
        Self {
            value,
            noted: false,
        }
    }
}

/// Replaces the object by `value`.
///
/// # Errors
/// Why it can't be replaced.
pub async fn update(call: &mut Call, value: Value) -> Result<Record, Status> {
    same_name(call, &value)?;
    let mut value = value;
    write::place(call, &mut value)?;
    let demand = Demand::of(&value)?;
    let blind = demand.version.is_none();
    if blind && demands_version(&call.kind.resource) && call.subresource.is_empty() {
        let path = Path::new("metadata.resourceVersion");
        let error = FieldError::invalid(&path, 0, "must be specified for an update");
        return Err(write::invalid(call, &call.name.clone(), &[error]));
    }
    change(call, &demand, |_, old| {
        let mut value = value.clone();
        if blind {
            value["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        }
        Ok(Made::plain(value))
    })
    .await
}

/// Kinds of which nobody may write a state without having seen the one before.
fn demands_version(resource: &Resource) -> bool {
    resource.custom
        || matches!(
            (resource.group.as_str(), resource.plural.as_str()),
            ("admissionregistration.k8s.io", _)
                | ("apiextensions.k8s.io", _)
                | ("apiregistration.k8s.io", _)
                | ("coordination.k8s.io", _)
                | (
                    "certificates.k8s.io",
                    "clustertrustbundles" | "podcertificaterequests"
                )
                | ("node.k8s.io", "runtimeclasses")
                | ("policy", "poddisruptionbudgets")
                | (
                    "storage.k8s.io",
                    "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments"
                )
                | ("storagemigration.k8s.io", _)
        )
}

/// Refuses an object whose name is not the one in the path.
///
/// # Errors
/// 400.
pub fn same_name(call: &Call, value: &Value) -> Result<(), Status> {
    let name = object::name(value);
    if name.is_empty() {
        return Err(Status::bad_request(
            "name must be provided on the object, as it is on the URL",
        ));
    }
    if name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

/// Changes the object: `make` gets its newest state on the wire and gives what it should be. Tried again when others
/// were faster, unless the change demands a state.
///
/// # Errors
/// Why it can't be changed.
pub async fn change(
    call: &mut Call,
    demand: &Demand,
    mut make: impl FnMut(&mut Call, &Value) -> Result<Made, Status>,
) -> Result<Record, Status> {
    for _ in 0..write::RETRIES_MAX {
        let record = call.api.read(&call.key()).await?;
        let record = record.ok_or_else(|| call.not_found())?;
        let seen = present::one(&call.api, &call.kind, &call.key(), record.clone(), true).await?;
        let old = wire(&call.kind, &seen);
        demand.check(call, &record, &old)?;
        let new = make(call, &old)?;
        match once(call, &record, &old, new).await {
            Ok(record) => return write::seen(call, record).await,
            Err(Refused::Status(status)) => return Err(status),
            Err(Refused::Conflict) if demand.version.is_some() => {
                return Err(Status::modified(&call.kind.resource, &call.name));
            }
            Err(Refused::Conflict) => {}
        }
    }
    Err(Status::modified(&call.kind.resource, &call.name))
}

async fn once(
    call: &mut Call,
    record: &Record,
    old: &Value,
    made: Made,
) -> Result<Record, Refused> {
    let Made {
        value: mut new,
        noted,
    } = made;
    drop_empty(&mut new);
    let resource = &call.kind.resource;
    // The name in an object can't be changed by a patch either: validation compares it.
    match call.subresource.as_str() {
        "" => strategy::prepare_update(resource, &mut new, old),
        "scale" | "binding" => {}
        "status" => strategy::prepare_status_update(resource, &mut new, old),
        sub => strategy::prepare_subresource_update(resource, sub, &mut new, old),
    }
    write::admit_changed(call, &mut new, old)
        .await
        .map_err(Refused::Status)?;
    if !noted {
        write::note_manager(call, Some(old), &mut new);
    }
    if write::is_finished(call, &new) {
        return remove(call, record, new).await;
    }
    let mut bare = new.clone();
    crate::object::set_version(&mut bare, record.revision);
    // What is stored in an old version is written anew: that is how objects move to another one.
    let current = !call.kind.resource.custom || record.is_version(&call.kind.stored);
    if current && (bare == *old || same_but_times(&bare, old)) {
        return Ok(record.clone());
    }
    write::replace(call, record, new).await
}

/// Empty lists and maps of the metadata are the same as none, and are kept as none.
fn drop_empty(value: &mut Value) {
    let meta = object::metadata_mut(value);
    for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
        let empty = match meta.get(field) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            meta.shift_remove(field);
        }
    }
}

/// The last finalizer is gone: the object goes with it.
async fn remove(call: &Call, record: &Record, new: Value) -> Result<Record, Refused> {
    let last = write::encode(call, new).await.map_err(Refused::Status)?;
    if call.dry_run {
        return Ok(last.at(record.revision));
    }
    let expect = Expect::Revision(record.revision);
    let revision = call.api.commit(&call.key(), expect, None).await?;
    Ok(last.at(revision))
}

/// Whether only the times of managed fields differ: then nothing was changed.
fn same_but_times(new: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        let fields = value["metadata"]["managedFields"].as_array_mut();
        for entry in fields.into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.shift_remove("time");
            }
        }
        value
    };
    if new["metadata"].as_object().map(serde_json::Map::len)
        != old["metadata"].as_object().map(serde_json::Map::len)
    {
        return false;
    }
    strip(new) == strip(old)
}

//! DELETE and DELETECOLLECTION: preconditions, grace, finalizers and what happens to dependents.

use serde_json::{Value, json};
use wharf_kube_types::time::Timestamp;
use wharf_kube_types::{FieldError, Path, Status, object};
use wharf_store::Expect;

use crate::admission::{self, Attributes, Operation};
use crate::api::Refused;
use crate::body::Body;
use crate::call::Call;
use crate::clock;
use crate::object::Record;
use crate::output::wire;
use crate::present;
use crate::verbs::write;

/// Finalizer of an object that waits for its dependents to go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are to be let go first.
pub const ORPHAN: &str = "orphan";
/// Objects that one deletion of a collection looks at.
const COLLECTION_MAX: usize = 100_000;

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds of grace; the object's own wish otherwise.
    pub grace_seconds: Option<i64>,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The resource version that the object must have.
    pub version: Option<String>,
    /// `Orphan`, `Background` or `Foreground`; the kind's way otherwise.
    pub propagation: Option<String>,
}

/// What a deletion did.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Record),
    /// The object stays until someone finishes the deletion.
    Pending(Record),
}

impl Options {
    /// Reads the options from body and query.
    ///
    /// # Errors
    /// Options that make no sense.
    pub fn read(call: &mut Call, body: Body<'_>) -> Result<Self, Status> {
        let mut options = Self::default();
        if !body.bytes.is_empty() {
            let (value, _) = body.value()?;
            options.grace_seconds = object::int(&value, "gracePeriodSeconds");
            let text = |path: &str| {
                object::at(&value, path)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            options.uid = text("preconditions.uid");
            options.version = text("preconditions.resourceVersion");
            options.propagation = text("propagationPolicy");
            if object::flag(&value, "orphanDependents") {
                options.propagation = Some("Orphan".to_owned());
            }
            call.dry_run |= object::list(&value, "dryRun").iter().any(|v| v == "All");
        }
        let query = &call.query;
        if let Ok(seconds) = query.get("gracePeriodSeconds").parse() {
            options.grace_seconds = Some(seconds);
        }
        if query.has("propagationPolicy") {
            options.propagation = Some(query.get("propagationPolicy").to_owned());
        }
        if query.flag("orphanDependents") {
            options.propagation = Some("Orphan".to_owned());
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Status> {
        let policies = ["Background", "Foreground", "Orphan"];
        match self.propagation.as_deref() {
            None => Ok(()),
            Some(policy) if policies.contains(&policy) => Ok(()),
            Some(other) => {
                let path = Path::new("propagationPolicy");
                let error = FieldError::not_supported(&path, other, &policies);
                Err(Status::invalid(
                    "meta.k8s.io",
                    "DeleteOptions",
                    "",
                    &[error],
                ))
            }
        }
    }

    fn demand(&self, call: &Call, record: &Record, value: &Value) -> Result<(), Status> {
        let uid = object::text(value, "metadata.uid");
        let refuse = |what: &str, wanted: &str, is: &str| {
            let cause = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"
            );
            Err(Status::conflict(&call.kind.resource, &call.name, &cause))
        };
        if let Some(wanted) = self.uid.as_deref().filter(|wanted| *wanted != uid) {
            return refuse("UID", wanted, uid);
        }
        let version = record.revision.to_string();
        match self.version.as_deref() {
            Some(wanted) if wanted != version => refuse("ResourceVersion", wanted, &version),
            _ => Ok(()),
        }
    }
}

/// Deletes the object.
///
/// # Errors
/// Why it can't be deleted.
pub async fn delete(call: &mut Call, options: &Options) -> Result<Deleted, Status> {
    for _ in 0..write::RETRIES_MAX {
        let record = call.api.read(&call.key()).await?;
        let record = record.ok_or_else(|| call.not_found())?;
        let seen = present::one(&call.api, &call.kind, &call.key(), record.clone(), true).await?;
        let old = wire(&call.kind, &seen);
        options.demand(call, &record, &old)?;
        admission::check(
            call,
            &mut Attributes::new(Operation::Delete, None, Some(&old)),
        )
        .await?;
        match once(call, options, &record, old).await {
            Ok(Deleted::Gone(record)) => {
                return write::seen(call, record).await.map(Deleted::Gone);
            }
            Ok(Deleted::Pending(record)) => {
                return write::seen(call, record).await.map(Deleted::Pending);
            }
            Err(Refused::Status(status)) => return Err(status),
            Err(Refused::Conflict) => {}
        }
    }
    Err(Status::modified(&call.kind.resource, &call.name))
}

async fn once(
    call: &Call,
    options: &Options,
    record: &Record,
    old: Value,
) -> Result<Deleted, Refused> {
    let mut new = old.clone();
    set_finalizers(call, options, &mut new);
    let grace = grace(call, options, &old);
    let pending = object::text(&old, "metadata.deletionTimestamp");
    let waits = !object::list(&new, "metadata.finalizers").is_empty()
        || call.kind.resource.is("", "namespaces")
            && !object::list(&new, "spec.finalizers").is_empty();
    if grace == 0 && !waits {
        if call.dry_run {
            return Ok(Deleted::Gone(record.clone()));
        }
        let expect = Expect::Revision(record.revision);
        let revision = call.api.commit(&call.key(), expect, None).await?;
        return Ok(Deleted::Gone(record.clone().at(revision)));
    }
    if pending.is_empty() {
        mark(call, &mut new, grace);
    } else {
        shorten(&mut new, &old, grace);
    }
    if new == old {
        return Ok(Deleted::Pending(record.clone()));
    }
    write::replace(call, record, new)
        .await
        .map(Deleted::Pending)
}

fn mark(call: &Call, new: &mut Value, grace: i64) {
    let at = Timestamp::from_seconds(clock::now().seconds + grace).to_seconds_text();
    write::next_generation(new);
    let meta = object::metadata_mut(new);
    meta.insert("deletionTimestamp".to_owned(), at.into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if call.kind.resource.is("", "namespaces") {
        object::object_mut(new, "status").insert("phase".to_owned(), "Terminating".into());
    }
}

/// A second deletion can only bring the end nearer.
fn shorten(new: &mut Value, old: &Value, grace: i64) {
    let before = object::int(old, "metadata.deletionGracePeriodSeconds").unwrap_or_default();
    if grace >= before {
        return;
    }
    let since = Timestamp::parse(object::text(old, "metadata.deletionTimestamp"))
        .map_or_else(|| clock::now().seconds, |at| at.seconds - before);
    let meta = object::metadata_mut(new);
    let at = Timestamp::from_seconds(since + grace).to_seconds_text();
    meta.insert("deletionTimestamp".to_owned(), at.into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

/// Only pods that run somewhere are given time to end.
fn grace(call: &Call, options: &Options, old: &Value) -> i64 {
    if !call.kind.resource.is("", "pods") {
        return 0;
    }
    let phase = object::text(old, "status.phase");
    if object::text(old, "spec.nodeName").is_empty() || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = object::int(old, "spec.terminationGracePeriodSeconds").unwrap_or(30);
    options.grace_seconds.unwrap_or(own).max(0)
}

fn set_finalizers(call: &Call, options: &Options, new: &mut Value) {
    let Some(policy) = options.propagation.as_deref() else {
        return;
    };
    if call.kind.resource.is("", "namespaces") && policy == "Orphan" {
        return;
    }
    let meta = object::metadata_mut(new);
    let list = meta.entry("finalizers").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    let wanted = match policy {
        "Foreground" => Some(FOREGROUND),
        "Orphan" => Some(ORPHAN),
        _ => None,
    };
    list.retain(|f| (f != FOREGROUND && f != ORPHAN) || wanted.is_some_and(|w| f == w));
    if let Some(wanted) = wanted
        && !list.iter().any(|f| f == wanted)
    {
        list.push(wanted.into());
    }
    if list.is_empty() {
        meta.shift_remove("finalizers");
    }
}

/// Deletes everything that a call selects, and gives what it was.
///
/// # Errors
/// The selection makes no sense, or the first object that could not be deleted.
pub async fn delete_collection(
    call: &mut Call,
    options: &Options,
) -> Result<super::list::Page, Status> {
    let page = super::list::list(call).await?;
    for object in page.objects.iter().take(COLLECTION_MAX) {
        let (namespace, name) = object.names();
        let mut one = call.about(namespace, name);
        match delete(&mut one, options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(page)
}

/// Kinds whose deletion answers with the object instead of a Status.
pub fn answers_object(call: &Call) -> bool {
    let resource = &call.kind.resource;
    resource.group.is_empty()
        && matches!(
            resource.plural.as_str(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        )
}

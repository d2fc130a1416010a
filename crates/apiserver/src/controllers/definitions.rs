//! CustomResourceDefinitions: their names are accepted, their resources served at once, their objects deleted with them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_kube_types::{Resource, Status, crd, object};

use super::list_mut;
use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::present::Definition;
use crate::registry::{Custom, Kind, Registry, prefix};
use crate::verbs::delete::{self, Options};
use crate::verbs::update::{Demand, Made, change};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const AGAIN: Duration = Duration::from_millis(250);

/// Follows definitions.
pub struct Definitions;

impl Controller for Definitions {
    fn name(&self) -> &'static str {
        "customresourcedefinition"
    }

    fn keys(&mut self, api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        if gone {
            serve_anew(api);
            // A name that is free now may be what another one waits for.
            let all = api.caches.of(&prefix(GROUP, PLURAL)).all("");
            let waits =
                |object: &&Arc<Object>| !is_true(&object.record.to_value(), "NamesAccepted");
            let waiting = all.iter().filter(waits);
            return waiting.map(|o| o.names().1.to_owned()).collect();
        }
        vec![object.names().1.to_owned()]
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move { reconcile(api, key).await })
    }
}

/// The registry of built-in resources and of all accepted definitions.
pub fn registry(caches: &crate::cache::Caches, generation: u64) -> Registry {
    let definitions = caches.of(&prefix(GROUP, PLURAL)).all("");
    let mut custom = Vec::new();
    for definition in &definitions {
        let value = definition.record.to_value();
        if !is_true(&value, "NamesAccepted") {
            continue;
        }
        let storage = crd::storage_version(&value).unwrap_or_default().to_owned();
        let forms = Arc::new(Definition::of(&value));
        for resource in crd::resources(&value) {
            custom.push(Custom {
                deprecated: deprecation(&value, &resource),
                resource,
                storage: storage.clone(),
                terminating: definition.facts.deleting,
                definition: forms.clone(),
            });
        }
    }
    Registry::new(caches, custom, generation)
}

fn deprecation(definition: &Value, resource: &Resource) -> Option<String> {
    let versions = object::list(definition, "spec.versions");
    let version = versions
        .iter()
        .find(|v| v["name"] == resource.version.as_str())?;
    if !object::flag(version, "deprecated") {
        return None;
    }
    let own = object::text(version, "deprecationWarning");
    Some(match own {
        "" => format!("{} {} is deprecated", resource.api_version(), resource.kind),
        own => own.to_owned(),
    })
}

fn serve_anew(api: &Api) {
    let generation = api.registry().generation + 1;
    api.set_registry(registry(&api.caches, generation));
}

fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut all = object::list(value, "status.conditions").iter();
    all.find(|c| c["type"] == kind)
}

fn is_true(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|c| c["status"] == "True")
}

fn set(status: &mut Value, kind: &str, state: &str, reason: &str, message: &str) {
    let new = json!({"type": kind, "status": state, "lastTransitionTime": clock::now_text(), "reason": reason,
        "message": message});
    let list = list_mut(object::object_mut(status, "status"), "conditions");
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old)
            if old["status"] == state && old["reason"] == reason && old["message"] == message => {}
        Some(old) => *old = new,
        None => list.push(new),
    }
}

async fn reconcile(api: &Arc<Api>, name: &str) -> Result<Option<Duration>, Status> {
    let kind = api.builtin(GROUP, PLURAL)?;
    let Some(object) = kind.cache.get(&kind.key("", name)) else {
        return Ok(None);
    };
    let value = object.record.to_value();
    if object.facts.deleting {
        return finish(api, &kind, &object, &value).await;
    }
    let conflict = taken(&kind, &value);
    if !is_established(&value, conflict.as_deref()) {
        accept(api, &kind, name, conflict).await?;
        api.caches.reach(api.revision().await?).await;
    }
    serve_anew(api);
    Ok(None)
}

/// Whether the status says already what is true.
fn is_established(value: &Value, conflict: Option<&str>) -> bool {
    let names = [
        "plural",
        "kind",
        "singular",
        "listKind",
        "shortNames",
        "categories",
    ];
    let same = names.iter().all(|field| {
        object::same(
            value["spec"]["names"].get(field),
            value["status"]["acceptedNames"].get(field),
        ) || matches!(*field, "singular" | "listKind")
    });
    let storage = crd::storage_version(value).unwrap_or_default();
    let stored = object::list(value, "status.storedVersions")
        .iter()
        .any(|v| v == storage);
    let finalizer = object::list(value, "metadata.finalizers")
        .iter()
        .any(|f| f == CLEANUP);
    conflict.is_none() && is_true(value, "Established") && same && stored && finalizer
}

/// A name of the definition that another resource of the group has.
fn taken(kind: &Kind, value: &Value) -> Option<String> {
    let group = object::text(value, "spec.group");
    let own = object::name(value);
    let names = &value["spec"]["names"];
    let field = |names: &Value, field: &str| names[field].as_str().unwrap_or_default().to_owned();
    for resource in wharf_kube_types::resources::builtin() {
        if resource.group == group
            && (resource.plural == field(names, "plural") || resource.kind == field(names, "kind"))
        {
            return Some(resource.plural.clone());
        }
    }
    for other in kind.cache.all("") {
        let other = other.record.to_value();
        if object::name(&other) == own
            || object::text(&other, "spec.group") != group
            || !is_true(&other, "NamesAccepted")
        {
            continue;
        }
        let theirs = &other["status"]["acceptedNames"];
        for name in ["plural", "singular", "kind", "listKind"] {
            let mine = field(names, name);
            if !mine.is_empty() && mine == field(theirs, name) {
                return Some(mine);
            }
        }
    }
    None
}

async fn accept(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    name: &str,
    conflict: Option<String>,
) -> Result<(), Status> {
    let mut call = Call::internal(api, kind, "", name, "crd-naming");
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        let meta = object::metadata_mut(&mut new);
        let list = list_mut(meta, "finalizers");
        if !list.iter().any(|f| f == CLEANUP) {
            list.push(CLEANUP.into());
        }
        Ok(Made::plain(new))
    })
    .await?;
    let mut call = call.on("status");
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        write_status(&mut new, conflict.as_deref());
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}

fn write_status(new: &mut Value, conflict: Option<&str>) {
    let storage = crd::storage_version(new).unwrap_or_default().to_owned();
    if let Some(name) = conflict {
        let why = format!("{name:?} is already in use");
        set(new, "NamesAccepted", "False", "Conflict", &why);
        if !is_true(new, "Established") {
            set(
                new,
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
            );
        }
    } else {
        let mut names = new["spec"]["names"].clone();
        let kind = object::text(&names, "kind").to_owned();
        if let Some(names) = names.as_object_mut() {
            object::fill(names, "listKind", format!("{kind}List"));
            object::fill(names, "singular", kind.to_lowercase());
        }
        object::object_mut(new, "status").insert("acceptedNames".to_owned(), names);
        set(
            new,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
        );
        set(
            new,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        );
    }
    let stored = list_mut(object::object_mut(new, "status"), "storedVersions");
    if !stored.iter().any(|v| v == storage.as_str()) {
        stored.push(storage.into());
    }
}

/// Deletes the objects of a definition that goes, then lets it go.
async fn finish(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    object: &Object,
    value: &Value,
) -> Result<Option<Duration>, Status> {
    // From here on nothing new can be made.
    serve_anew(api);
    if !object.facts.finalizers.iter().any(|f| **f == *CLEANUP) {
        return Ok(None);
    }
    if !is_true(value, "Terminating") {
        let mut call =
            Call::internal(api, kind, "", object.names().1, "crd-finalizer").on("status");
        change(&mut call, &Demand::default(), |_, old| {
            let mut new = old.clone();
            let words = "CustomResource deletion is in progress";
            set(
                &mut new,
                "Terminating",
                "True",
                "InstanceDeletionPending",
                words,
            );
            Ok(Made::plain(new))
        })
        .await?;
    }
    let group = object::text(value, "spec.group");
    let plural = object::text(value, "spec.names.plural");
    let mut left = 0;
    if let Some(custom) = api
        .registry()
        .any_version(group, plural)
        .filter(|k| k.resource.custom)
    {
        for object in custom.cache.all("") {
            let (namespace, name) = object.names();
            let mut call = Call::internal(api, custom, namespace, name, "crd-finalizer");
            match delete::delete(&mut call, &Options::default()).await {
                Ok(delete::Deleted::Pending(_)) => left += 1,
                Ok(delete::Deleted::Gone(_)) => {}
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
    }
    if left > 0 {
        return Ok(Some(AGAIN));
    }
    let mut call = Call::internal(api, kind, "", object.names().1, "crd-finalizer");
    let done = change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        if let Some(list) = new["metadata"]["finalizers"].as_array_mut() {
            list.retain(|f| f != CLEANUP);
        }
        Ok(Made::plain(new))
    })
    .await;
    match done {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(None),
    }
}

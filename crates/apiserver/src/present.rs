//! Stored custom objects as readers of a version see them: defaults of the version that they are stored in, then
//! converted, then without fields that the reader's version does not have.
//!
//! Most objects are stored as they are read, and pass through here as the bytes they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use wharf_kube_types::{Resource, Status, object, schema};

use crate::api::Api;
use crate::https;
use crate::object::{Object, Record};
use crate::registry::Kind;

const WEBHOOK_LIMIT: Duration = Duration::from_secs(30);
/// Objects in one question to a webhook: lists are asked about piece by piece.
const ASKED_MAX: usize = 500;
const REMEMBERED_MAX: usize = 2048;

/// What a definition says about the forms of its objects.
#[derive(Debug)]
pub struct Definition {
    /// All versions, those too that are not served any more.
    pub versions: Vec<Resource>,
    /// The `webhook` of the conversion, if the strategy is one.
    pub webhook: Option<Value>,
    /// A schema has defaults: objects that were stored before it had them lack them.
    pub defaults: bool,
    /// Objects that were presented already, by key and revision.
    seen: Mutex<HashMap<(String, String), (u64, Record)>>,
}

impl Definition {
    /// Of a CustomResourceDefinition.
    pub fn of(definition: &Value) -> Self {
        let names = object::list(definition, "spec.versions").iter();
        let names = names.map(|v| object::text(v, "name"));
        let webhook = (object::text(definition, "spec.conversion.strategy") == "Webhook")
            .then(|| definition["spec"]["conversion"]["webhook"].clone());
        let versions = names.filter_map(|name| wharf_kube_types::crd::version(definition, name));
        Self {
            versions: versions.collect(),
            webhook,
            defaults: has_defaults(&definition["spec"]["versions"]),
            seen: Mutex::default(),
        }
    }

    /// Whether stored objects always are as they are read.
    pub fn is_simple(&self) -> bool {
        !self.defaults && self.versions.len() == 1
    }

    fn version(&self, api_version: &str) -> Option<&Resource> {
        let (_, name) = wharf_kube_types::resources::split_api_version(api_version);
        self.versions.iter().find(|r| r.version == name)
    }

    /// The version that objects are stored in.
    ///
    /// # Errors
    /// The definition has no such version.
    pub fn stored(&self, api_version: &str) -> Result<&Resource, Status> {
        let missing = || Status::internal(&format!("no version {api_version} is defined"));
        self.version(api_version).ok_or_else(missing)
    }

    fn remembered(&self, version: &str, key: &str, revision: u64) -> Option<Record> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, record) = seen.get(&(version.to_owned(), key.to_owned()))?;
        (*known == revision).then(|| record.clone())
    }

    fn remember(&self, version: &str, key: &str, record: &Record) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        let place = (version.to_owned(), key.to_owned());
        seen.insert(place, (record.revision, record.clone()));
    }
}

/// Whether a schema somewhere states a default. A property of that name is taken for one: that costs time only.
fn has_defaults(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("default") || map.values().any(has_defaults),
        Value::Array(list) => list.iter().any(has_defaults),
        _ => false,
    }
}

/// An object as readers of the kind's version see it. `is_stored` where it is what the store has at its revision.
///
/// # Errors
/// It can't be converted.
pub async fn one(
    api: &Api,
    kind: &Kind,
    key: &str,
    record: Record,
    is_stored: bool,
) -> Result<Record, Status> {
    let mut out = all(api, kind, vec![(key, record)], is_stored).await?;
    out.pop()
        .ok_or_else(|| Status::internal("an object was lost in conversion"))
}

/// Objects as readers of the kind's version see them.
///
/// # Errors
/// One can't be converted.
pub async fn objects(
    api: &Api,
    kind: &Kind,
    objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, Status> {
    if kind.is_plain() {
        return Ok(objects);
    }
    let mut out = Vec::with_capacity(objects.len());
    for some in objects.chunks(ASKED_MAX) {
        let records = some.iter().map(|o| (&*o.key, o.record.clone())).collect();
        let presented = all(api, kind, records, true).await?;
        let pairs = some.iter().zip(presented);
        out.extend(pairs.map(|(object, record)| Arc::new(object.with_record(record))));
    }
    Ok(out)
}

async fn all(
    api: &Api,
    kind: &Kind,
    records: Vec<(&str, Record)>,
    are_stored: bool,
) -> Result<Vec<Record>, Status> {
    let Some(definition) = kind.definition.as_ref().filter(|_| !kind.is_plain()) else {
        return Ok(records.into_iter().map(|(_, record)| record).collect());
    };
    let wanted = kind.api_version();
    let mut out: Vec<Option<Record>> = Vec::with_capacity(records.len());
    let mut left: Vec<(usize, Value)> = Vec::new();
    for (index, (key, record)) in records.iter().enumerate() {
        let known = are_stored
            .then(|| definition.remembered(&wanted, key, record.revision))
            .flatten();
        out.push(known);
        if out[index].is_none() {
            let mut value = record.to_bare();
            let stored = value["apiVersion"].as_str().unwrap_or_default();
            if let Some(resource) = definition.version(stored) {
                schema::default(&resource.schema, &mut value);
            }
            left.push((index, value));
        }
    }
    let (places, mut values): (Vec<usize>, Vec<Value>) = left.into_iter().unzip();
    convert(api, definition, &kind.resource, &mut values).await?;
    for (index, value) in places.into_iter().zip(values) {
        let (key, record) = &records[index];
        let made = Record::encode(&value, record.revision);
        if are_stored {
            definition.remember(&wanted, key, &made);
        }
        out[index] = Some(made);
    }
    Ok(out.into_iter().flatten().collect())
}

/// Makes custom objects ones of a version of their definition.
///
/// # Errors
/// The webhook fails or answers nonsense.
pub async fn convert(
    api: &Api,
    definition: &Definition,
    to: &Resource,
    values: &mut [Value],
) -> Result<(), Status> {
    let wanted = to.api_version();
    let others = || {
        let all = values.iter().enumerate();
        let others = all.filter(|(_, v)| v["apiVersion"] != wanted.as_str());
        others.map(|(index, _)| index).collect::<Vec<usize>>()
    };
    let places = others();
    if places.is_empty() {
        return Ok(());
    }
    match &definition.webhook {
        None => {
            for &index in &places {
                values[index]["apiVersion"] = wanted.clone().into();
            }
        }
        Some(webhook) => {
            let asked: Vec<Value> = places.iter().map(|&i| values[i].clone()).collect();
            let gvk = of_kind(&asked[0]);
            let made = ask(api, webhook, &wanted, &asked).await;
            let made =
                made.map_err(|why| Status::unknown(format!("conversion webhook for {gvk} {why}")))?;
            for (index, value) in places.iter().zip(made) {
                values[*index] = value;
            }
        }
    }
    for index in places {
        schema::prune(&to.schema, &mut values[index]);
    }
    Ok(())
}

/// `group/version, Kind=X`, as messages name a kind.
fn of_kind(value: &Value) -> String {
    format!(
        "{}, Kind={}",
        object::text(value, "apiVersion"),
        object::text(value, "kind")
    )
}

/// Asks the webhook. The objects come back in their order, with nothing of their metadata changed but labels and
/// annotations.
async fn ask(
    api: &Api,
    webhook: &Value,
    wanted: &str,
    objects: &[Value],
) -> Result<Vec<Value>, String> {
    let versions = object::list(webhook, "conversionReviewVersions");
    if !versions.iter().any(|v| v == "v1") {
        return Err(
            "failed: it speaks no version of ConversionReview that this server does: v1".into(),
        );
    }
    let uid = crate::random::uuid();
    let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects}});
    let call = https::post(api, &webhook["clientConfig"], &review);
    let answer = match tokio::time::timeout(WEBHOOK_LIMIT, call).await {
        Ok(answer) => answer.map_err(|why| format!("failed: {why}"))?,
        Err(_) => return Err("failed: context deadline exceeded".to_owned()),
    };
    let made = converted(&answer, &uid).map_err(|why| format!("failed: {why}"))?;
    if made.len() != objects.len() {
        return Err(format!(
            "returned {} objects, expected {}",
            made.len(),
            objects.len()
        ));
    }
    let pairs = objects.iter().zip(made).enumerate();
    pairs
        .map(|(index, (old, new))| {
            checked(old, new, wanted)
                .map_err(|why| format!("returned invalid converted object at index {index}: {why}"))
        })
        .collect()
}

fn converted(answer: &Value, uid: &str) -> Result<Vec<Value>, String> {
    let gvk = of_kind(answer);
    let expected = "apiextensions.k8s.io/v1, Kind=ConversionReview";
    if gvk != expected {
        return Err(format!(
            "expected webhook response of {expected}, got {gvk}"
        ));
    }
    let response = &answer["response"];
    let own = object::text(response, "uid");
    if own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    match (
        object::text(response, "result.status"),
        object::text(response, "result.message"),
    ) {
        ("Success", _) => Ok(object::list(response, "convertedObjects").to_vec()),
        (status, "") => Err(format!(
            "response.result.status was '{status}', not 'Success'"
        )),
        (_, message) => Err(message.to_owned()),
    }
}

/// A converted object with the metadata of the original one, besides labels and annotations.
fn checked(old: &Value, mut new: Value, wanted: &str) -> Result<Value, String> {
    if !new.is_object() || !new["metadata"].is_object() {
        return Err("invalid metadata of type: expected an object".to_owned());
    }
    let version = object::text(&new, "apiVersion");
    if version != wanted {
        return Err(format!(
            "invalid groupVersion (expected {wanted}, received {version})"
        ));
    }
    for (path, what) in [
        ("kind", "kind"),
        ("metadata.name", "name"),
        ("metadata.namespace", "namespace"),
        ("metadata.uid", "UID"),
    ] {
        let (was, is) = (object::text(old, path), object::text(&new, path));
        if was != is {
            return Err(format!("must have the same {what}: {was} != {is}"));
        }
    }
    let mut meta = old["metadata"].clone();
    for field in ["labels", "annotations"] {
        let theirs = new["metadata"][field].take();
        if let Some(meta) = meta.as_object_mut() {
            let texts = |v: &Value| {
                let map = v.as_object();
                map.is_some_and(|m| !m.is_empty() && m.values().all(Value::is_string))
            };
            match &theirs {
                theirs if texts(theirs) => {
                    meta.insert(field.to_owned(), theirs.clone());
                }
                Value::Null => {
                    meta.shift_remove(field);
                }
                Value::Object(map) if map.is_empty() => {
                    meta.shift_remove(field);
                }
                _ => return Err(format!("invalid metadata: {field} are no map of strings")),
            }
        }
    }
    new["metadata"] = meta;
    Ok(new)
}

#[cfg(test)]
mod tests;

//! Namespaces that are being deleted: their content goes first, then they go.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::verbs::delete::{self, Options};
use crate::verbs::update::{Demand, Made, change};

/// How soon content that waits for its finalizers is looked at again.
const AGAIN: Duration = Duration::from_millis(250);

/// Empties and removes namespaces.
pub struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        if gone || !object.facts.deleting {
            return Vec::new();
        }
        vec![object.names().1.to_owned()]
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move { terminate(api, key).await })
    }
}

async fn terminate(api: &Arc<Api>, name: &str) -> Result<Option<Duration>, Status> {
    let kind = api.builtin("", "namespaces")?;
    let Some(record) = api.read(&kind.key("", name)).await? else {
        return Ok(None);
    };
    let value = record.to_value();
    let pending = object::list(&value, "spec.finalizers")
        .iter()
        .any(|f| f == "kubernetes");
    if object::text(&value, "metadata.deletionTimestamp").is_empty() || !pending {
        return Ok(None);
    }
    // What was committed before the deletion was seen must be in the caches.
    api.caches.reach(api.revision().await?).await;
    let left = empty(api, name).await?;
    if !left.is_empty() {
        report(api, &kind, name, &left).await?;
        return Ok(Some(AGAIN));
    }
    let mut call = Call::internal(api, &kind, "", name, "namespace-controller").on("finalize");
    let done = change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        if let Some(list) = new["spec"]["finalizers"].as_array_mut() {
            list.retain(|f| f != "kubernetes");
        }
        Ok(Made::plain(new))
    })
    .await;
    match done {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(None),
    }
}

/// Deletes what is in a namespace, and says what stays for now.
async fn empty(api: &Arc<Api>, namespace: &str) -> Result<Vec<String>, Status> {
    let mut left = Vec::new();
    for kind in api.registry().stored() {
        if !kind.resource.namespaced {
            continue;
        }
        let mut stay = 0;
        for object in kind.cache.all(&kind.range(namespace)) {
            let mut call = Call::internal(
                api,
                &kind,
                namespace,
                object.names().1,
                "namespace-controller",
            );
            let options = Options {
                propagation: Some("Background".to_owned()),
                ..Options::default()
            };
            match delete::delete(&mut call, &options).await {
                Ok(delete::Deleted::Gone(_)) => {}
                Ok(delete::Deleted::Pending(_)) => stay += 1,
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        if stay > 0 {
            left.push(format!(
                "{} has {stay} resource instances",
                kind.resource.qualified()
            ));
        }
    }
    Ok(left)
}

async fn report(
    api: &Arc<Api>,
    kind: &Arc<crate::registry::Kind>,
    name: &str,
    left: &[String],
) -> Result<(), Status> {
    let message = format!("Some resources are remaining: {}", left.join(", "));
    let mut call = Call::internal(api, kind, "", name, "namespace-controller").on("status");
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        let conditions = super::list_mut(object::object_mut(&mut new, "status"), "conditions");
        set_condition(
            conditions,
            "NamespaceContentRemaining",
            "SomeResourcesRemain",
            &message,
        );
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}

fn set_condition(list: &mut Vec<Value>, kind: &str, reason: &str, message: &str) {
    let known = list.iter_mut().find(|c| c["type"] == kind);
    let new = json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": clock::now_text()});
    match known {
        Some(old) => {
            old["message"] = message.into();
        }
        None => list.push(new),
    }
}

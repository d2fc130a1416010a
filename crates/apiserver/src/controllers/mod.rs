//! Controllers that the API itself needs: level-triggered, woken by the caches.

mod aggregation;
mod api_services;
mod bootstrap_tokens;
mod certificates;
mod definitions;
mod events;
mod finished;
mod garbage;
mod namespace;
mod namespace_defaults;
mod queue;
mod quota;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::api::Api;
use crate::cache::Cache;

pub use definitions::registry;

fn caches(api: &Api, prefixes: &[&str]) -> Vec<Arc<Cache>> {
    prefixes
        .iter()
        .map(|prefix| api.caches.of(prefix))
        .collect()
}

/// The list of a field, made if it is absent or null.
fn list_mut<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let slot = map.entry(field).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("made a list above"),
    }
}

/// Every cache of objects.
fn all_caches(api: &Api) -> Vec<Arc<Cache>> {
    let registry = api.registry();
    registry
        .stored()
        .iter()
        .map(|kind| kind.cache.clone())
        .collect()
}

/// Starts them all.
pub fn start(api: &Arc<Api>) {
    let one = |prefixes: &'static [&'static str]| move |api: &Api| caches(api, prefixes);
    let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| drop(tokio::spawn(task));
    spawn(Box::pin(queue::run(
        api.clone(),
        definitions::Definitions,
        one(&["apiextensions.k8s.io/customresourcedefinitions"]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        namespace::Namespaces,
        one(&["core/namespaces"]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        namespace_defaults::Defaults,
        one(&[
            "core/namespaces",
            "core/serviceaccounts",
            "core/configmaps",
            "core/secrets",
        ]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        garbage::Garbage::default(),
        all_caches,
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        aggregation::Aggregation,
        one(&["rbac.authorization.k8s.io/clusterroles"]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        api_services::ApiServices::default(),
        one(&[
            "apiregistration.k8s.io/apiservices",
            "apiextensions.k8s.io/customresourcedefinitions",
            "core/configmaps",
            "core/services",
            "discovery.k8s.io/endpointslices",
        ]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        bootstrap_tokens::BootstrapTokens,
        one(&["core/secrets", "core/configmaps"]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        certificates::Requests,
        one(&["certificates.k8s.io/certificatesigningrequests"]),
    )));
    spawn(Box::pin(queue::run(api.clone(), quota::Quotas, all_caches)));
    spawn(Box::pin(queue::run(
        api.clone(),
        finished::Finished,
        one(&["batch/jobs"]),
    )));
    spawn(Box::pin(queue::run(
        api.clone(),
        events::Expiry,
        one(&["core/events"]),
    )));
}

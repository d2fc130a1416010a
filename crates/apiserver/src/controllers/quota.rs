//! Resource quotas: what is used is counted anew whenever something of a namespace goes, or a quota asks for more.

use std::sync::Arc;

use serde_json::{Map, Value};
use wharf_kube_types::{Status, object};

use super::queue::{Controller, Reconciled};
use crate::admission::quota;
use crate::api::Api;
use crate::call::Call;
use crate::object::Object;
use crate::verbs::update::{Demand, Made, change};

/// Counts.
pub struct Quotas;

impl Controller for Quotas {
    fn name(&self) -> &'static str {
        "resource-quota"
    }

    fn keys(&mut self, api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        let (namespace, _) = object.names();
        if object.key.starts_with("core/resourcequotas/") {
            return match !gone && is_uncounted(object) {
                true => vec![object.key.to_string()],
                false => Vec::new(),
            };
        }
        let may_free = gone || object.key.starts_with("core/pods/");
        if !may_free || namespace.is_empty() {
            return Vec::new();
        }
        let Ok(quotas) = api.builtin("", "resourcequotas") else {
            return Vec::new();
        };
        let all = quotas.cache.all(&quotas.range(namespace));
        all.iter().map(|quota| quota.key.to_string()).collect()
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move { count(api, key).await.map(|()| None) })
    }
}

/// Whether a quota limits what its status does not know. A count that follows every change of the status would take back
/// what admission has granted to an object that is about to be stored.
fn is_uncounted(quota: &Object) -> bool {
    let quota = quota.record.to_value();
    let has = object::map(&quota, "spec.hard").eq(object::map(&quota, "status.hard"));
    !has || object::at(&quota, "status.used").is_none()
}

async fn count(api: &Arc<Api>, key: &str) -> Result<(), Status> {
    let kind = api.builtin("", "resourcequotas")?;
    let Some(object) = kind.cache.get(key) else {
        return Ok(());
    };
    let (namespace, name) = object.names();
    let mut call =
        Call::internal(api, &kind, namespace, name, "resourcequota-controller").on("status");
    // Counted from what is committed now; a write that comes between makes this one a conflict, and it starts again.
    api.caches.reach(api.revision().await?).await;
    let changed = change(&mut call, &Demand::default(), |call, old| {
        let hard = object::at(old, "spec.hard").cloned().unwrap_or_default();
        let names: Vec<&String> = object::map(old, "spec.hard")
            .map(|(name, _)| name)
            .collect();
        let used = quota::usage(&call.api, namespace, &names, &old["spec"]);
        let mut new = old.clone();
        let status = object::object_mut(&mut new, "status");
        status.insert("hard".to_owned(), hard);
        let used: Map<String, Value> = used
            .into_iter()
            .map(|(name, q)| (name, q.to_string().into()))
            .collect();
        status.insert("used".to_owned(), used.into());
        Ok(Made::plain(new))
    })
    .await;
    match changed {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

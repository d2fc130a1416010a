//! Jobs that ended are deleted when their time to live is over.

use std::sync::Arc;
use std::time::Duration;

use wharf_kube_types::object;
use wharf_kube_types::time::Timestamp;

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::verbs::delete;

/// Deletes them.
pub struct Finished;

impl Controller for Finished {
    fn name(&self) -> &'static str {
        "ttl-after-finished"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        if gone || object.facts.deleting {
            return Vec::new();
        }
        vec![object.key.to_string()]
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            let kind = api.builtin("batch", "jobs")?;
            let Some(object) = kind.cache.get(key) else {
                return Ok(None);
            };
            let job = object.record.to_value();
            let Some(life) = object::int(&job, "spec.ttlSecondsAfterFinished") else {
                return Ok(None);
            };
            let mut conditions = object::list(&job, "status.conditions").iter();
            let ended = conditions.find(|c| {
                matches!(object::text(c, "type"), "Complete" | "Failed") && c["status"] == "True"
            });
            let ended = ended.and_then(|c| Timestamp::parse(object::text(c, "lastTransitionTime")));
            let Some(ended) = ended else {
                return Ok(None);
            };
            let left = ended.seconds + life - clock::now().seconds;
            if left > 0 {
                return Ok(Some(Duration::from_secs(left.unsigned_abs())));
            }
            let (namespace, name) = object.names();
            let mut call = Call::internal(api, &kind, namespace, name, "ttl-after-finished");
            let options = delete::Options {
                uid: Some(object.facts.uid.to_string()),
                propagation: Some("Foreground".to_owned()),
                ..delete::Options::default()
            };
            match delete::delete(&mut call, &options).await {
                Err(status) if status.code != 404 && status.code != 409 => Err(status),
                _ => Ok(None),
            }
        })
    }
}

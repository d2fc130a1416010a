//! Events are forgotten an hour after their last change.

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

const LIFETIME_SECONDS: i64 = 3600;

/// Deletes old events.
pub struct Expiry;

impl Controller for Expiry {
    fn name(&self) -> &'static str {
        "event-ttl"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        if gone {
            Vec::new()
        } else {
            vec![object.key.to_string()]
        }
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            let kind = api.builtin("", "events")?;
            let Some(object) = kind.cache.get(key) else {
                return Ok(None);
            };
            let value = object.record.to_value();
            let newest = [
                "lastTimestamp",
                "eventTime",
                "series.lastObservedTime",
                "metadata.creationTimestamp",
            ]
            .iter()
            .filter_map(|path| Timestamp::parse(object::text(&value, path)))
            .max();
            let age = newest.map_or(0, |at| clock::now().seconds - at.seconds);
            if age < LIFETIME_SECONDS {
                let left = u64::try_from(LIFETIME_SECONDS - age).unwrap_or_default();
                return Ok(Some(Duration::from_secs(left + 1)));
            }
            let (namespace, name) = object.names();
            let mut call = Call::internal(api, &kind, namespace, name, "event-ttl");
            match delete::delete(&mut call, &delete::Options::default()).await {
                Err(status) if status.code != 404 => Err(status),
                _ => Ok(None),
            }
        })
    }
}

//! Counters in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::api::Api;

/// Combinations of labels that are told apart; more count as others.
const SERIES_MAX: usize = 4096;

/// What the server counts.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    /// Requests under way.
    pub inflight: AtomicU64,
    /// Watches under way.
    pub watches: AtomicU64,
}

impl Metrics {
    /// Counts a finished request.
    pub fn count(&self, verb: &str, resource: &str, code: u16) {
        let mut all = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let full = all.len() >= SERIES_MAX;
        let key = (verb.to_owned(), resource.to_owned(), code);
        match all.get_mut(&key) {
            Some(count) => *count += 1,
            None if full => {
                *all.entry((String::new(), "other".to_owned(), code))
                    .or_default() += 1
            }
            None => {
                all.insert(key, 1);
            }
        }
    }

    /// The page at `/metrics`.
    pub fn page(&self, api: &Api) -> String {
        let mut out = String::new();
        out.push_str("# HELP apiserver_request_total Requests by verb, resource and HTTP status.\n# TYPE apiserver_request_total counter\n");
        let all = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((verb, resource, code), count) in all.iter() {
            let _ = writeln!(
                out,
                "apiserver_request_total{{verb=\"{}\",resource=\"{resource}\",code=\"{code}\"}} {count}",
                verb.to_ascii_uppercase()
            );
        }
        drop(all);
        out.push_str("# HELP apiserver_storage_objects Stored objects.\n# TYPE apiserver_storage_objects gauge\n");
        let mut caches = api.caches.each();
        caches.sort_by(|a, b| a.0.cmp(&b.0));
        for (prefix, cache) in caches {
            let (group, plural) = prefix.split_once('/').unwrap_or(("", &prefix));
            let resource = match group {
                "core" => plural.to_owned(),
                group => format!("{plural}.{group}"),
            };
            let _ = writeln!(
                out,
                "apiserver_storage_objects{{resource=\"{resource}\"}} {}",
                cache.count()
            );
        }
        let gauge = |out: &mut String, name: &str, value: u64| {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        };
        gauge(
            &mut out,
            "apiserver_current_inflight_requests",
            self.inflight.load(Ordering::Relaxed),
        );
        gauge(
            &mut out,
            "apiserver_longrunning_requests",
            self.watches.load(Ordering::Relaxed),
        );
        gauge(&mut out, "apiserver_storage_revision", api.caches.applied());
        out
    }
}

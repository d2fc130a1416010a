//! What was written and the caches don't show yet, by version: nobody decides on an object that is older than what was
//! written to it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wharf_client::{Cache, Key, Object};

/// After this the cache is believed anyway: what was written is gone again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Versions that were written, by a group and an object of it.
#[derive(Default)]
pub(crate) struct Freshness(Mutex<HashMap<Key, HashMap<Key, Written>>>);

struct Written {
    /// Nothing: it was deleted.
    version: Option<u64>,
    uid: String,
    since: Instant,
}

impl Freshness {
    /// An object of a group was written.
    pub(crate) fn wrote<K: Object>(&self, group: &Key, object: &K) {
        self.note(group, object, object.resource_version().parse().ok());
    }

    /// An object of a group was deleted.
    pub(crate) fn deleted<K: Object>(&self, group: &Key, object: &K) {
        self.note(group, object, None);
    }

    fn note<K: Object>(&self, group: &Key, object: &K, version: Option<u64>) {
        let written = Written {
            version,
            uid: object.meta().uid.clone().unwrap_or_default(),
            since: Instant::now(),
        };
        let mut all = self.lock();
        let group = all.entry(group.clone()).or_default();
        group.insert(object.key(), written);
    }

    /// Whether the cache shows all that was written in a group. When it does not, an event will come, or
    /// [`PATIENCE`] passes.
    pub(crate) fn is_shown<K: Object>(&self, group: &Key, cache: &Cache<K>) -> bool {
        let mut all = self.lock();
        let Some(written) = all.get_mut(group) else {
            return true;
        };
        written.retain(|key, one| !one.is_shown(key, cache));
        let shown = written.is_empty();
        if shown {
            all.remove(group);
        }
        shown
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, HashMap<Key, Written>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn is_shown<K: Object>(&self, key: &Key, cache: &Cache<K>) -> bool {
        if self.since.elapsed() > PATIENCE {
            return true;
        }
        let shown = cache.get(key);
        match (shown, self.version) {
            (Some(shown), None) => shown.meta().uid.as_deref() != Some(&*self.uid),
            (Some(shown), Some(version)) => shown
                .resource_version()
                .parse()
                .is_ok_and(|shown: u64| shown >= version),
            (None, version) => version.is_none(),
        }
    }
}

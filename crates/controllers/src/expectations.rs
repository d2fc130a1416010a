//! What a controller wrote and its caches don't show yet. Nobody counts pods before they are all seen, so that a cache
//! that lags never makes too many.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use wharf_client::{Cache, Event, Key, Object};

use crate::informers::Informers;

/// After this the cache is believed anyway: it was made anew, or the watch lost something.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many pods that are gone are remembered: enough for those made and deleted before their making was noted.
const GONE_MAX: usize = 8192;

/// Of pods, by the uid of their owner.
pub(crate) struct Expectations {
    pods: Arc<Cache<Pod>>,
    gone: Arc<Mutex<Gone>>,
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
}

#[derive(Default)]
struct Gone {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

struct Waiting {
    key: Key,
    uid: String,
    /// It was deleted; otherwise, it was made.
    is_deletion: bool,
    since: Instant,
}

impl Expectations {
    /// Begins to look at the pods; must be made before the controllers listen to them.
    pub(crate) fn new(informers: &Informers) -> Expectations {
        let gone: Arc<Mutex<Gone>> = Arc::default();
        let note = gone.clone();
        informers.pods.listen(move |event| {
            if let Event::Deleted(pod) = event {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                note.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(uid);
            }
        });
        Expectations {
            pods: informers.pods.cache(),
            gone,
            waiting: Mutex::default(),
        }
    }

    /// A pod was made for this owner.
    pub(crate) fn created(&self, owner_uid: &str, pod: &Pod) {
        self.expect(owner_uid, pod, false);
    }

    /// A pod of this owner was deleted.
    pub(crate) fn deleted(&self, owner_uid: &str, pod: &Pod) {
        self.expect(owner_uid, pod, true);
    }

    fn expect(&self, owner_uid: &str, pod: &Pod, is_deletion: bool) {
        let waiting = Waiting {
            key: pod.key(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            is_deletion,
            since: Instant::now(),
        };
        let mut all = self.lock();
        all.entry(owner_uid.to_owned()).or_default().push(waiting);
    }

    /// Whether the cache shows all that was written for this owner. When it does not, an event will come.
    pub(crate) fn are_met(&self, owner_uid: &str) -> bool {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(owner_uid) else {
            return true;
        };
        waiting.retain(|one| !self.is_met(one));
        let met = waiting.is_empty();
        if met {
            all.remove(owner_uid);
        }
        met
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner_uid: &str) {
        self.lock().remove(owner_uid);
    }

    fn is_met(&self, one: &Waiting) -> bool {
        if one.since.elapsed() > PATIENCE {
            return true;
        }
        let shown = self.pods.get(&one.key);
        let same = shown.filter(|pod| pod.metadata.uid.as_deref() == Some(&*one.uid));
        match (same, one.is_deletion) {
            (Some(pod), true) => pod.metadata.deletion_timestamp.is_some(),
            (Some(_), false) => true,
            (None, true) => true,
            (None, false) => {
                let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                gone.uids.contains(&one.uid)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gone {
    fn push(&mut self, uid: String) {
        if self.uids.insert(uid.clone()) {
            self.order.push_back(uid);
        }
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

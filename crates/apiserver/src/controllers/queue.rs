//! The frame of a controller: keys come from events, each once, and are reconciled until that succeeds.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use wharf_kube_types::Status;
use wharf_store::Revision;

use crate::api::Api;
use crate::cache::{Cache, Cursor};
use crate::object::Object;

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A controller that follows more caches is woken by any change instead of by each of them.
const CURSORS_MAX: usize = 8;
const EVENTS_MAX: usize = 1024;

/// What a reconciliation wants: nothing more, or to be asked again later.
pub type Reconciled<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Duration>, Status>> + Send + 'a>>;

/// A controller.
pub trait Controller: Send + Sync + 'static {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// The keys to look at because of an object that came, changed or went. `gone` for the last.
    fn keys(&mut self, api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String>;

    /// Makes what is as it should be for a key.
    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a>;
}

struct Due {
    at: Instant,
    failures: u32,
}

struct Running<C> {
    controller: C,
    api: Arc<Api>,
    caches: Vec<Arc<Cache>>,
    cursors: Vec<Cursor>,
    pending: HashMap<String, Due>,
    applied: watch::Receiver<Revision>,
}

/// Runs a controller over caches for ever. `caches` is asked again whenever the registry changed.
pub async fn run<C: Controller>(
    api: Arc<Api>,
    controller: C,
    caches: impl Fn(&Api) -> Vec<Arc<Cache>>,
) {
    let mut running = Running {
        controller,
        api: api.clone(),
        caches: Vec::new(),
        cursors: Vec::new(),
        pending: HashMap::new(),
        applied: api.caches.changes(),
    };
    let mut generations = api.generations();
    loop {
        for cache in caches(&api) {
            if !running
                .caches
                .iter()
                .any(|known| Arc::ptr_eq(known, &cache))
            {
                running.follow(cache);
            }
        }
        loop {
            running.drain();
            running.work().await;
            let changed = tokio::select! {
                changed = generations.changed() => Some(changed.is_ok()),
                () = running.wait() => None,
            };
            match changed {
                None => {}
                Some(true) => break,
                Some(false) => return,
            }
        }
    }
}

impl<C: Controller> Running<C> {
    fn add(&mut self, keys: Vec<String>) {
        let now = Instant::now();
        for key in keys {
            let due = self.pending.entry(key).or_insert(Due {
                at: now,
                failures: 0,
            });
            due.at = now;
        }
    }

    fn note(&mut self, object: &Arc<Object>, gone: bool) {
        let keys = self.controller.keys(&self.api, object, gone);
        self.add(keys);
    }

    fn follow(&mut self, cache: Arc<Cache>) {
        let cursor = self.start(&cache);
        self.caches.push(cache);
        self.cursors.push(cursor);
    }

    /// Takes in everything that is there, and gives the place from which to follow.
    fn start(&mut self, cache: &Cache) -> Cursor {
        loop {
            let (revision, objects) = cache.snapshot();
            for object in &objects {
                self.note(object, false);
            }
            if let Ok(cursor) = cache.cursor(revision) {
                return cursor;
            }
        }
    }

    fn drain(&mut self) {
        // Marked before the look, so that what comes after it wakes again.
        self.applied.borrow_and_update();
        for index in 0..self.caches.len() {
            let cache = self.caches[index].clone();
            loop {
                match cache.take(&mut self.cursors[index], EVENTS_MAX) {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => {
                        for event in events {
                            match (&event.now, &event.before) {
                                (Some(now), _) => self.note(now, false),
                                (None, Some(before)) => self.note(before, true),
                                (None, None) => {}
                            }
                        }
                    }
                    Err(_) => self.cursors[index] = self.start(&cache),
                }
            }
        }
    }

    async fn work(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self
            .pending
            .iter()
            .filter(|(_, due)| due.at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let failures = self.pending.remove(&key).map_or(0, |due| due.failures);
            match self.controller.reconcile(&self.api, &key).await {
                Ok(None) => {}
                Ok(Some(later)) => self.again(key, later, 0),
                Err(status) => {
                    let name = self.controller.name();
                    tracing::debug!(controller = name, %key, error = %status.message, "tries again");
                    let wait = RETRY_FIRST * 2u32.saturating_pow(failures.min(16));
                    self.again(key, wait.min(RETRY_LAST), failures + 1);
                }
            }
        }
    }

    fn again(&mut self, key: String, wait: Duration, failures: u32) {
        let at = Instant::now() + wait;
        self.pending.insert(key, Due { at, failures });
    }

    async fn wait(&mut self) {
        let next = self.pending.values().map(|due| due.at).min();
        if self.cursors.len() > CURSORS_MAX {
            let changed = self.applied.changed();
            let _ = match next {
                Some(at) => tokio::time::timeout_at(at, changed).await.is_ok(),
                None => changed.await.is_ok(),
            };
            return;
        }
        let wakes = self
            .cursors
            .iter_mut()
            .map(|cursor| Box::pin(cursor.wait()));
        let woken = async {
            let wakes: Vec<_> = wakes.collect();
            if wakes.is_empty() {
                std::future::pending::<()>().await;
            }
            futures_util::future::select_all(wakes).await;
        };
        match next {
            Some(at) => {
                let _ = tokio::time::timeout_at(at, woken).await;
            }
            None => woken.await,
        }
    }
}

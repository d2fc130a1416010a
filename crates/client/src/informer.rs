//! Lists, then watches, and keeps a cache up to date for all who share it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{Api, Error, ListRequest, Query, Result, WatchEvent, WatchKind, WatchRequest};
use crate::pause::Pause;
use crate::{Cache, Index, Key, Object};

/// Objects asked for at once.
const PAGE_OBJECTS: usize = 500;
/// Between attempts to reach a server that does not answer.
const ATTEMPTS: Pause = Pause {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(30),
};

/// What happened to an object, as the cache shows it from now on.
#[derive(Debug)]
pub enum Event<K> {
    /// It is there, or another than before.
    Applied {
        /// As it was, if it was there.
        old: Option<Arc<K>>,
        /// As it is.
        new: Arc<K>,
    },
    /// It is gone; as it was when it was last seen.
    Deleted(Arc<K>),
}

type Listener<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

/// A cache that follows the server until it is dropped.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
    synced: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

struct Shared<K> {
    cache: Arc<Cache<K>>,
    /// Held while an event is told, so that each listener hears events in their order.
    listeners: Mutex<Vec<Listener<K>>>,
}

impl<K: Object> Informer<K> {
    /// Begins to follow. Wants a tokio runtime.
    pub fn start(
        api: Arc<dyn Api>,
        query: Query,
        indexes: Vec<(&'static str, Index<K>)>,
    ) -> Informer<K> {
        let shared = Arc::new(Shared {
            cache: Arc::new(Cache::new(indexes)),
            listeners: Mutex::new(Vec::new()),
        });
        let (tell, synced) = watch::channel(false);
        let follower = Follower {
            api,
            query,
            shared: shared.clone(),
            synced: tell,
        };
        Informer {
            shared,
            synced,
            task: tokio::spawn(follower.follow()),
        }
    }

    /// What is there.
    pub fn cache(&self) -> Arc<Cache<K>> {
        self.shared.cache.clone()
    }

    /// Waits until the cache shows everything that was there at the beginning.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // An error is the end of the follower, which only the informer's own end brings.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Has a listener told of everything there is, then of everything that happens, in order. It must be quick: it puts
    /// keys into a queue.
    pub fn listen(&self, listener: impl Fn(&Event<K>) + Send + Sync + 'static) {
        let mut listeners = self.shared.listeners();
        for new in self.shared.cache.all() {
            listener(&Event::Applied { old: None, new });
        }
        listeners.push(Box::new(listener));
    }
}

impl<K> Drop for Informer<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Object> Shared<K> {
    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener<K>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, new: K) {
        let listeners = self.listeners();
        let new = Arc::new(new);
        let old = self.cache.put(new.clone());
        // A listing after a broken watch brings much that is known.
        let same = |old: &Arc<K>| {
            !new.resource_version().is_empty() && old.resource_version() == new.resource_version()
        };
        if old.as_ref().is_some_and(same) {
            return;
        }
        tell(&listeners, &Event::Applied { old, new });
    }

    fn delete(&self, key: &Key) {
        let listeners = self.listeners();
        if let Some(old) = self.cache.take(key) {
            tell(&listeners, &Event::Deleted(old));
        }
    }
}

fn tell<K>(listeners: &[Listener<K>], event: &Event<K>) {
    for listener in listeners {
        listener(event);
    }
}

struct Follower<K> {
    api: Arc<dyn Api>,
    query: Query,
    shared: Arc<Shared<K>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Follower<K> {
    async fn follow(self) {
        let mut failures = 0;
        // As far as the cache goes; nothing before the first listing, and after a past that the server forgot.
        let mut at: Option<String> = None;
        loop {
            let outcome = match at.take() {
                None => self.list().await.map(Some),
                Some(version) => self.watch(version, &mut failures).await,
            };
            match outcome {
                Ok(version) => at = version,
                Err((version, error)) => {
                    failures += 1;
                    let plural = &self.query.resource.plural;
                    tracing::warn!(%plural, error = chain(&error), "can't be followed for now");
                    at = version;
                    tokio::time::sleep(ATTEMPTS.spread(failures)).await;
                }
            }
        }
    }

    /// Makes the cache what the server has; returns as of when.
    async fn list(&self) -> Result<String, (Option<String>, Error)> {
        let mut seen = std::collections::HashSet::new();
        let mut from = String::new();
        let version = loop {
            let request = ListRequest {
                query: self.query.clone(),
                limit: PAGE_OBJECTS,
                from,
            };
            let page = self.api.list(request).await.map_err(|e| (None, e))?;
            for item in &page.items {
                let object: K = parse(item).map_err(|e| (None, e))?;
                seen.insert(object.key());
                self.shared.apply(object);
            }
            if page.next.is_empty() {
                break page.resource_version;
            }
            from = page.next;
        };
        for key in self.shared.cache.keys() {
            if !seen.contains(&key) {
                self.shared.delete(&key);
            }
        }
        self.synced.send_replace(true);
        Ok(version)
    }

    /// Follows from a version on; returns from where to go on, or nothing when only a listing helps.
    async fn watch(
        &self,
        mut version: String,
        failures: &mut u32,
    ) -> Result<Option<String>, (Option<String>, Error)> {
        let request = WatchRequest {
            query: self.query.clone(),
            resource_version: version.clone(),
        };
        let mut events = match self.api.watch(request).await {
            Ok(events) => events,
            Err(error) if error.is_expired() => return Ok(None),
            Err(error) => return Err((Some(version), error)),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    version = self.take(&event).map_err(|e| (None, e))?;
                    *failures = 0;
                }
                Err(error) if error.is_expired() => return Ok(None),
                Err(error) => return Err((Some(version), error)),
            }
        }
        // Servers end watches now and then; one that does nothing else must not be asked without a rest.
        *failures += 1;
        tokio::time::sleep(ATTEMPTS.spread(*failures).min(Duration::from_secs(1))).await;
        Ok(Some(version))
    }

    /// Takes an event in; returns its version.
    fn take(&self, event: &WatchEvent) -> Result<String> {
        if event.kind == WatchKind::Bookmark {
            return Ok(parse::<Head>(&event.object)?.metadata.resource_version);
        }
        let object: K = parse(&event.object)?;
        let version = object.resource_version().to_owned();
        match event.kind {
            WatchKind::Deleted => self.shared.delete(&object.key()),
            _ => self.shared.apply(object),
        }
        Ok(version)
    }
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Deserialize)]
struct HeadMeta {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
}

fn parse<T: serde::de::DeserializeOwned>(object: &Bytes) -> Result<T> {
    serde_json::from_slice(object).map_err(|e| Error::Malformed {
        operation: "read an object".to_owned(),
        source: e.into(),
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

//! How a controller works: workers take keys, a handler brings what a key names into order, failures come again later.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use wharf_client::{Event, Informer, Key, Object, Queue};

use crate::writes::Error;

/// Work that goes on until it is dropped.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a handler says: when to come again though nothing happens, or why it failed.
pub(crate) type Outcome = Result<Option<Duration>, Error>;

/// Works on the keys of a queue, several at once, each by one worker; a key whose handler failed comes again with
/// back-off.
pub(crate) fn work<H, F>(name: &'static str, queue: Queue<Key>, workers: usize, handler: H) -> Task
where
    H: Fn(Key) -> F + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send,
{
    Box::pin(async move {
        let mut all: FuturesUnordered<_> = (0..workers.max(1))
            .map(|_| worker(name, &queue, &handler))
            .collect();
        while all.next().await.is_some() {}
    })
}

async fn worker<H, F>(name: &'static str, queue: &Queue<Key>, handler: &H)
where
    H: Fn(Key) -> F,
    F: Future<Output = Outcome>,
{
    while let Some(taken) = queue.next().await {
        let key = taken.key().clone();
        match handler(key.clone()).await {
            Ok(again) => {
                queue.forget(&key);
                if let Some(wait) = again {
                    queue.add_after(key, wait);
                }
            }
            Err(error) => {
                if error.is_conflict() {
                    tracing::debug!(controller = name, %key, error = error.chain(), "again");
                } else {
                    tracing::warn!(controller = name, %key, error = error.chain(), "again");
                }
                queue.retry(key);
            }
        }
    }
}

/// Has a queue take in what is to be looked at when an object of a resource changes.
pub(crate) fn feed<K: Object>(
    informer: &Informer<K>,
    queue: &Queue<Key>,
    keys: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = queue.clone();
    informer.listen(move |event| {
        let (old, new) = match event {
            Event::Applied { old, new } => (old.as_ref(), Some(new)),
            Event::Deleted(old) => (Some(old), None),
        };
        // Who had the object before must know too, though it is no longer theirs.
        for object in old.into_iter().chain(new) {
            for key in keys(object) {
                queue.add(key);
            }
        }
    });
}

/// Has a queue take in the changed objects themselves.
pub(crate) fn feed_own<K: Object>(informer: &Informer<K>, queue: &Queue<Key>) {
    feed(informer, queue, |object: &K| vec![object.key()]);
}

//! Follows the store's stream of changes and hands each to the cache of its resource, in the order of revisions.

use std::sync::Arc;

use wharf_store::{Change, Error, Event, Range, Revision, Store, Watch};

use crate::cache::{Cache, Caches};

/// Changes taken in one go before watchers are woken.
const BATCH_MAX: usize = 1024;

/// Follows a store. Made by [`Follower::open`], then [`Follower::run`] for ever.
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    /// Changes up to this revision were loaded already.
    loaded: Revision,
}

impl Follower {
    /// Makes the caches and fills them with what the store holds; `describe` names the resources before the fill.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(
        store: &dyn Store,
        describe: impl FnOnce(&Caches),
    ) -> Result<(Arc<Caches>, Self), Error> {
        let (watch, oldest) = watch_all(store).await?;
        let caches = Arc::new(Caches::new(oldest));
        describe(&caches);
        let page = store.list(Range::default()).await?;
        page.entries.iter().for_each(|entry| caches.load(entry));
        let loaded = page.revision;
        let mut follower = Self { watch, loaded };
        let mut touched = Vec::new();
        while let Some(event) = follower.watch.try_next() {
            follower.take(&caches, &event, &mut touched);
        }
        caches.announce(&touched, loaded);
        Ok((caches, follower))
    }

    /// Runs until the store is closed.
    pub async fn run(mut self, store: Arc<dyn Store>, caches: Arc<Caches>) {
        loop {
            match self.watch.next().await {
                Ok(event) => self.batch(&caches, &event),
                Err(Error::Lagged { .. }) => match self.restart(&*store, &caches).await {
                    Ok(()) => tracing::warn!("fell behind the store: watchers have to list again"),
                    Err(error) => {
                        tracing::error!(%error, "can't follow the store any more");
                        return;
                    }
                },
                Err(_) => return,
            }
        }
    }

    fn batch(&mut self, caches: &Caches, first: &Event) {
        let mut touched = Vec::new();
        let mut newest = self.take(caches, first, &mut touched);
        for _ in 1..BATCH_MAX {
            match self.watch.try_next() {
                Some(event) => newest = newest.max(self.take(caches, &event, &mut touched)),
                None => break,
            }
        }
        caches.announce(&touched, newest);
    }

    fn take(&self, caches: &Caches, event: &Event, touched: &mut Vec<Arc<Cache>>) -> Revision {
        match event {
            Event::Progress(revision) => *revision,
            Event::Change(change) => {
                let change: &Change = change;
                if let Some(cache) = caches.apply(change, change.revision <= self.loaded)
                    && !touched.iter().any(|known| Arc::ptr_eq(known, &cache))
                {
                    touched.push(cache);
                }
                change.revision
            }
        }
    }

    async fn restart(&mut self, store: &dyn Store, caches: &Caches) -> Result<(), Error> {
        let revision = store.get("").await?.revision;
        self.watch = store.watch("", revision).await?;
        let page = store.list(Range::default()).await?;
        self.loaded = page.revision;
        caches.reload(&page.entries, page.revision);
        Ok(())
    }
}

/// A watch from the oldest revision that the store still has.
async fn watch_all(store: &dyn Store) -> Result<(Watch, Revision), Error> {
    match store.watch("", 1).await {
        Err(Error::Compacted { oldest, .. }) => Ok((store.watch("", oldest).await?, oldest)),
        Ok(watch) => Ok((watch, 1)),
        Err(error) => Err(error),
    }
}

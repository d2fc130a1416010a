//! Bringing data to disk beside the work that made it.
//!
//! A pull or load is done when its files are in the page cache; whether the disk has them a few seconds earlier or later
//! changes nothing but the wait. Its image is recorded as not synced yet and, should the power fail in between, is not
//! here after it, as if it had never been pulled. One thread at a time syncs; what comes in meanwhile shares the next
//! round, so that many layers and images cost few rounds.

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};

use crate::Images;
use crate::error::io_at;
use crate::store::{ImageRecord, Inner};

/// What waits for the next round.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    running: bool,
    again: bool,
    /// Images to be recorded as durable afterwards.
    images: Vec<String>,
}

/// Shared by whoever asks for a round and the thread that does it.
pub(crate) type Flushing = Mutex<Flush>;

impl Images {
    /// Has everything written so far brought to disk soon; then `image` counts as durable.
    pub(crate) fn flush_soon(&self, image: Option<String>) {
        let mut flush = lock(&self.inner.flushing);
        flush.images.extend(image);
        flush.again = true;
        if std::mem::replace(&mut flush.running, true) {
            return;
        }
        drop(flush);
        // Weak: whoever drops the last handle may open the data root again at once.
        let weak = Arc::downgrade(&self.inner);
        let spawned = std::thread::Builder::new()
            .name("image-flush".to_owned())
            .spawn(move || rounds(&weak));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to sync images; they are synced with the next one");
            lock(&self.inner.flushing).running = false;
        }
    }
}

fn rounds(weak: &Weak<Inner>) {
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let images = {
            let mut flush = lock(&inner.flushing);
            if !std::mem::take(&mut flush.again) {
                flush.running = false;
                return;
            }
            std::mem::take(&mut flush.images)
        };
        let folder = File::open(&inner.root).map_err(io_at("open", &inner.root));
        drop(inner);
        let synced = folder.and_then(|folder| {
            rustix::fs::syncfs(folder).map_err(crate::error::io("sync file system"))
        });
        let Some(inner) = weak.upgrade() else { return };
        let recorded = synced.and_then(|()| record(&Images { inner }, &images));
        if let Err(error) = recorded {
            // They stay marked as not synced; naming them again, or the next start, tries again.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "images could not be synced"
            );
        }
    }
}

fn record(images: &Images, ids: &[String]) -> crate::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    // Quick after the round just done; also marks the blobs.
    images.inner.blobs.sync()?;
    for id in ids {
        let _writing = images.inner.writing();
        let Ok(stored) = images.stored(id) else {
            continue;
        };
        if stored.record.unsynced_boot.is_some() {
            images.write_image(
                &stored,
                ImageRecord {
                    unsynced_boot: None,
                    ..stored.record.clone()
                },
            )?;
        }
    }
    images.settle_names()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

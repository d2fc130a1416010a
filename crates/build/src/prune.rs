//! Removing cache records, and the images that only they held.

use std::collections::HashSet;

use crate::{Builder, Error, blocking};

impl Builder {
    /// Removes cache records: those whose image no name leads to, or all. Returns bytes freed, those of images that
    /// nothing needs any more included.
    pub async fn prune(&self, all: bool) -> Result<u64, Error> {
        let builder = self.clone();
        blocking(move || builder.prune_now(all)).await
    }

    fn prune_now(&self, all: bool) -> Result<u64, Error> {
        let images = self.images.list(true)?;
        let parents = |id: &str| {
            images
                .iter()
                .find(|image| image.id == id)
                .and_then(|image| image.parent.clone())
        };
        // Named images and what they were built on.
        let mut wanted: HashSet<String> = HashSet::new();
        for image in images.iter().filter(|image| !image.tags.is_empty()) {
            let mut next = Some(image.id.clone());
            while let Some(id) = next.take_if(|id| wanted.insert(id.clone())) {
                next = parents(&id);
            }
        }
        let keep = |image: &str| !all && wanted.contains(image);
        let (mut freed_bytes, mut made) = self.cache.prune(&keep)?;
        made.sort();
        made.dedup();
        made.retain(|id| !wanted.contains(id));
        let (before, _) = self.images.totals()?;
        let in_use = |id: &str| {
            self.engine
                .as_ref()
                .and_then(|engine| engine.image_user(id))
        };
        // Children first: each pass removes those that are nobody's parent.
        loop {
            let count = made.len();
            made.retain(|id| {
                let is_parent = !self.images.children(id).is_empty();
                is_parent || self.images.remove(id, false, false, &in_use).is_err()
            });
            if made.len() == count {
                break;
            }
        }
        let (after, _) = self.images.totals()?;
        freed_bytes += before.saturating_sub(after);
        Ok(freed_bytes)
    }
}

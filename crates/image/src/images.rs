//! Images by name: finding, listing, tagging, creating.

use std::collections::HashSet;
use std::sync::Arc;

use crate::layers::replace_json_durably;
use crate::store::{ImageRecord, ManifestRef, State, Stored};
use crate::{ChainId, Error, Image, Images, Reference, Result};

/// When a registered image is on disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settle {
    /// When it gets a name (a build step).
    Never,
    /// In a moment (what can be pulled or loaded again).
    Soon,
    /// Before the call returns.
    Now,
}

impl Images {
    /// Finds by name, name@digest, `sha256:` ID or unique ID prefix.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let id = self.resolve_id(name)?;
        self.image(&id)
    }

    /// An image by its complete ID.
    pub(crate) fn image(&self, id: &str) -> Result<Image> {
        self.inner
            .read(|state| state.images.get(id).map(|stored| view(state, stored)))
            .ok_or_else(|| not_found(id))
    }

    pub(crate) fn resolve_id(&self, name: &str) -> Result<String> {
        let is_hex = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        self.inner.read(|state| {
            let full = format!("sha256:{digits}");
            if digits.len() == 64 && state.images.contains_key(&full) {
                return Ok(full);
            }
            let reference = if name.starts_with("sha256:") {
                None
            } else {
                Reference::parse(name).ok()
            };
            if let Some(reference) = reference.map(Reference::or_latest)
                && let Some(id) = find_name(state, &reference)
            {
                return Ok(id);
            }
            if !is_hex(digits) || digits.len() > 64 {
                // Malformed names are told apart from absent ones.
                return Err(match Reference::parse(name) {
                    Err(e) if digits.len() != 64 => e,
                    _ => not_found(name),
                });
            }
            let mut fitting = state
                .images
                .keys()
                .filter(|id| id["sha256:".len()..].starts_with(digits));
            match (fitting.next(), fitting.next()) {
                (Some(id), None) => Ok(id.clone()),
                (Some(_), Some(_)) => Err(Error::Ambiguous(name.to_owned())),
                (None, _) => Err(not_found(name)),
            }
        })
    }

    /// Every image, untagged ones included, newest first. Those that only exist as parents of others
    /// (build steps) come with `all`.
    pub fn list(&self, all: bool) -> Result<Vec<Image>> {
        let mut images = self.inner.read(|state| {
            let named: HashSet<&String> = state.names.values().collect();
            let parents: HashSet<&String> = state
                .images
                .values()
                .filter_map(|image| image.record.parent.as_ref())
                .collect();
            let wanted = |id: &String| all || named.contains(id) || !parents.contains(id);
            let chosen = state.images.iter().filter(|(id, _)| wanted(id));
            chosen
                .map(|(_, stored)| view(state, stored))
                .collect::<Vec<Image>>()
        });
        images.sort_by(|a, b| {
            let created = |image: &Image| {
                image
                    .config
                    .created()
                    .as_deref()
                    .and_then(|t| t.parse::<jiff::Timestamp>().ok())
            };
            created(b).cmp(&created(a)).then_with(|| a.id.cmp(&b.id))
        });
        Ok(images)
    }

    /// IDs of the images whose parent is this one.
    pub fn children(&self, id: &str) -> Vec<String> {
        self.inner.read(|state| children(state, id))
    }

    /// Gives `source` another name; an image that had it loses it. The reference needs no tag (`latest`).
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let id = self.resolve_id(source)?;
        let reference = Reference::parse(target)?;
        if reference.digest.is_some() {
            return Err(Error::Invalid(
                "refusing to create a tag with a digest reference".to_owned(),
            ));
        }
        let stored = self.stored(&id)?;
        self.settle(&stored)?;
        self.name(&id, &[reference.or_latest()])
    }

    /// Gives names to an image.
    pub(crate) fn name(&self, id: &str, references: &[Reference]) -> Result<()> {
        let _writing = self.inner.writing();
        let mut names = self.inner.read(|state| state.names.clone());
        let mut changed = false;
        for reference in references {
            changed |= names
                .insert(reference.to_string(), id.to_owned())
                .as_deref()
                != Some(id);
        }
        if !changed {
            return Ok(());
        }
        self.touch(id)?;
        // A name need not outlive a loss of power that its image does not.
        let durable = self.stored(id)?.record.unsynced_boot.is_none();
        self.write_names(names, durable)
    }

    /// The caller holds the write lock. Not durable: the last durable list is kept beside, in case the new one is torn
    /// by a loss of power.
    pub(crate) fn write_names(
        &self,
        names: std::collections::BTreeMap<String, String>,
        durable: bool,
    ) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let path = self.inner.root.join(crate::store::NAMES);
        if durable {
            replace_json_durably(&path, &names)?;
        } else {
            if self.inner.names_durable.load(Relaxed) && path.exists() {
                let kept = self.inner.root.join(crate::store::NAMES_KEPT);
                std::fs::rename(&path, &kept).map_err(crate::error::io_at("keep", &path))?;
            }
            crate::layers::replace_json(&path, &names)?;
        }
        self.inner.names_durable.store(durable, Relaxed);
        self.inner.change(|state| state.names = names);
        Ok(())
    }

    /// Makes a list of names durable that was written in passing.
    pub(crate) fn settle_names(&self) -> Result<()> {
        let _writing = self.inner.writing();
        if self
            .inner
            .names_durable
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return Ok(());
        }
        let names = self.inner.read(|state| state.names.clone());
        self.write_names(names, true)
    }

    /// Notes the time of tagging. The caller holds the write lock.
    fn touch(&self, id: &str) -> Result<()> {
        let stored = self.stored(id)?;
        let record = ImageRecord {
            last_tagged: Some(jiff::Timestamp::now().to_string()),
            ..stored.record.clone()
        };
        self.write_image(&stored, record)
    }

    pub(crate) fn stored(&self, id: &str) -> Result<Arc<Stored>> {
        self.inner
            .read(|state| state.images.get(id).cloned())
            .ok_or_else(|| not_found(id))
    }

    /// Writes an image's record and puts it into the picture. The caller holds the write lock.
    pub(crate) fn write_image(&self, stored: &Stored, record: ImageRecord) -> Result<()> {
        let path = self.image_path(&record.id);
        match &record.unsynced_boot {
            Some(_) => crate::layers::replace_json(&path, &record)?,
            None => replace_json_durably(&path, &record)?,
        }
        let stored = Stored {
            record,
            config: stored.config.clone(),
            config_bytes: stored.config_bytes.clone(),
            chains: stored.chains.clone(),
        };
        self.inner.change(|state| {
            for chain in &stored.chains {
                state.fresh.remove(chain);
            }
            state
                .images
                .insert(stored.record.id.clone(), Arc::new(stored));
        });
        Ok(())
    }

    pub(crate) fn image_path(&self, id: &str) -> std::path::PathBuf {
        self.inner
            .root
            .join("images")
            .join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    /// Brings everything an image needs to disk, before something that must not be lost refers to it.
    fn settle(&self, stored: &Stored) -> Result<()> {
        if stored.record.unsynced_boot.is_none() {
            return Ok(());
        }
        self.inner.blobs.sync()?;
        let _writing = self.inner.writing();
        let stored = self.stored(&stored.record.id)?;
        self.write_image(
            &stored,
            ImageRecord {
                unsynced_boot: None,
                ..stored.record.clone()
            },
        )
    }

    /// Puts an image together from layers that are here. `config_bytes` is the configuration JSON, complete
    /// with `rootfs.diff_ids`. Without a target the image may not survive a loss of power (a build step); it is made
    /// durable when it gets a name.
    pub fn create(
        &self,
        config_bytes: &[u8],
        parent: Option<&str>,
        target: Option<&Reference>,
    ) -> Result<Image> {
        let settle = if target.is_some() {
            Settle::Now
        } else {
            Settle::Never
        };
        self.register(config_bytes, parent, settle, None)?;
        let id = wharf_blob::Digest::of(config_bytes).to_string();
        if let Some(target) = target {
            self.name(&id, &[target.clone().or_latest()])?;
        }
        self.image(&id)
    }

    /// Records an image whose layers are unpacked here; says whether it is new.
    pub(crate) fn register(
        &self,
        config_bytes: &[u8],
        parent: Option<&str>,
        settle: Settle,
        manifest: Option<ManifestRef>,
    ) -> Result<bool> {
        let lease = self.inner.blobs.lease();
        let id = self
            .inner
            .blobs
            .put(config_bytes, wharf_blob::Durability::Deferred, &lease)?
            .to_string();
        let config = crate::manifest::parse_config(config_bytes)?;
        let diff_ids = config.rootfs().diff_ids().clone();
        let (_hold, here) = self.inner.hold(&diff_ids);
        if let Some(missing) = diff_ids.iter().find(|diff_id| !here.contains(*diff_id)) {
            return Err(Error::LayerNotFound(missing.clone()));
        }
        let mut above: Option<String> = None;
        for diff_id in &diff_ids {
            above = Some(self.inner.link_chain(above.as_deref(), diff_id)?);
        }
        if settle == Settle::Now {
            self.inner.blobs.sync()?;
        }
        let writing = self.inner.writing();
        let known = self.inner.read(|state| state.images.get(&id).cloned());
        let is_new = known.is_none();
        let mut record = known.as_ref().map_or_else(
            || ImageRecord {
                id: id.clone(),
                parent: None,
                last_tagged: None,
                manifests: Vec::new(),
                unsynced_boot: Some(self.inner.boot.clone()),
            },
            |known| known.record.clone(),
        );
        record.parent = parent
            .map(str::to_owned)
            .or(record.parent)
            .filter(|parent| *parent != id);
        record
            .manifests
            .extend(manifest.filter(|manifest| !record.manifests.contains(manifest)));
        if settle == Settle::Now {
            record.unsynced_boot = None;
        }
        if known.is_none_or(|known| known.record != record) {
            let stored = self.inner.complete(record.clone())?;
            self.write_image(&stored, record)?;
        }
        drop(writing);
        if settle == Settle::Soon {
            self.flush_soon(Some(id));
        }
        Ok(is_new)
    }

    /// Bytes of unpacked layers in all, and of how many images (for `system df` and `info`).
    pub fn totals(&self) -> Result<(u64, usize)> {
        Ok(self.inner.read(|state| {
            (
                state
                    .layers
                    .values()
                    .map(|entry| entry.record.size_bytes)
                    .sum(),
                state.images.len(),
            )
        }))
    }
}

pub(crate) fn children(state: &State, id: &str) -> Vec<String> {
    let is_child = |image: &&Arc<Stored>| image.record.parent.as_deref() == Some(id);
    state
        .images
        .values()
        .filter(is_child)
        .map(|image| image.record.id.clone())
        .collect()
}

/// Complete names of an image, sorted.
pub(crate) fn names_of(state: &State, id: &str) -> Vec<Reference> {
    let names = state.names.iter().filter(|(_, target)| *target == id);
    names
        .filter_map(|(name, _)| Reference::parse(name).ok())
        .collect()
}

fn find_name(state: &State, reference: &Reference) -> Option<String> {
    let by_digest = reference
        .digest
        .as_ref()
        .map(|digest| reference.by_digest(digest).to_string());
    // With both, the digest decides.
    state
        .names
        .get(&by_digest.unwrap_or_else(|| reference.to_string()))
        .cloned()
}

fn not_found(name: &str) -> Error {
    match Reference::parse(name) {
        Ok(reference) if !name.starts_with("sha256:") => {
            Error::NotFound(reference.or_latest().familiar())
        }
        _ => Error::NotFound(name.to_owned()),
    }
}

fn view(state: &State, stored: &Stored) -> Image {
    let names = names_of(state, &stored.record.id);
    let (digests, tags): (Vec<&Reference>, Vec<&Reference>) =
        names.iter().partition(|name| name.digest.is_some());
    let top = stored.chains.last();
    let layers = top
        .and_then(|chain| state.stack(chain).ok())
        .unwrap_or_default();
    Image {
        id: stored.record.id.clone(),
        tags: tags.iter().map(|name| name.familiar()).collect(),
        digests: digests.iter().map(|name| name.familiar()).collect(),
        config: stored.config.clone(),
        config_bytes: stored.config_bytes.clone(),
        top: top.map(|chain| ChainId(chain.clone())),
        size_bytes: layers.iter().map(|entry| entry.record.size_bytes).sum(),
        last_tagged: stored.record.last_tagged.clone(),
        parent: stored
            .record
            .parent
            .clone()
            .filter(|parent| state.images.contains_key(parent)),
    }
}

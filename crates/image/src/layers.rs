//! Unpacked layers: one folder for each diff ID, shared by every chain it is part of.
//!
//! What overlayfs needs of a layer does not depend on what lies below it, so layers unpack side by side, and a layer
//! that two images have on different bases is on disk once. A chain is a small record: its top layer and its parent.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::io_at;
use crate::intake::Intake;
use crate::store::{Inner, State};
use crate::{ChainId, Error, Layer, Result};

/// What is known of a layer; `layer.json` in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub diff_id: String,
    pub size_bytes: u64,
    pub tar_bytes: u64,
    pub empty: bool,
    /// The packed form that is in the content store.
    pub blob: Option<LayerBlob>,
    /// `REGISTRY/REPOSITORY`s known to have that blob: from there it can be mounted instead of sent.
    pub sources: Vec<String>,
}

/// Repositories remembered for one layer.
const SOURCES_MAX: usize = 32;

impl LayerRecord {
    /// Remembers a repository that has the packed form; the oldest is forgotten.
    pub(crate) fn add_source(&mut self, source: String) {
        if self.sources.len() >= SOURCES_MAX {
            self.sources.remove(0);
        }
        self.sources.push(source);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerBlob {
    pub digest: String,
    pub size_bytes: u64,
    pub media_type: String,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerEntry {
    pub number: u64,
    pub record: LayerRecord,
}

/// `chains/HEX.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainRecord {
    pub diff_id: String,
    pub parent: Option<String>,
}

/// A folder under construction; removed when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    kept: bool,
}

impl Staged {
    /// Where the layer's files go.
    pub(crate) fn tree(&self) -> PathBuf {
        self.path.join("fs")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its place.
    pub(crate) fn place(mut self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).map_err(io_at("move a finished folder to", target))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = crate::discard::remove(&self.path)
        {
            // Opening the store tries again.
            tracing::warn!(path = %self.path.display(), %error, "a staging folder stays behind");
        }
    }
}

/// Keeps layers from being collected while an operation needs them.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    images: &'a Inner,
    diff_ids: Vec<String>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.images.change(|state| {
            for diff_id in &self.diff_ids {
                if let Some(count) = state.pins.get_mut(diff_id) {
                    *count -= 1;
                    if *count == 0 {
                        state.pins.remove(diff_id);
                    }
                }
            }
        });
    }
}

/// Chain ID of a layer on a chain (image-spec, "Layer ChainID").
pub(crate) fn chain_of(parent: Option<&str>, diff_id: &str) -> String {
    match parent {
        None => diff_id.to_owned(),
        Some(parent) => format!(
            "sha256:{}",
            hex::encode(Sha256::digest(format!("{parent} {diff_id}").as_bytes()))
        ),
    }
}

/// Chain IDs of a stack, lowest first.
pub(crate) fn chains_of(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(chain_of(chains.last().map(String::as_str), diff_id));
    }
    chains
}

impl State {
    /// Layers of a chain, topmost first.
    pub(crate) fn stack(&self, chain: &str) -> Result<Vec<&LayerEntry>> {
        let mut stack = Vec::new();
        let mut next = Some(chain);
        while let Some(chain) = next {
            let record = self
                .chains
                .get(chain)
                .ok_or_else(|| Error::LayerNotFound(chain.to_owned()))?;
            stack.push(
                self.layers
                    .get(&record.diff_id)
                    .ok_or_else(|| Error::LayerNotFound(record.diff_id.clone()))?,
            );
            next = record.parent.as_deref();
        }
        Ok(stack)
    }

    /// Chains that something needs, their ancestors included.
    fn live_chains(&self) -> HashSet<String> {
        let images = self.images.values().filter_map(|image| image.chains.last());
        let snapshots = self
            .snapshots
            .values()
            .filter_map(|snapshot| snapshot.parent.as_ref());
        let mut todo: Vec<&String> = images.chain(snapshots).chain(self.fresh.keys()).collect();
        let mut live = HashSet::new();
        while let Some(chain) = todo.pop() {
            if live.insert(chain.clone()) {
                todo.extend(
                    self.chains
                        .get(chain)
                        .and_then(|record| record.parent.as_ref()),
                );
            }
        }
        live
    }
}

impl Inner {
    pub(crate) fn layer_path(&self, number: u64) -> PathBuf {
        self.root.join("layers").join(number.to_string())
    }

    fn chain_path(&self, chain: &str) -> PathBuf {
        self.root
            .join("chains")
            .join(format!("{}.json", chain.trim_start_matches("sha256:")))
    }

    /// A new staging folder with an empty tree in it.
    pub(crate) fn stage(&self) -> Result<Staged> {
        let path = self
            .root
            .join("staging")
            .join(self.next_number().to_string());
        std::fs::create_dir(&path).map_err(io_at("make folder", &path))?;
        let staged = Staged { path, kept: false };
        make_tree_folder(&staged.tree())?;
        Ok(staged)
    }

    /// Pins layers by diff ID and says which of them are here: those stay until the hold ends.
    pub(crate) fn hold(&self, diff_ids: &[String]) -> (Hold<'_>, HashSet<String>) {
        let here = self.change(|state| {
            for diff_id in diff_ids {
                *state.pins.entry(diff_id.clone()).or_insert(0) += 1;
            }
            diff_ids
                .iter()
                .filter(|diff_id| state.layers.contains_key(*diff_id))
                .cloned()
                .collect()
        });
        (
            Hold {
                images: self,
                diff_ids: diff_ids.to_vec(),
            },
            here,
        )
    }

    /// Registers an unpacked layer; the hold keeps it until a chain does. When the same came in meanwhile, the staging
    /// folder is thrown away.
    pub(crate) fn adopt(
        &self,
        intake: Intake,
        blob: Option<LayerBlob>,
    ) -> Result<(LayerRecord, Hold<'_>)> {
        let record = LayerRecord {
            diff_id: intake.diff_id,
            size_bytes: intake.unpacked.size_bytes,
            tar_bytes: intake.tar_bytes,
            empty: intake.unpacked.entries == 0,
            blob,
            sources: Vec::new(),
        };
        self.adopt_staged(intake.staged, record)
    }

    pub(crate) fn adopt_staged(
        &self,
        staged: Staged,
        record: LayerRecord,
    ) -> Result<(LayerRecord, Hold<'_>)> {
        let _writing = self.writing();
        let (hold, _) = self.hold(std::slice::from_ref(&record.diff_id));
        let known = self.read(|state| {
            state
                .layers
                .get(&record.diff_id)
                .map(|entry| entry.record.clone())
        });
        if let Some(mut known) = known {
            // The first of several packed forms stays: what was pushed once keeps its digest.
            let keep = known
                .blob
                .as_ref()
                .is_some_and(|blob| self.has_blob(&blob.digest));
            if !keep && record.blob.is_some() {
                known.blob = record.blob;
                self.write_layer(&known)?;
            }
            return Ok((known, hold));
        }
        write_json(&staged.path().join("layer.json"), &record)?;
        let number = self.next_number();
        staged.place(&self.layer_path(number))?;
        let entry = LayerEntry {
            number,
            record: record.clone(),
        };
        self.change(|state| state.layers.insert(record.diff_id.clone(), entry));
        Ok((record, hold))
    }

    pub(crate) fn has_blob(&self, digest: &str) -> bool {
        wharf_blob::Digest::parse(digest)
            .is_ok_and(|digest| matches!(self.blobs.stat(&digest), Ok(Some(_))))
    }

    /// Replaces what is known of a layer that is here. The caller holds the write lock.
    fn write_layer(&self, record: &LayerRecord) -> Result<()> {
        let number = self.read(|state| state.layers.get(&record.diff_id).map(|entry| entry.number));
        let number = number.ok_or_else(|| Error::LayerNotFound(record.diff_id.clone()))?;
        replace_json(&self.layer_path(number).join("layer.json"), record)?;
        self.change(|state| {
            if let Some(entry) = state.layers.get_mut(&record.diff_id) {
                entry.record = record.clone();
            }
        });
        Ok(())
    }

    /// Changes what is known of a layer.
    pub(crate) fn update_layer(
        &self,
        diff_id: &str,
        change: impl FnOnce(&mut LayerRecord),
    ) -> Result<()> {
        let _writing = self.writing();
        let mut record = self.layer_record(diff_id)?;
        change(&mut record);
        self.write_layer(&record)
    }

    pub(crate) fn layer_record(&self, diff_id: &str) -> Result<LayerRecord> {
        self.read(|state| state.layers.get(diff_id).map(|entry| entry.record.clone()))
            .ok_or_else(|| Error::LayerNotFound(diff_id.to_owned()))
    }

    /// The folder of a layer's files.
    pub(crate) fn layer_tree(&self, diff_id: &str) -> Result<PathBuf> {
        let number = self.read(|state| state.layers.get(diff_id).map(|entry| entry.number));
        number
            .map(|n| self.layer_path(n).join("fs"))
            .ok_or_else(|| Error::LayerNotFound(diff_id.to_owned()))
    }

    /// Records that a layer lies on a chain. Both must be here.
    pub(crate) fn link_chain(&self, parent: Option<&str>, diff_id: &str) -> Result<String> {
        let chain = chain_of(parent, diff_id);
        let record = ChainRecord {
            diff_id: diff_id.to_owned(),
            parent: parent.map(str::to_owned),
        };
        let _writing = self.writing();
        let known = self.read(|state| {
            let parent_here = record
                .parent
                .as_ref()
                .is_none_or(|parent| state.chains.contains_key(parent));
            let here = parent_here && state.layers.contains_key(diff_id);
            here.then(|| state.chains.contains_key(&chain))
        });
        match known {
            None => return Err(Error::LayerNotFound(chain)),
            Some(true) => {}
            Some(false) => replace_json(&self.chain_path(&chain), &record)?,
        }
        self.change(|state| {
            state.chains.insert(chain.clone(), record);
            state.fresh.insert(chain.clone(), std::time::Instant::now());
        });
        Ok(chain)
    }

    /// The public view of a chain's top layer.
    pub(crate) fn layer_of(&self, chain: &str) -> Option<Layer> {
        self.read(|state| {
            let record = state.chains.get(chain)?;
            let layer = &state.layers.get(&record.diff_id)?.record;
            Some(Layer {
                diff_id: layer.diff_id.clone(),
                chain: ChainId(chain.to_owned()),
                size_bytes: layer.size_bytes,
                empty: layer.empty,
            })
        })
    }

    /// Removes chains, layers and blobs that nothing needs: those in `candidates` with their ancestors, or any.
    /// Returns the bytes freed.
    pub(crate) fn collect(&self, candidates: Option<&[String]>) -> Result<u64> {
        let writing = self.writing();
        let dead_chains = self.read(|state| dead_chains(state, candidates));
        for chain in &dead_chains {
            let path = self.chain_path(chain);
            std::fs::remove_file(&path)
                .or_else(absent)
                .map_err(io_at("remove", &path))?;
        }
        let dead_layers = self.change(|state| {
            for chain in &dead_chains {
                state.chains.remove(chain);
            }
            take_dead_layers(state, candidates.is_some().then_some(&dead_chains))
        });
        let mut trash = Vec::new();
        let mut freed_bytes = 0;
        for entry in dead_layers {
            freed_bytes += entry.record.size_bytes;
            let target = self
                .root
                .join("staging")
                .join(self.next_number().to_string());
            let path = self.layer_path(entry.number);
            std::fs::rename(&path, &target)
                .or_else(absent)
                .map_err(io_at("remove layer", &path))?;
            trash.push(target);
        }
        let live = self.live_blobs();
        drop(writing);
        self.blobs.collect(
            &|digest| live.contains(digest.as_str()),
            std::time::Duration::ZERO,
        )?;
        for path in trash {
            crate::discard::remove(&path)?;
        }
        Ok(freed_bytes)
    }

    fn live_blobs(&self) -> HashSet<String> {
        self.read(|state| {
            let layers = state
                .layers
                .values()
                .filter_map(|entry| entry.record.blob.as_ref().map(|b| b.digest.clone()));
            let images = state.images.values().flat_map(|image| {
                let manifests = image
                    .record
                    .manifests
                    .iter()
                    .map(|manifest| manifest.digest.clone());
                manifests.chain([image.record.id.clone()])
            });
            layers.chain(images).collect()
        })
    }
}

fn dead_chains(state: &State, candidates: Option<&[String]>) -> HashSet<String> {
    let live = state.live_chains();
    let mut asked = HashSet::new();
    match candidates {
        None => asked.extend(state.chains.keys().cloned()),
        Some(chains) => {
            let mut todo: Vec<String> = chains.to_vec();
            while let Some(chain) = todo.pop() {
                todo.extend(
                    state
                        .chains
                        .get(&chain)
                        .and_then(|record| record.parent.clone()),
                );
                asked.insert(chain);
            }
        }
    }
    asked.retain(|chain| !live.contains(chain));
    asked
}

/// Takes out layers that no chain has and nobody holds. With `of`, only those that came from there.
fn take_dead_layers(state: &mut State, of: Option<&HashSet<String>>) -> Vec<LayerEntry> {
    let used: HashSet<&String> = state
        .chains
        .values()
        .map(|record| &record.diff_id)
        .collect();
    let free = |diff_id: &&String| !used.contains(diff_id) && !state.pins.contains_key(*diff_id);
    let dead: Vec<String> = match of {
        // Without a chain: left by a pull that did not end, and perhaps about to be resumed.
        Some(chains) if chains.is_empty() => Vec::new(),
        _ => state.layers.keys().filter(free).cloned().collect(),
    };
    dead.iter()
        .filter_map(|diff_id| state.layers.remove(diff_id))
        .collect()
}

/// The root of a layer's tree: what a container sees as `/` where no layer says otherwise.
pub(crate) fn make_tree_folder(path: &Path) -> Result<()> {
    std::fs::create_dir(path).map_err(io_at("make folder", path))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(io_at("set mode of", path))
}

pub(crate) fn absent(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(e)
    }
}

/// For a file in a folder that does not count yet.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::Invalid(format!("can't write {}: {e}", path.display())))?;
    std::fs::write(path, bytes).map_err(io_at("write", path))
}

/// By rename, not synced: the records that point here are synced before they are written.
pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let new = path.with_extension("new");
    write_json(&new, value)?;
    std::fs::rename(&new, path).map_err(io_at("replace", path))
}

/// By rename, file and folder synced.
pub(crate) fn replace_json_durably<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let new = path.with_extension("new");
    write_json(&new, value)?;
    let sync = |path: &Path| {
        std::fs::File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(io_at("sync", path))
    };
    sync(&new)?;
    std::fs::rename(&new, path).map_err(io_at("replace", path))?;
    path.parent().map_or(Ok(()), sync)
}

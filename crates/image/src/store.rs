//! What is on disk below the data root and its picture in memory; opening is recovering.
//!
//! ```text
//! content/                 blobs: manifests, configurations, packed layers (crate `blob`)
//! layers/N/{fs,layer.json} unpacked layers; N is only a short name for mount options
//! chains/HEX.json          top layer and parent of a chain
//! images/HEX.json          images by the digest of their configuration
//! names.json               every name with the image it stands for; names.kept.json the last durable list
//! snapshots/KEY/           upper, work, snapshot.json
//! staging/                 whatever is under construction; emptied on opening
//! boot                     boot ID when last opened
//! ```
//!
//! Order of durability: layers, chains and blobs appear by rename without a sync each; before the record of an image
//! that needs them is written, one `syncfs` brings them all to disk. After a loss of power, layers that no image record
//! vouches for are removed. Pulls and loads don't wait for that sync (see `flush`): until it is through, the image's record
//! says so, and after a loss of power it counts as absent.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use oci_spec::image::ImageConfiguration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::io_at;
use crate::layers::{ChainRecord, LayerEntry, LayerRecord};
use crate::registry::Registries;
use crate::snapshot::SnapshotRecord;
use crate::{Error, RegistryConfig, Result};

const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// A download interrupted longer ago is not resumed.
const PARTIAL_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// Every name and its image; and the last list known to be durable, while a newer one is not.
pub(crate) const NAMES: &str = "names.json";
pub(crate) const NAMES_KEPT: &str = "names.kept.json";

/// `images/HEX.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub id: String,
    pub parent: Option<String>,
    pub last_tagged: Option<String>,
    /// Manifests this image came with or was pushed as, in the content store.
    pub manifests: Vec<ManifestRef>,
    /// Boot ID while the image's layers may not be on disk yet; a build step that nobody named.
    pub unsynced_boot: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRef {
    pub digest: String,
    pub media_type: String,
    pub size_bytes: u64,
}

/// An image with everything that is asked of it often.
#[derive(Debug)]
pub(crate) struct Stored {
    pub record: ImageRecord,
    pub config: Arc<ImageConfiguration>,
    pub config_bytes: bytes::Bytes,
    /// Lowest first.
    pub chains: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub images: HashMap<String, Arc<Stored>>,
    /// Complete reference → image ID.
    pub names: BTreeMap<String, String>,
    pub layers: HashMap<String, LayerEntry>,
    pub chains: HashMap<String, ChainRecord>,
    pub snapshots: HashMap<String, SnapshotRecord>,
    /// Diff IDs that running operations need.
    pub pins: HashMap<String, usize>,
    /// Chains made since opening that no image has yet.
    pub fresh: HashMap<String, Instant>,
}

/// What clones of [`crate::Images`] share.
///
/// Lock order: `write`, then `state`. `state` is held for look-ups in memory only, never over a file operation.
#[derive(Debug)]
pub(crate) struct Inner {
    pub root: PathBuf,
    pub blobs: wharf_blob::Store,
    pub registries: Registries,
    /// Why overlays can't be mounted here, if so.
    pub overlay_refused: Option<String>,
    pub boot: String,
    pub packing: crate::pack::Packing,
    pub flushing: crate::flush::Flushing,
    /// Whether the list of names on disk is known to be whole after a loss of power.
    pub names_durable: std::sync::atomic::AtomicBool,
    state: RwLock<State>,
    write: Mutex<()>,
    number: AtomicU64,
}

impl Inner {
    /// Opens the store below `root`; removes what an interrupted operation left behind.
    pub(crate) fn open(root: &Path, config: RegistryConfig) -> Result<Inner> {
        for folder in ["layers", "chains", "images", "snapshots", "staging"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(io_at("make folder", &path))?;
        }
        std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(io_at("set mode of", root))?;
        // Takes the lock that keeps a second process out of the whole root.
        let blobs = wharf_blob::Store::open(&root.join("content"))?;
        let staging = root.join("staging");
        for entry in folder(&staging)? {
            crate::discard::remove(&staging.join(entry))?;
        }
        remove_stale_ingests(&blobs)?;
        let overlay_refused = crate::overlay::probe(&staging).err().map(|e| e.to_string());
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned();
        let mut inner = Inner {
            root: root.to_owned(),
            blobs,
            registries: Registries::new(config),
            overlay_refused,
            boot,
            packing: Default::default(),
            flushing: Default::default(),
            names_durable: Default::default(),
            state: RwLock::default(),
            write: Mutex::default(),
            number: AtomicU64::new(1),
        };
        inner.load()?;
        Ok(inner)
    }

    fn load(&mut self) -> Result<()> {
        let boot_path = self.root.join("boot");
        let same_boot = std::fs::read_to_string(&boot_path)
            .is_ok_and(|text| text == self.boot && !text.is_empty());
        let mut state = State::default();
        self.load_layers(&mut state)?;
        self.load_chains(&mut state)?;
        self.load_images(&mut state)?;
        self.load_snapshots(&mut state)?;
        self.load_names(&mut state)?;
        if !same_boot {
            self.drop_doubtful(&mut state)?;
            std::fs::write(&boot_path, &self.boot).map_err(io_at("write", &boot_path))?;
        }
        if !state.names.is_empty() {
            // From here on a durable list exists, whatever the last process left in the page cache.
            crate::layers::replace_json_durably(&self.root.join(NAMES), &state.names)?;
            *self.names_durable.get_mut() = true;
        }
        *self
            .state
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = state;
        Ok(())
    }

    fn load_layers(&mut self, state: &mut State) -> Result<()> {
        let path = self.root.join("layers");
        let mut highest = 0;
        for name in folder(&path)? {
            let number = name.parse::<u64>().ok();
            let record = parse::<LayerRecord>(&path.join(&name).join("layer.json"));
            let (Some(number), Some(record)) = (number, record) else {
                tracing::warn!(layer = %name, "a damaged layer is removed");
                crate::discard::remove(&path.join(&name))?;
                continue;
            };
            highest = highest.max(number);
            if let Some(twin) = state
                .layers
                .insert(record.diff_id.clone(), LayerEntry { number, record })
            {
                crate::discard::remove(&self.layer_path(twin.number))?;
            }
        }
        *self.number.get_mut() = highest + 1;
        Ok(())
    }

    fn load_chains(&self, state: &mut State) -> Result<()> {
        let path = self.root.join("chains");
        for name in folder(&path)? {
            let Some(hex) = name.strip_suffix(".json") else {
                crate::discard::remove(&path.join(&name))?;
                continue;
            };
            let record = parse::<ChainRecord>(&path.join(&name));
            let id = format!("sha256:{hex}");
            match record.filter(|r| crate::layers::chain_of(r.parent.as_deref(), &r.diff_id) == id)
            {
                Some(record) if state.layers.contains_key(&record.diff_id) => {
                    state.chains.insert(id, record);
                }
                _ => crate::discard::remove(&path.join(&name))?,
            }
        }
        // A chain without its parent is of no use.
        loop {
            let orphaned = |r: &ChainRecord| {
                r.parent
                    .as_ref()
                    .is_some_and(|p| !state.chains.contains_key(p))
            };
            let orphans: Vec<String> = state
                .chains
                .iter()
                .filter(|(_, r)| orphaned(r))
                .map(|(id, _)| id.clone())
                .collect();
            if orphans.is_empty() {
                return Ok(());
            }
            for id in orphans {
                state.chains.remove(&id);
            }
        }
    }

    fn load_images(&self, state: &mut State) -> Result<()> {
        let path = self.root.join("images");
        for name in folder(&path)? {
            let Some(record) =
                parse::<ImageRecord>(&path.join(&name)).filter(|_| name.ends_with(".json"))
            else {
                crate::discard::remove(&path.join(&name))?;
                continue;
            };
            let lost = record
                .unsynced_boot
                .as_ref()
                .is_some_and(|boot| *boot != self.boot);
            let stored = self.complete(record);
            match stored {
                Ok(stored)
                    if !lost
                        && stored
                            .chains
                            .last()
                            .is_none_or(|top| state.chains.contains_key(top)) =>
                {
                    state
                        .images
                        .insert(stored.record.id.clone(), Arc::new(stored));
                }
                _ => {
                    tracing::warn!(image = %name, "an image without its layers or configuration is removed");
                    crate::discard::remove(&path.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Reads an image's configuration.
    pub(crate) fn complete(&self, record: ImageRecord) -> Result<Stored> {
        let digest = wharf_blob::Digest::parse(&record.id)?;
        let config_bytes = bytes::Bytes::from(self.blobs.read(&digest, CONFIG_BYTES_MAX)?);
        let config = crate::manifest::parse_config(&config_bytes)?;
        let chains = crate::layers::chains_of(config.rootfs().diff_ids());
        Ok(Stored {
            record,
            config: Arc::new(config),
            config_bytes,
            chains,
        })
    }

    fn load_snapshots(&self, state: &mut State) -> Result<()> {
        let path = self.root.join("snapshots");
        for key in folder(&path)? {
            match parse::<SnapshotRecord>(&path.join(&key).join("snapshot.json")) {
                Some(record)
                    if record
                        .parent
                        .as_ref()
                        .is_none_or(|parent| state.chains.contains_key(parent)) =>
                {
                    state.snapshots.insert(key, record);
                }
                _ => {
                    tracing::warn!(snapshot = %key, "a snapshot without its record or layers is removed");
                    crate::discard::remove(&path.join(&key))?;
                }
            }
        }
        Ok(())
    }

    fn load_names(&self, state: &mut State) -> Result<()> {
        let path = self.root.join(NAMES);
        let kept = self.root.join(NAMES_KEPT);
        let names = match read_names(&path) {
            Err(e) => match read_names(&kept) {
                Ok(Some(names)) => names,
                _ => return Err(e),
            },
            // Between the two renames of a change.
            Ok(None) => read_names(&kept)?.unwrap_or_default(),
            Ok(Some(names)) => names,
        };
        state.names = names
            .into_iter()
            .filter(|(_, id)| state.images.contains_key(id))
            .collect();
        Ok(())
    }

    /// After another boot: what no image (or container) vouches for may never have reached the disk.
    fn drop_doubtful(&self, state: &mut State) -> Result<()> {
        let mut vouched = std::collections::HashSet::new();
        let images = state
            .images
            .values()
            .filter_map(|image| image.chains.last().cloned());
        let snapshots = state
            .snapshots
            .values()
            .filter_map(|snapshot| snapshot.parent.clone());
        for chain in images.chain(snapshots) {
            vouched.extend(
                state
                    .stack(&chain)?
                    .iter()
                    .map(|entry| entry.record.diff_id.clone()),
            );
        }
        state
            .chains
            .retain(|_, record| vouched.contains(&record.diff_id));
        let doubtful: Vec<String> = state
            .layers
            .keys()
            .filter(|id| !vouched.contains(*id))
            .cloned()
            .collect();
        for diff_id in doubtful {
            if let Some(entry) = state.layers.remove(&diff_id) {
                crate::discard::remove(&self.layer_path(entry.number))?;
            }
        }
        Ok(())
    }

    /// Looks something up.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(
            &self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    /// Changes the picture in memory; never over a file operation.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(
            &mut self
                .state
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    /// Whoever changes files holds this, so that files and picture change in the same order.
    pub(crate) fn writing(&self) -> MutexGuard<'_, ()> {
        self.write
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

/// `None`: absent.
fn read_names(path: &Path) -> Result<Option<BTreeMap<String, String>>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let path = path.display();
            Error::Invalid(format!("{path} is damaged ({e}); restore it or remove it"))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_at("read", path)(e)),
    }
}

/// Interrupted downloads are resumed, for a week; other ingests belonged to an operation that is dead.
fn remove_stale_ingests(blobs: &wharf_blob::Store) -> Result<()> {
    for partial in blobs.partials()? {
        let resumable = partial.key.starts_with("sha256-") || partial.key.starts_with("sha512-");
        let is_old = partial
            .modified
            .elapsed()
            .is_ok_and(|age| age > PARTIAL_AGE_MAX);
        if !resumable || is_old {
            blobs.remove_partial(&partial.key)?;
        }
    }
    Ok(())
}

fn folder(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io_at("list", path))? {
        let entry = entry.map_err(io_at("list", path))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// `None`: absent or damaged.
fn parse<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

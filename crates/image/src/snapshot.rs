//! Snapshots: writable layers on chains, their overlay mounts, and layers made of them.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::io_at;
use crate::layers::{LayerRecord, Staged};
use crate::mountpoints::Mountpoints;
use crate::store::Inner;
use crate::{ChainId, Change, Error, Image, Images, Layer, Result, Snapshot};

/// `snapshots/KEY/snapshot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub parent: Option<String>,
}

impl Images {
    /// Makes a writable layer named `key` on top of `parent`.
    pub fn prepare(&self, key: &str, parent: Option<&ChainId>) -> Result<Snapshot> {
        check_key(key)?;
        let record = SnapshotRecord {
            parent: parent.map(|chain| chain.0.clone()),
        };
        // In the picture first: from here on the chain is not collected.
        self.inner.change(|state| {
            if state.snapshots.contains_key(key) {
                return Err(Error::SnapshotExists(key.to_owned()));
            }
            if let Some(chain) = &record.parent {
                state.stack(chain)?;
            }
            state.snapshots.insert(key.to_owned(), record.clone());
            Ok(())
        })?;
        let made = self
            .make_snapshot(key, &record)
            .and_then(|()| self.snapshot(key));
        if made.is_err() {
            self.inner.change(|state| state.snapshots.remove(key));
        }
        made
    }

    /// Finished in the staging folder, then renamed: a folder in `snapshots` is always whole.
    fn make_snapshot(&self, key: &str, record: &SnapshotRecord) -> Result<()> {
        let path = self
            .inner
            .root
            .join("staging")
            .join(format!("snapshot-{}", self.inner.next_number()));
        let make = || {
            std::fs::create_dir(&path).map_err(io_at("make folder", &path))?;
            let work = path.join("work");
            std::fs::create_dir(&work).map_err(io_at("make folder", &work))?;
            let upper = path.join("upper");
            crate::layers::make_tree_folder(&upper)?;
            if let Some(chain) = &record.parent {
                self.inherit_root(chain, &upper)?;
            }
            crate::layers::write_json(&path.join("snapshot.json"), record)?;
            let target = self.snapshot_path(key);
            std::fs::rename(&path, &target).map_err(io_at("move a snapshot to", &target))
        };
        make().inspect_err(|_| {
            let _ = crate::discard::remove(&path);
        })
    }

    /// The merged root has the upper folder's owner and mode, so that one starts with those of the image's `/`.
    fn inherit_root(&self, chain: &str, upper: &std::path::Path) -> Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let top = self.inner.read(|state| {
            let stack = state.stack(chain)?;
            Ok::<_, Error>(
                stack
                    .iter()
                    .find(|entry| !entry.record.empty)
                    .map(|entry| entry.number),
            )
        })?;
        let Some(number) = top else { return Ok(()) };
        let root = self.inner.layer_path(number).join("fs");
        let meta = std::fs::metadata(&root).map_err(io_at("stat", &root))?;
        if (meta.uid(), meta.gid()) != (0, 0) {
            std::os::unix::fs::chown(upper, Some(meta.uid()), Some(meta.gid()))
                .map_err(io_at("set owner of", upper))?;
        }
        let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777);
        std::fs::set_permissions(upper, mode).map_err(io_at("set mode of", upper))
    }

    fn snapshot_path(&self, key: &str) -> PathBuf {
        self.inner.root.join("snapshots").join(key)
    }

    /// An existing snapshot.
    pub fn snapshot(&self, key: &str) -> Result<Snapshot> {
        let numbers = self.inner.read(|state| {
            let record = state
                .snapshots
                .get(key)
                .ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            record.parent.as_ref().map_or(Ok(Vec::new()), |chain| {
                lower_numbers(&self.inner, state, chain)
            })
        })?;
        let path = self.snapshot_path(key);
        Ok(Snapshot {
            key: key.to_owned(),
            upper: path.join("upper"),
            work: path.join("work"),
            lower: numbers,
        })
    }

    /// Folders of a chain for a read-only mount, topmost first. Layers that hold nothing are left out.
    pub fn lower(&self, chain: &ChainId) -> Result<Vec<PathBuf>> {
        self.inner
            .read(|state| lower_numbers(&self.inner, state, &chain.0))
    }

    /// The snapshot as a detached overlay mount: appears in no mount table until it is attached somewhere.
    pub fn mount(&self, key: &str) -> Result<OwnedFd> {
        let snapshot = self.snapshot(key)?;
        let lower = self.at_least_one(snapshot.lower)?;
        let layers = crate::overlay::Layers {
            lower: &lower,
            upper: Some((&snapshot.upper, &snapshot.work)),
        };
        self.mount_layers(&layers)
    }

    /// A chain as a detached, read-only tree (to copy files out of an image without a snapshot).
    pub fn mount_read_only(&self, chain: &ChainId) -> Result<OwnedFd> {
        let mut lower = self.at_least_one(self.lower(chain)?)?;
        if lower.len() == 1 {
            lower.push(self.empty_folder()?);
        }
        self.mount_layers(&crate::overlay::Layers {
            lower: &lower,
            upper: None,
        })
    }

    fn mount_layers(&self, layers: &crate::overlay::Layers<'_>) -> Result<OwnedFd> {
        if let Some(reason) = &self.inner.overlay_refused {
            return Err(Error::Unsupported(reason.clone()));
        }
        crate::overlay::mount_detached(layers, &self.inner.root.join("staging"))
    }

    /// An overlay needs something below even if there is nothing.
    fn at_least_one(&self, mut lower: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        if lower.is_empty() {
            lower.push(self.empty_folder()?);
        }
        Ok(lower)
    }

    fn empty_folder(&self) -> Result<PathBuf> {
        let path = self.inner.root.join("empty");
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(io_at("make folder", &path)(e))
            }
            _ => Ok(path),
        }
    }

    /// Keys of all snapshots.
    pub fn snapshots(&self) -> Vec<String> {
        self.inner
            .read(|state| state.snapshots.keys().cloned().collect())
    }

    /// Removes a snapshot; absent is not an error.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        self.detach_snapshot(key)?.discard()
    }

    /// Takes a snapshot out of the store by one rename, whatever is in it; absent is not an error. The files go with
    /// [`Detached::discard`], or when the store is opened the next time.
    pub fn detach_snapshot(&self, key: &str) -> Result<Detached> {
        let Some(record) = self.inner.change(|state| state.snapshots.remove(key)) else {
            return Ok(Detached {
                images: self.clone(),
                trash: None,
                parent: None,
            });
        };
        // The record went first from the picture, the folder follows by one rename: never half a snapshot.
        let trash = self
            .inner
            .root
            .join("staging")
            .join(self.inner.next_number().to_string());
        let path = self.snapshot_path(key);
        std::fs::rename(&path, &trash)
            .or_else(crate::layers::absent)
            .map_err(io_at("remove snapshot", &path))?;
        Ok(Detached {
            images: self.clone(),
            trash: Some(trash),
            parent: record.parent,
        })
    }

    /// What a snapshot changes; `mountpoints` (paths without a leading slash) are passed over where they are empty.
    pub fn changes(&self, key: &str, mountpoints: &[&str]) -> Result<Vec<Change>> {
        let snapshot = self.snapshot(key)?;
        let upper = File::open(&snapshot.upper).map_err(io_at("open", &snapshot.upper))?;
        let lower = self.tree_below(&snapshot)?;
        let mountpoints = Mountpoints {
            paths: mountpoints,
            lower: lower.as_ref().map(|fd| fd.as_fd()),
        };
        crate::diff::changes(upper.as_fd(), mountpoints)
    }

    /// The layers that a snapshot is made on, as one tree.
    fn tree_below(&self, snapshot: &Snapshot) -> Result<Option<OwnedFd>> {
        Ok(match snapshot.lower.as_slice() {
            [] => None,
            [one] => Some(OwnedFd::from(File::open(one).map_err(io_at("open", one))?)),
            several => Some(self.mount_layers(&crate::overlay::Layers {
                lower: several,
                upper: None,
            })?),
        })
    }

    /// Bytes that a snapshot holds of its own.
    pub fn usage_bytes(&self, key: &str) -> Result<u64> {
        let snapshot = self.snapshot(key)?;
        let upper = File::open(&snapshot.upper).map_err(io_at("open", &snapshot.upper))?;
        crate::diff::usage_bytes(upper.as_fd())
    }

    /// Turns what a snapshot changes into a layer on its parent (OCI whiteouts). The snapshot stays, and may be in use:
    /// its files are copied, in the same pass that hashes them. Empty `mountpoints` are no part of it.
    pub fn commit_layer(&self, key: &str, mountpoints: &[&str]) -> Result<Layer> {
        let (snapshot, parent) = self.snapshot_and_parent(key)?;
        let lower = self.tree_below(&snapshot)?;
        let mountpoints = Mountpoints {
            paths: mountpoints,
            lower: lower.as_ref().map(|fd| fd.as_fd()),
        };
        let staged = self.inner.stage()?;
        let (sender, receiver) = sync_channel::<Vec<u8>>(64);
        let upper = &snapshot.upper;
        let intake = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                crate::diff::write_layer_at(upper, mountpoints, &mut Sending { sender })
            });
            let intake = crate::intake::take_in(
                &mut Received {
                    receiver,
                    rest: Vec::new(),
                    used: 0,
                },
                staged,
            );
            match writer.join() {
                // The reader's error explains why the writer's pipe broke, so it is reported first.
                Ok(Err(e)) if intake.is_ok() => Err(e),
                Ok(_) => intake,
                Err(_) => Err(Error::Invalid("reading a snapshot failed".to_owned())),
            }
        })?;
        let (record, _hold) = self.inner.adopt(intake, None)?;
        self.finish_layer(parent.as_deref(), &record.diff_id)
    }

    /// The same for a snapshot that nobody uses any more (a build step's): its folder becomes the layer as it is,
    /// nothing is copied, and the snapshot is gone afterwards. The caller guarantees that it is mounted nowhere.
    pub fn take_layer(&self, key: &str) -> Result<Layer> {
        let (snapshot, parent) = self.snapshot_and_parent(key)?;
        let mut hashing = HashOnly {
            hash: Sha256::new(),
            count_bytes: 0,
        };
        let unpacked =
            crate::diff::write_layer_at(&snapshot.upper, Mountpoints::default(), &mut hashing)?;
        let diff_id = format!("sha256:{}", hex::encode(hashing.hash.finalize()));
        let record = LayerRecord {
            diff_id,
            size_bytes: unpacked.size_bytes,
            tar_bytes: hashing.count_bytes,
            empty: unpacked.entries == 0,
            blob: None,
            sources: Vec::new(),
        };
        let staged: Staged = self.inner.stage()?;
        let tree = staged.tree();
        std::fs::remove_dir(&tree).map_err(io_at("remove folder", &tree))?;
        std::fs::rename(&snapshot.upper, &tree).map_err(io_at("move a snapshot to", &tree))?;
        let (record, _hold) = self.inner.adopt_staged(staged, record)?;
        let layer = self.finish_layer(parent.as_deref(), &record.diff_id)?;
        self.remove_snapshot(key)?;
        Ok(layer)
    }

    fn snapshot_and_parent(&self, key: &str) -> Result<(Snapshot, Option<String>)> {
        let parent = self
            .inner
            .read(|state| state.snapshots.get(key).map(|record| record.parent.clone()));
        let parent = parent.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
        Ok((self.snapshot(key)?, parent))
    }

    pub(crate) fn finish_layer(&self, parent: Option<&str>, diff_id: &str) -> Result<Layer> {
        let chain = self.inner.link_chain(parent, diff_id)?;
        self.inner
            .layer_of(&chain)
            .ok_or(Error::LayerNotFound(chain))
    }

    /// Makes a layer of a tar stream (plain, gzip or zstd) on `parent`.
    pub fn add_layer(
        &self,
        parent: Option<&ChainId>,
        archive: &mut dyn std::io::Read,
    ) -> Result<Layer> {
        let (record, _hold) = crate::archive::import::ingest_layer(&self.inner, archive)?;
        self.finish_layer(parent.map(|chain| chain.0.as_str()), &record.diff_id)
    }

    /// A layer that is here, by chain; `None`: not here.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        Ok(self.inner.layer_of(&chain.0))
    }

    /// An image's layers, the lowest first.
    pub fn layers(&self, image: &Image) -> Vec<Layer> {
        let chains = crate::layers::chains_of(image.config.rootfs().diff_ids());
        chains
            .iter()
            .filter_map(|chain| self.inner.layer_of(chain))
            .collect()
    }
}

/// A snapshot that is in the store no more, and whose files are not gone yet.
#[derive(Debug)]
#[must_use = "the files are still there"]
pub struct Detached {
    images: Images,
    trash: Option<PathBuf>,
    parent: Option<String>,
}

impl Detached {
    /// Removes the files, and layers that only this snapshot held.
    pub fn discard(self) -> Result<()> {
        if let Some(trash) = &self.trash {
            crate::discard::remove(trash)?;
        }
        let inner = &self.images.inner;
        let orphaned = |chain: &String| {
            inner.read(|state| {
                let mut images = state.images.values();
                !images.any(|image| image.chains.contains(chain))
            })
        };
        match self.parent.filter(orphaned) {
            Some(chain) => inner.collect(Some(&[chain])).map(|_| ()),
            None => Ok(()),
        }
    }
}

fn lower_numbers(
    inner: &Arc<Inner>,
    state: &crate::store::State,
    chain: &str,
) -> Result<Vec<PathBuf>> {
    let stack = state.stack(chain)?;
    // A layer that is in a stack twice counts where it is topmost: it covers all that it says further below, and
    // the kernel takes no folder twice.
    let mut seen = std::collections::HashSet::new();
    let full = stack
        .iter()
        .filter(|entry| !entry.record.empty && seen.insert(entry.number));
    Ok(full
        .map(|entry| inner.layer_path(entry.number).join("fs"))
        .collect())
}

fn check_key(key: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if key.is_empty() || key.len() > 200 || key.starts_with('.') || !key.bytes().all(fine) {
        return Err(Error::Invalid(format!(
            "invalid snapshot key {key:?}: expected A-Z a-z 0-9 . _ -"
        )));
    }
    Ok(())
}

/// Hands what is written to the reading thread.
struct Sending {
    sender: SyncSender<Vec<u8>>,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.sender.send(bytes.to_vec()).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Received {
    receiver: Receiver<Vec<u8>>,
    rest: Vec<u8>,
    used: usize,
}

impl std::io::Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.rest.len() {
            match self.receiver.recv() {
                Ok(next) => (self.rest, self.used) = (next, 0),
                // The writer is done, or failed: its result is asked for next.
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len() - self.used);
        buffer[..count].copy_from_slice(&self.rest[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

struct HashOnly {
    hash: Sha256,
    count_bytes: u64,
}

impl Write for HashOnly {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.count_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Extracts a user's archive (plain, gzip or zstd) into the folder `below` of a root that nothing leaves: device nodes are
/// refused, `.wh.` names are ordinary.
pub fn extract(
    archive: &mut dyn std::io::Read,
    root: std::os::fd::BorrowedFd<'_>,
    below: &std::path::Path,
) -> Result<crate::Unpacked> {
    let (mut stream, _) = crate::intake::decompress(archive)?;
    let mut buffered = std::io::BufReader::with_capacity(256 * 1024, &mut stream);
    let options = crate::UnpackOptions {
        below: below.to_owned(),
        ..Default::default()
    };
    crate::unpack::unpack(&mut buffered, root, &options)
}

/// Writes a whole tree (a mounted snapshot) as a tar stream, sorted, times in seconds; sockets are left out. Returns what
/// it holds.
pub fn pack(tree: std::os::fd::BorrowedFd<'_>, output: &mut dyn Write) -> Result<crate::Unpacked> {
    let buffered = std::io::BufWriter::with_capacity(256 * 1024, output);
    crate::diff::write_layer(tree, Mountpoints::default(), buffered).map(|(written, _)| written)
}

//! Images: references, registry client, unpacked layers, snapshots on overlayfs, archives. Must not know
//! containers: what is in use is told by the caller.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a valid reference; the reference's words (`invalid reference format`).
    #[error("invalid reference format: {0}")]
    InvalidReference(String),
    /// No such image here.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The registry does not have it, or does not tell.
    #[error("{0}")]
    RegistryNotFound(String),
    /// The registry refuses; says which repository and what to do.
    #[error("{0}")]
    Denied(String),
    /// An ID prefix fits several images.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// In use or tagged more than once.
    #[error("conflict: {0}")]
    Conflict(String),
    /// An archive or a manifest is malformed or hostile; nothing of it was kept.
    #[error("{0}")]
    Invalid(String),
    /// Anything else; to be refined, one variant for each failed operation.
    #[error("{operation}")]
    Io {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Familiar names with tag, e.g. `nginx:latest`, `localhost:5000/a/b:1`.
    pub tags: Vec<String>,
    /// Familiar names with digest, `nginx@sha256:…`.
    pub digests: Vec<String>,
    /// Parsed configuration.
    pub config: Arc<ImageConfiguration>,
    /// The configuration's bytes, as hashed: for Docker's fields that OCI lacks (Healthcheck, OnBuild, Shell).
    pub config_bytes: bytes::Bytes,
    /// Chain ID of the topmost layer; `None`: an image without layers.
    pub top: Option<ChainId>,
    /// Size of the unpacked layers.
    pub size_bytes: u64,
    /// When it was last tagged here, RFC 3339.
    pub last_tagged: Option<String>,
    /// Image it was built on, where known here.
    pub parent: Option<String>,
}

/// Name of a stack of layers (image-spec, "Layer ChainID"), `sha256:…`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct ChainId(pub String);

/// Where and how registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Tried before docker.io, for pulls of docker.io names only.
    pub mirrors: Vec<String>,
    /// `HOST:PORT`s (or CIDRs) that may be reached over plain HTTP or unverified TLS; 127.0.0.0/8 and ::1 always may.
    pub insecure: Vec<String>,
    /// Stands in for registry-1.docker.io altogether (pull, push, login).
    pub hub: Option<String>,
}

/// What a client logs in with.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: Option<String>,
    pub registry_token: Option<String>,
}

/// News of a long operation, meant for a person; the shape follows what Docker's clients draw.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Layer's short ID, or the tag.
    pub id: Option<String>,
    /// `Pulling fs layer`, `Downloading`, `Extracting`, `Pushed` …
    pub status: String,
    /// Bytes done and, where known, of how many.
    pub current_bytes: Option<u64>,
    /// See `current_bytes`.
    pub total_bytes: Option<u64>,
}

/// Receives progress; called from any thread, must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// One step of what [`Images::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Removed {
    Untagged(String),
    Deleted(String),
}

/// A container's writable layer on an image.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub key: String,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Topmost first.
    pub lower: Vec<PathBuf>,
}

/// How a path of a snapshot differs from its image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    /// Absolute, inside the root file system.
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// Kind of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// A layer made from a snapshot or an archive, unpacked and in the content store.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Chain with its parent.
    pub chain: ChainId,
    /// Unpacked size.
    pub size_bytes: u64,
    /// Whether the layer holds nothing at all.
    pub empty: bool,
}

/// All images of one data root. Cheap to clone. Methods that are not `async` block.
#[derive(Debug, Clone)]
pub struct Images {}

/// Cuts or completes a reference: `nginx` → (`docker.io/library/nginx`, `latest`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Reference {
    /// `docker.io`, `localhost:5000` …
    pub registry: String,
    /// `library/nginx`, `user/app` …
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// Parses by the distribution grammar; familiar names are completed. No default tag is added.
    pub fn parse(text: &str) -> Result<Reference> {
        let _ = text;
        todo!()
    }
    /// The same with `latest` where neither tag nor digest is given.
    pub fn or_latest(self) -> Reference {
        todo!()
    }
    /// As people write it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        todo!()
    }
    /// `nginx` without tag and digest.
    pub fn familiar_name(&self) -> String {
        todo!()
    }
}

impl Images {
    /// Opens the store below `root`; removes what an interrupted pull, load or build left behind.
    pub fn open(root: &Path, config: RegistryConfig) -> Result<Images> {
        let _ = (root, config);
        todo!()
    }
    /// Finds by name, name@digest, `sha256:` ID or unique ID prefix.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let _ = name;
        todo!()
    }
    /// Every image, untagged ones included, newest first. Those that only exist as parents of others
    /// (build steps) come with `all`.
    pub fn list(&self, all: bool) -> Result<Vec<Image>> {
        let _ = all;
        todo!()
    }
    /// Gives `source` another name; an image that had it loses it. The reference needs no tag (`latest`).
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let _ = (source, target);
        todo!()
    }
    /// Removes a name, and the image with its layers where it was the last one. `in_use` names the container
    /// that needs the image with this ID, and whether it runs: running ones can't be forced.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        in_use: &dyn Fn(&str) -> Option<(String, bool)>,
    ) -> Result<Vec<Removed>> {
        let _ = (name, force, prune_parents, in_use);
        todo!()
    }
    /// Removes untagged images that nothing needs (`all`: also tagged ones not in use). Returns what went
    /// and the bytes freed.
    pub fn prune(&self, all: bool, in_use: &dyn Fn(&str) -> bool) -> Result<(Vec<Removed>, u64)> {
        let _ = (all, in_use);
        todo!()
    }
    /// Fetches an image: resolve → manifest → layers in parallel, each one stream of download, hash,
    /// decompress, hash, unpack. Resumes a layer that broke off. Returns the image and whether it is new.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&str>,
        credentials: Option<Credentials>,
        progress: ProgressSink,
    ) -> Result<(Image, PullResult)> {
        let _ = (reference, platform, credentials, progress);
        todo!()
    }
    /// Tags of a repository in its registry (for `pull --all-tags`).
    pub async fn remote_tags(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Vec<String>> {
        let _ = (reference, credentials);
        todo!()
    }
    /// Sends an image: layers in parallel, those that the registry has are not sent (HEAD, then cross-repository mount).
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        progress: ProgressSink,
    ) -> Result<PushResult> {
        let _ = (reference, credentials, progress);
        todo!()
    }
    /// Checks credentials against a registry (`""` or the hub's address: docker.io).
    pub async fn login(&self, server: &str, credentials: Credentials) -> Result<()> {
        let _ = (server, credentials);
        todo!()
    }
    /// Loads a `docker save` or OCI-layout archive (plain or compressed); returns `Loaded image: …` lines' subjects:
    /// names, or IDs of unnamed images.
    pub fn load(
        &self,
        archive: &mut dyn std::io::Read,
        progress: ProgressSink,
    ) -> Result<Vec<String>> {
        let _ = (archive, progress);
        todo!()
    }
    /// Writes an archive that both Docker (`manifest.json`) and OCI tools (`index.json`) can load.
    pub fn save(&self, names: &[String], archive: &mut dyn std::io::Write) -> Result<()> {
        let _ = (names, archive);
        todo!()
    }
    /// Makes a one-layer image of a root file system archive.
    pub fn import(
        &self,
        archive: &mut dyn std::io::Read,
        config: ImageConfiguration,
        target: Option<&Reference>,
    ) -> Result<Image> {
        let _ = (archive, config, target);
        todo!()
    }
    /// Puts an image together from layers that are here. `config_bytes` is the configuration JSON, complete
    /// with `rootfs.diff_ids`.
    pub fn create(
        &self,
        config_bytes: &[u8],
        parent: Option<&str>,
        target: Option<&Reference>,
    ) -> Result<Image> {
        let _ = (config_bytes, parent, target);
        todo!()
    }
    /// Makes a writable layer named `key` on top of `parent`.
    pub fn prepare(&self, key: &str, parent: Option<&ChainId>) -> Result<Snapshot> {
        let _ = (key, parent);
        todo!()
    }
    /// An existing snapshot.
    pub fn snapshot(&self, key: &str) -> Result<Snapshot> {
        let _ = key;
        todo!()
    }
    /// The snapshot as a detached overlay mount: appears in no mount table until it is attached somewhere.
    pub fn mount(&self, key: &str) -> Result<OwnedFd> {
        let _ = key;
        todo!()
    }
    /// Removes a snapshot; absent is not an error.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        let _ = key;
        todo!()
    }
    /// What a snapshot changes.
    pub fn changes(&self, key: &str) -> Result<Vec<Change>> {
        let _ = key;
        todo!()
    }
    /// Bytes that a snapshot holds of its own.
    pub fn usage_bytes(&self, key: &str) -> Result<u64> {
        let _ = key;
        todo!()
    }
    /// Turns what a snapshot changes into a layer on its parent (OCI whiteouts).
    pub fn commit_layer(&self, key: &str) -> Result<Layer> {
        let _ = key;
        todo!()
    }
    /// Makes a layer of a tar stream on `parent`.
    pub fn add_layer(
        &self,
        parent: Option<&ChainId>,
        archive: &mut dyn std::io::Read,
    ) -> Result<Layer> {
        let _ = (parent, archive);
        todo!()
    }
    /// A layer that is here, by chain; `None`: not here.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        let _ = chain;
        todo!()
    }
    /// Bytes of unpacked layers in all, and of how many images (for `system df` and `info`).
    pub fn totals(&self) -> Result<(u64, usize)> {
        todo!()
    }
}

/// How a pull ended.
#[derive(Debug, Clone)]
pub struct PullResult {
    /// Digest of the manifest or index the tag led to.
    pub digest: String,
    /// Whether anything was fetched.
    pub newer: bool,
}

/// How a push ended.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct PushResult {
    pub digest: String,
    pub size_bytes: u64,
    pub tag: String,
}

/// Labels and such, kept ordered.
pub type Labels = BTreeMap<String, String>;

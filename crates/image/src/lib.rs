//! Images: references, registry client, unpacked layers, snapshots on overlayfs, archives. Must not know
//! containers: what is in use is told by the caller.
#![forbid(unsafe_code)]

mod archive;
mod diff;
mod discard;
mod error;
mod fetch;
mod flush;
mod images;
mod intake;
mod layers;
mod manifest;
mod mountpoints;
mod overlay;
mod pack;
mod pull;
mod push;
mod reference;
mod registry;
mod remote;
mod remove;
mod snapshot;
mod store;
mod tar;
mod unpack;
mod whiteout;
mod xattr;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

pub use error::{Error, Result};
pub use intake::decompressed;
pub use manifest::Platform;
pub use reference::Reference;
pub use snapshot::{Detached, extract, pack};
pub use unpack::{UnpackOptions, Unpacked, unpack};

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

/// What a reference leads to in a registry.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// Of the manifest or index.
    pub media_type: String,
    /// Of the manifest or index.
    pub digest: String,
    /// Of the manifest or index.
    pub size_bytes: u64,
    /// The platforms it is there for.
    pub platforms: Vec<Platform>,
}

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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
pub struct Images {
    inner: Arc<store::Inner>,
}

impl Images {
    /// Opens the store below `root`; removes what an interrupted pull, load or build left behind.
    pub fn open(root: &Path, config: RegistryConfig) -> Result<Images> {
        Ok(Images {
            inner: Arc::new(store::Inner::open(root, config)?),
        })
    }

    /// Why overlays can't be mounted below the data root; `None`: they can.
    pub fn overlay_refused(&self) -> Option<&str> {
        self.inner.overlay_refused.as_deref()
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

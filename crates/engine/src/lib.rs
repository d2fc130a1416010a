//! Life cycle of containers, execs, volumes, networks and events; restart policies and health checks. Its types
//! are its own: HTTP, Docker's JSON and CRI are the business of adapters.
//!
//! State on disk is the truth; opening is the same code as recovering. Every multi-step creation is a list
//! of do/undo pairs.
#![forbid(unsafe_code)]

mod archive;
mod attach;
mod bundle;
mod capabilities;
mod commit;
mod connect;
mod container;
mod create;
mod error;
mod error_from;
mod events;
mod exit;
mod health;
mod host_devices;
mod hosts;
mod index;
mod info;
mod inside;
mod logs;
mod merge;
mod mounts;
mod names;
mod network;
mod record;
mod recover;
mod remove;
mod resolve_names;
mod seccomp_profile;
mod signal;
mod spec;
mod start;
mod stats;
mod stop;
mod top;
mod undo;
mod update;
mod users;
mod validate;
mod view;
mod volume;
mod volume_copy;

pub use commit::config_of_changes;
pub use error::{Error, Kind, Result};
pub use events::POD_KIND;
pub use spec::*;
pub use view::*;
pub use wharf_net::Protocol;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a daemon keeps things, and its defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Durable state.
    pub data_root: PathBuf,
    /// State that does not outlive a boot.
    pub run_root: PathBuf,
    /// Parent of containers' control groups, `docker`.
    pub cgroup_parent: String,
    /// Subnet of the default bridge, `172.17.0.0/16` with the bridge at its first address.
    pub default_subnet: wharf_net::Subnet,
    /// Name of the default bridge's link, `docker0`-like.
    pub default_bridge: String,
    /// Where questions that are not ours go; empty: the host's resolv.conf.
    pub dns: Vec<std::net::IpAddr>,
}

/// A stream of bytes or an error.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;
/// Something to read.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// Something to write.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// The engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// Name of the folder for files in the making.
const SCRATCH: &str = "scratch";

/// What all clones of an engine share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub config: Config,
    /// Stays the same for a data root.
    pub id: String,
    pub images: wharf_image::Images,
    pub net: wharf_net::Net,
    pub machine: info::Machine,
    pub containers: index::Index,
    pub networks: network::Networks,
    /// Networks are made one at a time: a free range must still be free when it is taken.
    pub network_gate: tokio::sync::Mutex<()>,
    pub volumes: volume::Volumes,
    pub execs: attach::Execs,
    /// Counts exits of execs: who waits for one looks again at each.
    pub exec_exits: tokio::sync::watch::Sender<u64>,
    pub bus: events::Bus,
    /// A supervisor spawned ahead.
    pub idle: Mutex<Option<wharf_shim::client::Idle>>,
    /// Whether the containers' init lies in the run root: written when first asked for.
    pub init: Mutex<bool>,
    /// Compiled for the capabilities last used: nearly always those of the container before.
    pub seccomp: Mutex<Option<(Vec<String>, serde_json::Value)>>,
}

impl Engine {
    /// Opens the data root: loads records, takes running containers over from their shims, writes down what
    /// ended meanwhile, applies restart policies, cleans up what an interrupted run left.
    pub async fn open(
        config: Config,
        images: wharf_image::Images,
        net: wharf_net::Net,
    ) -> Result<Engine> {
        let inner = error_from::blocking(move || Inner::load(config, images, net)).await?;
        let engine = Engine {
            inner: Arc::new(inner),
        };
        engine.recover().await?;
        Ok(engine)
    }

    /// A private folder for files in the making: empty after a start, on the disk of the data root.
    pub fn scratch(&self) -> PathBuf {
        self.inner.config.data_root.join(SCRATCH)
    }

    /// Past events since a time (kept: the last 1,000), then new ones as they happen. Times in nanoseconds since 1970.
    pub fn events(
        &self,
        since_ns: Option<i64>,
        until_ns: Option<i64>,
    ) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        let of_pod = |event: &Event| std::future::ready(event.kind != POD_KIND);
        Box::pin(futures_util::StreamExt::filter(
            self.inner.bus.stream(since_ns, until_ns),
            of_pod,
        ))
    }

    /// Events of pods and their containers from now on.
    pub fn pod_events(&self) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        let of_pod = |event: &Event| std::future::ready(event.kind == POD_KIND);
        Box::pin(futures_util::StreamExt::filter(
            self.inner.bus.stream(None, None),
            of_pod,
        ))
    }
    /// Tells the world of something that happened outside the engine (an image pulled, tagged, built …).
    pub fn publish(&self, event: Event) {
        self.inner.bus.publish(event);
    }
    /// The image store it runs on.
    pub fn images(&self) -> &wharf_image::Images {
        &self.inner.images
    }
}
impl Inner {
    fn load(config: Config, images: wharf_image::Images, net: wharf_net::Net) -> Result<Inner> {
        empty_scratch(&config.data_root.join(SCRATCH))?;
        Ok(Inner {
            id: identity(&config.data_root)?,
            machine: info::Machine::explore(),
            containers: index::Index::default(),
            networks: network::Networks::load(config.data_root.join("networks"))?,
            network_gate: tokio::sync::Mutex::default(),
            volumes: volume::Volumes::open(config.data_root.join("volumes"))?,
            execs: attach::Execs::default(),
            exec_exits: tokio::sync::watch::Sender::default(),
            bus: events::Bus::new(),
            idle: Mutex::default(),
            init: Mutex::default(),
            seccomp: Mutex::default(),
            config,
            images,
            net,
        })
    }
}

/// Whatever an earlier run was at work on there is of no use to anybody.
fn empty_scratch(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let _ = std::fs::remove_dir_all(folder);
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    private
        .create(folder)
        .map_err(error_from::io(format!("make {}", folder.display())))
}

/// Made once for a data root.
fn identity(data_root: &std::path::Path) -> Result<String> {
    let path = data_root.join("engine-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let random = names::new_id()?;
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(a, b)| &random[a..b]);
    let id = parts.join("-");
    record::write_whole(&path, id.as_bytes(), true)
        .map_err(error_from::io(format!("write {}", path.display())))?;
    Ok(id)
}

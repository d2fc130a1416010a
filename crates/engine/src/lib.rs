//! Life cycle of containers, execs, volumes, networks and events; restart policies and health checks. Its types
//! are its own: HTTP, Docker's JSON and CRI are the business of adapters.
//!
//! State on disk is the truth; opening is the same code as recovering. Every multi-step creation is a list
//! of do/undo pairs.
#![forbid(unsafe_code)]

mod error;
mod spec;
mod view;

pub use error::{Error, Kind, Result};
pub use spec::*;
pub use view::*;

use std::path::PathBuf;
use std::pin::Pin;

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
pub struct Engine {}

#[allow(unused_variables)]
impl Engine {
    /// Opens the data root: loads records, takes running containers over from their shims, writes down what
    /// ended meanwhile, applies restart policies, cleans up what an interrupted run left.
    pub async fn open(
        config: Config,
        images: wharf_image::Images,
        net: wharf_net::Net,
    ) -> Result<Engine> {
        todo!()
    }
    /// Makes a container; nothing runs yet. The name is checked, or generated.
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> {
        todo!()
    }
    /// Starts a created or stopped container. `Kind::NotModified` when it runs already.
    pub async fn start(&self, container: &str) -> Result<()> {
        todo!()
    }
    /// Sends the stop signal, waits, then kills. Timeout: absent, the container's own or 10 s; -1: for ever.
    pub async fn stop(
        &self,
        container: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        todo!()
    }
    /// Stops (if it runs) and starts.
    pub async fn restart(
        &self,
        container: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        todo!()
    }
    /// Sends a signal, by name or number.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<()> {
        todo!()
    }
    /// Freezes.
    pub async fn pause(&self, container: &str) -> Result<()> {
        todo!()
    }
    /// Thaws.
    pub async fn unpause(&self, container: &str) -> Result<()> {
        todo!()
    }
    /// Removes a container; a running one only with `force`.
    pub async fn remove(&self, container: &str, options: RemoveOptions) -> Result<()> {
        todo!()
    }
    /// Gives another name.
    pub async fn rename(&self, container: &str, name: &str) -> Result<()> {
        todo!()
    }
    /// Changes limits and restart policy in place. Returns warnings.
    pub async fn update(&self, container: &str, update: Update) -> Result<Vec<String>> {
        todo!()
    }
    /// Waits. The condition is registered before this returns, so that a start sent afterwards can't be missed; the
    /// inner future ends with the exit.
    pub async fn wait(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<Pin<Box<dyn Future<Output = Result<Exit>> + Send>>> {
        todo!()
    }
    /// By full ID, name or unique ID prefix (in this order).
    pub fn container(&self, container: &str) -> Result<Container> {
        todo!()
    }
    /// Every container, newest first.
    pub fn containers(&self) -> Vec<Container> {
        todo!()
    }
    /// Bytes of the writable layer.
    pub async fn size_rw(&self, container: &str) -> Result<u64> {
        todo!()
    }
    /// Log lines, old and (with `follow`) new, oldest first.
    pub async fn logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<LogLine>> + Send>>> {
        todo!()
    }
    /// Attaches to a container's streams. A created container may be attached to before its start.
    pub async fn attach(&self, container: &str, options: AttachOptions) -> Result<Attached> {
        todo!()
    }
    /// Sets the terminal's size.
    pub async fn resize(&self, container: &str, height: u16, width: u16) -> Result<()> {
        todo!()
    }
    /// Processes, as `ps` with these arguments (default `-ef`) shows them on the host.
    pub async fn top(&self, container: &str, ps_args: &str) -> Result<Top> {
        todo!()
    }
    /// One reading of the usage figures; zeroes for a container that does not run.
    pub async fn stats(&self, container: &str) -> Result<ContainerStats> {
        todo!()
    }
    /// What the container changed in its root file system.
    pub async fn changes(&self, container: &str) -> Result<Vec<wharf_image::Change>> {
        todo!()
    }
    /// Facts of a path inside, for `cp`.
    pub async fn archive_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        todo!()
    }
    /// A tar of a path inside.
    pub async fn archive_get(&self, container: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        todo!()
    }
    /// Unpacks a tar (plain or compressed) into a folder inside.
    pub async fn archive_put(
        &self,
        container: &str,
        path: &str,
        options: PutOptions,
        archive: Reader,
    ) -> Result<()> {
        todo!()
    }
    /// The whole root file system as a tar.
    pub async fn export(&self, container: &str) -> Result<ByteStream> {
        todo!()
    }
    /// Makes an image of a container; `changes` are Dockerfile instructions already applied to `config`.
    pub async fn commit(
        &self,
        container: &str,
        options: CommitOptions,
    ) -> Result<wharf_image::Image> {
        todo!()
    }
    /// Removes stopped containers that the predicate names; returns their IDs and the bytes freed.
    pub async fn prune_containers(
        &self,
        keep: &(dyn Fn(&Container) -> bool + Sync),
    ) -> Result<(Vec<String>, u64)> {
        todo!()
    }

    /// Prepares a further process in a running container; returns the exec's ID.
    pub async fn exec_create(&self, container: &str, spec: ExecSpec) -> Result<String> {
        todo!()
    }
    /// Runs it. Detached: nothing attached, returns at once.
    pub async fn exec_start(
        &self,
        exec: &str,
        detach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>> {
        todo!()
    }
    /// State of an exec.
    pub fn exec_inspect(&self, exec: &str) -> Result<Exec> {
        todo!()
    }
    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        todo!()
    }

    /// Makes a volume, or returns the one with that name; an empty name is generated (64 hex digits).
    pub async fn volume_create(
        &self,
        name: &str,
        driver: &str,
        options: Labels,
        labels: Labels,
    ) -> Result<Volume> {
        todo!()
    }
    /// One volume.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        todo!()
    }
    /// All volumes.
    pub fn volumes(&self) -> Vec<Volume> {
        todo!()
    }
    /// Removes a volume that no container uses.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        todo!()
    }
    /// Removes unused volumes (`all`: named ones too) that `keep` does not hold back; returns names and bytes freed.
    pub async fn prune_volumes(
        &self,
        all: bool,
        keep: &(dyn Fn(&Volume) -> bool + Sync),
    ) -> Result<(Vec<String>, u64)> {
        todo!()
    }

    /// Makes a network; returns its ID and a warning.
    pub async fn network_create(&self, spec: NetworkSpec) -> Result<Network> {
        todo!()
    }
    /// By ID, name or unique ID prefix.
    pub fn network(&self, network: &str) -> Result<Network> {
        todo!()
    }
    /// All networks, `bridge`, `host` and `none` included.
    pub fn networks(&self) -> Vec<Network> {
        todo!()
    }
    /// Removes a network without endpoints.
    pub async fn network_remove(&self, network: &str) -> Result<()> {
        todo!()
    }
    /// Connects a container, running or not.
    pub async fn network_connect(
        &self,
        network: &str,
        container: &str,
        endpoint: EndpointSpec,
    ) -> Result<()> {
        todo!()
    }
    /// Disconnects a container.
    pub async fn network_disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        todo!()
    }
    /// Removes unused user-defined networks; returns their names.
    pub async fn prune_networks(
        &self,
        keep: &(dyn Fn(&Network) -> bool + Sync),
    ) -> Result<Vec<String>> {
        todo!()
    }

    /// Past events since a time (kept: the last 1,000), then new ones as they happen. Times in nanoseconds since 1970.
    pub fn events(
        &self,
        since_ns: Option<i64>,
        until_ns: Option<i64>,
    ) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        todo!()
    }
    /// Tells the world of something that happened outside the engine (an image pulled, tagged, built …).
    pub fn publish(&self, event: Event) {
        todo!()
    }
    /// The image store it runs on.
    pub fn images(&self) -> &wharf_image::Images {
        todo!()
    }
    /// Facts about the machine and this engine.
    pub async fn info(&self) -> Info {
        todo!()
    }
    /// Whether a container needs the image with this ID: its name, and whether it runs.
    pub fn image_user(&self, image_id: &str) -> Option<(String, bool)> {
        todo!()
    }
    /// Where the time of the latest start of a container went: step and microseconds.
    pub fn start_trace(&self, container: &str) -> Result<Vec<(String, u64)>> {
        todo!()
    }
}

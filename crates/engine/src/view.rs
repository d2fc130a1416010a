//! What the engine shows.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_net::{Endpoint, PortMapping};

use crate::spec::{ContainerSpec, ExecSpec, Labels, NetworkSpec};
use crate::{Reader, Writer};

/// Outcome of a creation.
#[derive(Debug, Clone)]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    pub warnings: Vec<String>,
}

/// A container at one instant.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub created: Timestamp,
    /// As merged with the image's defaults.
    pub spec: Arc<ContainerSpec>,
    /// `sha256:…`.
    pub image_id: String,
    /// First word of the command line.
    pub path: String,
    /// The others.
    pub args: Vec<String>,
    pub state: State,
    pub networks: BTreeMap<String, NetworkAttachment>,
    pub ports: Vec<PortMapping>,
    pub mounts: Vec<MountPoint>,
    /// Link names `/other/alias` that point here.
    pub link_names: Vec<String>,
    pub log_path: PathBuf,
    pub hostname_path: PathBuf,
    pub hosts_path: PathBuf,
    pub resolv_conf_path: PathBuf,
    pub restart_count: u32,
    pub exec_ids: Vec<String>,
    pub snapshot: Option<wharf_image::Snapshot>,
    /// Path of the network namespace of a running container (`/proc/PID/ns/net`).
    pub sandbox_key: String,
    pub sandbox_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    /// Host PID, 0 when not running.
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why the latest start failed.
    pub error: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub health: Option<Health>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    pub failing_streak: u32,
    /// The last five probes.
    pub log: Vec<ProbeResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i32,
    pub output: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    pub network_id: String,
    pub endpoint_id: String,
    pub spec: crate::spec::EndpointSpec,
    /// Names it answers to on this network.
    pub dns_names: Vec<String>,
    /// In place while the container runs (bridge networks).
    pub endpoint: Option<Endpoint>,
}

impl NetworkAttachment {
    /// To be made at the start.
    pub(crate) fn planned(network_id: String, spec: crate::spec::EndpointSpec) -> Self {
        NetworkAttachment {
            network_id,
            endpoint_id: String::new(),
            spec,
            dns_names: Vec::new(),
            endpoint: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`.
    pub kind: crate::spec::MountKind,
    /// Volume's name.
    pub name: String,
    pub source: PathBuf,
    pub destination: String,
    pub driver: String,
    /// As the user wrote it (`z`, `ro` …).
    pub mode: String,
    pub read_write: bool,
    pub propagation: String,
    /// An anonymous volume, removed by `rm -v`.
    pub anonymous: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    pub exit_code: i32,
    /// Why it could not be started or removed.
    pub error: Option<String>,
}

/// Streams of an attached client. Without a terminal `output` carries frames (see `wharf_shim::protocol`).
pub struct Attached {
    pub tty: bool,
    pub output: Reader,
    pub input: Writer,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached")
            .field("tty", &self.tty)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    pub stderr: bool,
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// With its newline, if it had one.
    pub text: bytes::Bytes,
    pub attributes: Labels,
}

#[derive(Debug, Clone)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Default)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    pub running: bool,
    pub cgroup: wharf_cgroup::Stats,
    pub networks: Vec<wharf_net::LinkCounters>,
    /// Total CPU time of the machine, nanoseconds.
    pub system_cpu_ns: u64,
    pub online_cpus: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    pub size_bytes: i64,
    /// Go's `os.FileMode` bits, as Docker's header carries them.
    pub go_mode: u32,
    pub mtime: Timestamp,
    pub link_target: String,
}

#[derive(Debug, Clone)]
pub struct Exec {
    pub id: String,
    pub container_id: String,
    pub spec: ExecSpec,
    pub running: bool,
    /// `None` until it ends.
    pub exit_code: Option<i32>,
    /// Host PID, 0 before the start.
    pub pid: i32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub mountpoint: PathBuf,
    pub created: Timestamp,
    pub labels: Labels,
    pub options: Labels,
    pub anonymous: bool,
    /// Containers that use it.
    #[serde(skip)]
    pub used_by: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Network {
    pub id: String,
    pub created: Timestamp,
    /// As declared, with the ranges that were chosen.
    pub spec: NetworkSpec,
    /// `local`.
    pub scope: String,
    /// Running endpoints by container ID.
    pub containers: BTreeMap<String, NetworkMember>,
}

#[derive(Debug, Clone)]
pub struct NetworkMember {
    pub name: String,
    pub endpoint_id: String,
    pub endpoint: Endpoint,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`, `daemon`, `builder`.
    pub kind: String,
    /// `create`, `start`, `die`, `exec_create: sh` …
    pub action: String,
    /// ID or name of what it happened to.
    pub id: String,
    pub attributes: Labels,
    /// Nanoseconds since 1970.
    pub time_ns: i64,
}

/// Facts for `info`.
#[derive(Debug, Clone, Default)]
pub struct Info {
    pub id: String,
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
    pub images: usize,
    pub data_root: PathBuf,
    pub kernel_version: String,
    pub operating_system: String,
    pub os_version: String,
    pub architecture: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    pub hostname: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    pub cgroup_driver: String,
    pub controllers: Vec<String>,
    pub swap_limit: bool,
    pub bridge_nf_iptables: bool,
    pub bridge_nf_ip6tables: bool,
    pub ipv4_forwarding: bool,
    pub security_options: Vec<String>,
    pub warnings: Vec<String>,
    pub backing_filesystem: String,
}

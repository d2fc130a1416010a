//! What callers ask for.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_net::Protocol;

/// Key and value pairs, ordered.
pub type Labels = BTreeMap<String, String>;

/// A container as asked for. Durable: part of its record. Defaults of the image are merged in by the engine
/// (`cmd`, `entrypoint`, `env`, `working_dir`, `user`, `exposed_ports`, `volumes`, `stop_signal`, `healthcheck`, `labels`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// As the user wrote it: name, name@digest or ID.
    pub image: String,
    pub platform: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub user: String,
    pub working_dir: String,
    /// `None`: the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `None`: the image's, unless `entrypoint` is set.
    pub cmd: Option<Vec<String>>,
    /// `KEY=value`; a bare `KEY` removes it.
    pub env: Vec<String>,
    pub labels: Labels,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub exposed_ports: Vec<(u16, Protocol)>,
    /// Anonymous volumes (`-v /path`).
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub stop_timeout_s: Option<i64>,
    pub healthcheck: Option<Healthcheck>,
    pub network_disabled: bool,
    pub shell: Option<Vec<String>>,
    pub on_build: Vec<String>,
    pub mac_address: Option<String>,

    // Host side.
    /// `-v` strings, `SOURCE:TARGET[:OPTIONS]`.
    pub binds: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<MountSpec>,
    pub tmpfs: BTreeMap<String, String>,
    /// Containers (`ID[:ro|rw]`) whose volumes are mounted too.
    pub volumes_from: Vec<String>,
    pub volume_driver: String,
    /// `default`, `bridge`, `host`, `none`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Networks to join, by name or ID.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// `NAME[:ALIAS]`.
    pub links: Vec<String>,
    pub port_bindings: Vec<PortBinding>,
    pub publish_all: bool,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `NAME:ADDRESS` (`host-gateway` is the bridge's).
    pub extra_hosts: Vec<String>,
    pub pid_mode: String,
    pub ipc_mode: String,
    pub uts_mode: String,
    pub userns_mode: String,
    pub cgroupns_mode: String,
    pub cgroup_parent: String,
    pub privileged: bool,
    pub read_only_rootfs: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub group_add: Vec<String>,
    /// `seccomp=…`, `no-new-privileges`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
    pub security_opt: Vec<String>,
    /// `None`: the defaults.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub sysctls: BTreeMap<String, String>,
    pub ulimits: Vec<Ulimit>,
    pub devices: Vec<DeviceMapping>,
    pub device_cgroup_rules: Vec<String>,
    pub oom_score_adj: i64,
    pub oom_kill_disable: bool,
    pub shm_size_bytes: Option<u64>,
    /// Runs a small init as PID 1.
    pub init: bool,
    pub runtime: Option<String>,
    pub auto_remove: bool,
    pub restart: RestartPolicy,
    pub log: LogDriver,
    pub resources: Resources,
    pub container_id_file: String,
    pub storage_opt: Labels,
    pub annotations: Labels,
    /// Height and width of the client's terminal.
    pub console_size: Option<(u16, u16)>,
    /// Links and isolation that only the adapter shows again.
    pub extra: BTreeMap<String, serde_json::Value>,
    /// The container is part of a pod: shown and told of apart from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Box<PodPart>>,
}

/// What a container of a pod gets from its sandbox. The pod's keeper makes namespaces and files, and takes them away.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodPart {
    /// ID of the sandbox.
    pub sandbox: String,
    /// OCI namespace type (`network`, `ipc`, `uts`, `pid`) → file of the namespace to join; `None`: the host's. A
    /// type that is missing: one of the container's own.
    pub namespaces: BTreeMap<String, Option<PathBuf>>,
    /// Folder or mount that becomes /dev/shm.
    pub shm: PathBuf,
    /// Folder with `resolv.conf`, `hostname` and `hosts`.
    pub files: PathBuf,
    /// Log in the format of the Container Runtime Interface; `None`: output is not kept.
    pub log: Option<PathBuf>,
    /// Bind mounts, with the options of the OCI runtime specification.
    pub mounts: Vec<PodMount>,
    /// Only the groups that were asked for, none of the image's /etc/group.
    pub strict_groups: bool,
    /// AppArmor profile to take on.
    pub apparmor: Option<String>,
    /// Files of cgroup v2 and their values.
    pub unified: Labels,
    /// Page size (`2MB`) and limit.
    pub huge_pages: Vec<(String, u64)>,
    /// Kept for the adapter that made the container; the engine does not look at it.
    pub adapter: String,
}

/// A bind mount of a pod's container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodMount {
    pub source: PathBuf,
    pub target: String,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    /// `--cpus`, in billionths.
    pub nano_cpus: Option<i64>,
    pub cpu_rt_period_us: Option<u64>,
    pub cpu_rt_runtime_us: Option<i64>,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub memory_bytes: Option<i64>,
    pub memory_reservation_bytes: Option<i64>,
    /// Memory and swap together; -1: no limit on swap.
    pub memory_swap_bytes: Option<i64>,
    pub memory_swappiness: Option<u64>,
    pub kernel_memory_bytes: Option<i64>,
    pub pids_limit: Option<i64>,
    pub blkio_weight: Option<u16>,
    pub blkio_weight_device: Vec<(String, u16)>,
    pub device_read_bps: Vec<(String, u64)>,
    pub device_write_bps: Vec<(String, u64)>,
    pub device_read_iops: Vec<(String, u64)>,
    pub device_write_iops: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// Empty: inherit; `["NONE"]`; `["CMD", …]`; `["CMD-SHELL", "…"]`.
    pub test: Vec<String>,
    pub interval_ns: i64,
    pub timeout_ns: i64,
    pub start_period_ns: i64,
    pub start_interval_ns: i64,
    pub retries: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSpec {
    pub kind: MountKind,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub consistency: String,
    /// `rprivate`, `rshared` …
    pub propagation: Option<String>,
    pub non_recursive: bool,
    pub create_mountpoint: bool,
    pub no_copy: bool,
    pub labels: Labels,
    pub driver: String,
    pub driver_options: Labels,
    pub subpath: String,
    pub tmpfs_size_bytes: Option<i64>,
    pub tmpfs_mode: Option<u32>,
    pub tmpfs_options: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    #[default]
    Volume,
    Tmpfs,
    Image,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    pub aliases: Vec<String>,
    pub links: Vec<String>,
    pub ipv4_address: Option<Ipv4Addr>,
    pub ipv6_address: Option<Ipv6Addr>,
    pub mac_address: Option<String>,
    pub driver_opts: Labels,
    pub gw_priority: i64,
    /// Kept for who asks; no address is given for them.
    #[serde(default)]
    pub link_local_ips: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    pub container_port: u16,
    pub protocol: Protocol,
    /// `None`: every address.
    pub host_ip: Option<IpAddr>,
    /// First and last; `None`: any free one.
    pub host_ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Of `rwm`.
    pub permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure {
        /// 0: no limit.
        max_retries: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    /// `json-file` or `none`.
    pub driver: String,
    pub options: Labels,
}

impl Default for LogDriver {
    fn default() -> Self {
        LogDriver {
            driver: "json-file".into(),
            options: Labels::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub tty: bool,
    pub privileged: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub detach_keys: Option<String>,
    pub console_size: Option<(u16, u16)>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    pub force: bool,
    /// Anonymous volumes too.
    pub volumes: bool,
    /// Only the link of this name.
    pub link: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Update {
    pub resources: Resources,
    pub restart: Option<RestartPolicy>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    /// Nanoseconds since 1970.
    pub since_ns: Option<i64>,
    pub until_ns: Option<i64>,
    /// `None`: all.
    pub tail: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Replays the log first.
    pub logs: bool,
    /// Stays for what comes.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    pub no_overwrite_dir_non_dir: bool,
    pub copy_uid_gid: bool,
}

#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Familiar reference, or empty.
    pub target: Option<String>,
    pub author: String,
    pub comment: String,
    pub pause: bool,
    /// Dockerfile instructions, one each (`CMD ["x"]`, `ENV A=b`).
    pub changes: Vec<String>,
    /// Replaces the container's configuration where given.
    pub config: Option<Box<ContainerSpec>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    pub name: String,
    pub driver: String,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv6: bool,
    pub labels: Labels,
    pub options: Labels,
    pub ipam_driver: String,
    pub ipam_options: Labels,
    pub ipam: Vec<IpamPool>,
}

/// One address range as the user wrote it; empty: chosen by the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    pub subnet: String,
    pub ip_range: String,
    pub gateway: String,
    pub aux_addresses: Labels,
}

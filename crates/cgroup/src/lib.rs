//! Control groups, version 1 and 2, behind one trait: limits, membership, freezing, statistics and
//! out-of-memory notification.
//!
//! Knows nothing of containers: a group is a path below the mount points of the controllers.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

/// What can go wrong with a control group; each variant names the file and the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a control file failed.
    #[error("{operation} {path}")]
    File {
        /// What was tried, e.g. `write "5000" to`.
        operation: String,
        /// The control file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The resource cannot be expressed on this machine or is out of range.
    #[error("{0}")]
    Unsupported(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One control group: on version 1 a folder in each hierarchy, on version 2 one folder.
pub trait Cgroup: Send + Sync + std::fmt::Debug {
    /// Applies limits (runtime-spec, "Linux control groups"). Absent fields stay as they are.
    fn apply(&self, resources: &LinuxResources) -> Result<()>;
    /// Moves a process (and, on version 1, its threads) into the group.
    fn add_process(&self, pid: i32) -> Result<()>;
    /// Moves the calling process, which has one thread, into the group. Far cheaper than [`Cgroup::add_process`] on
    /// version 1: a thread that moves only itself needs no lock over all processes of the machine.
    fn join_self(&self) -> Result<()>;
    /// Directory to pass to `clone3(CLONE_INTO_CGROUP)`; version 2 only.
    fn clone_target(&self) -> Option<BorrowedFd<'_>>;
    /// Host PIDs in this group and all below it.
    fn processes(&self) -> Result<Vec<i32>>;
    /// Stops every process of the group, and returns once they are frozen.
    fn freeze(&self) -> Result<()>;
    /// Lets a frozen group go on.
    fn thaw(&self) -> Result<()>;
    /// Whether the group is frozen.
    fn is_frozen(&self) -> Result<bool>;
    /// Sends SIGKILL to every process of the group (`cgroup.kill` where there is one).
    fn kill_all(&self) -> Result<()>;
    /// Usage figures of all controllers.
    fn stats(&self) -> Result<Stats>;
    /// A descriptor that becomes readable when the kernel kills a member for want of memory.
    fn oom_watch(&self) -> Result<OomWatch>;
    /// Removes the group and all below it; absent is not an error.
    fn delete(&self) -> Result<()>;
    /// Folder of each controller ("" for version 2's only folder).
    fn paths(&self) -> BTreeMap<String, PathBuf>;
}

/// Which layout the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller (a version 2 mount without controllers may sit beside it).
    V1,
    /// The unified hierarchy alone.
    V2,
}

/// Usage of a group. Absent controllers leave their part at its default.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub cpu_usage_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub cpu_per_core_ns: Vec<u64>,
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_ns: u64,
    pub memory_usage_bytes: u64,
    pub memory_max_usage_bytes: u64,
    /// `u64::MAX` when there is no limit.
    pub memory_limit_bytes: u64,
    pub memory_failcnt: u64,
    pub memory_oom_kills: u64,
    pub swap_usage_bytes: u64,
    /// The lines of `memory.stat`.
    pub memory_stat: BTreeMap<String, u64>,
    pub pids_current: u64,
    /// `u64::MAX` when there is no limit.
    pub pids_limit: u64,
    pub io: Vec<IoStat>,
}

/// I/O of one device.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct IoStat {
    pub major: u64,
    pub minor: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub read_ops: u64,
    pub write_ops: u64,
}

/// Out-of-memory notification: poll [`OomWatch::fd`], then call [`OomWatch::kills`].
#[derive(Debug)]
pub struct OomWatch {
    #[allow(dead_code)]
    fd: OwnedFd,
}

/// The layout mounted on this machine.
pub fn version() -> Result<Version> {
    todo!()
}

/// Controllers that can be used here (`memory`, `cpu`, `pids`, …).
pub fn controllers() -> Result<Vec<String>> {
    todo!()
}

/// Makes (or opens, if it exists) the group at `path`, an absolute path below the controllers' roots such
/// as `/docker/<id>`. Removes what it made if a step fails.
pub fn create(path: &str) -> Result<Box<dyn Cgroup>> {
    let _ = path;
    todo!()
}

/// Opens the group at `path` without making it.
pub fn open(path: &str) -> Result<Box<dyn Cgroup>> {
    let _ = path;
    todo!()
}

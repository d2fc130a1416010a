//! Control groups, version 1 and 2, behind one trait: limits, membership, freezing, statistics and
//! out-of-memory notification.
//!
//! Knows nothing of containers: a group is a path below the mount points of the controllers.
#![forbid(unsafe_code)]

mod absent;
mod devices;
mod file;
mod hierarchy;
mod oom;
mod stats;
pub mod systemd;
#[doc(hidden)]
pub mod untrusted;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

/// What can go wrong with a control group; each variant names the file and the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a control file failed.
    #[error("{operation} {}", path.display())]
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

impl Error {
    /// Whether rights are what is missing.
    pub fn is_denied(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Error::File { source, .. } => matches!(
                source.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound
            ),
            Error::Unsupported(_) => false,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One control group: on version 1 a folder in each hierarchy, on version 2 one folder.
pub trait Cgroup: Send + Sync + std::fmt::Debug {
    /// Makes what [`prepare`] has left for later; removes what it made if a step fails.
    fn complete(&self) -> Result<()> {
        Ok(())
    }
    /// Applies limits (runtime-spec, "Linux control groups"). Absent fields stay as they are.
    fn apply(&self, resources: &LinuxResources) -> Result<()>;
    /// Moves a process (and, on version 1, its threads) into the group.
    fn add_process(&self, pid: i32) -> Result<()>;
    /// Moves the calling process, which has one thread, into the group. Far cheaper than [`Cgroup::add_process`] on
    /// version 1: a thread that moves only itself needs no lock over all processes of the machine.
    fn join_self(&self) -> Result<()>;
    /// Directory to pass to `clone3(CLONE_INTO_CGROUP)`: the group's folder of version 2, where that is mounted (alone
    /// or beside version 1).
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

pub use oom::OomWatch;
pub use stats::{IoStat, Stats};

/// The layout mounted on this machine.
pub fn version() -> Result<Version> {
    Ok(hierarchy::layout()?.version())
}

/// Controllers that can be used here (`memory`, `cpu`, `pids`, …).
pub fn controllers() -> Result<Vec<String>> {
    match hierarchy::layout()? {
        hierarchy::Layout::V1(hierarchies, _) => Ok(v1::controllers(hierarchies)),
        hierarchy::Layout::V2(root) => v2::controllers(root),
    }
}

/// Makes (or opens, if it exists) the group at `path`, an absolute path below the controllers' roots such
/// as `/docker/<id>`. Removes what it made if a step fails.
pub fn create(path: &str) -> Result<Box<dyn Cgroup>> {
    let group = prepare(path)?;
    if let Err(error) = group.complete() {
        let _ = group.delete();
        return Err(error);
    }
    Ok(group)
}

/// As [`create`], but makes only what [`Cgroup::clone_target`] needs: the folders of version 1, one for each hierarchy,
/// take a while, in which a process that was cloned already can do something else. [`Cgroup::complete`] makes them.
pub fn prepare(path: &str) -> Result<Box<dyn Cgroup>> {
    check_path(path)?;
    Ok(match hierarchy::layout()? {
        hierarchy::Layout::V1(hierarchies, unified) => {
            Box::new(v1::Group::prepare(hierarchies, unified.as_deref(), path)?)
        }
        hierarchy::Layout::V2(root) => Box::new(v2::Group::create(root, path)?),
    })
}

/// The group of those who have none: it takes every process and limits nothing.
pub fn absent() -> Box<dyn Cgroup> {
    Box::new(absent::Absent)
}

/// Opens the group at `path` without making it.
pub fn open(path: &str) -> Result<Box<dyn Cgroup>> {
    check_path(path)?;
    Ok(match hierarchy::layout()? {
        hierarchy::Layout::V1(hierarchies, unified) => {
            Box::new(v1::Group::open(hierarchies, unified.as_deref(), path)?)
        }
        hierarchy::Layout::V2(root) => Box::new(v2::Group::open(root, path)?),
    })
}

/// A group below another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Those that it is for; empty: all. Version 2 has them all in one place.
    pub controllers: Vec<String>,
    /// Relative path; empty or `/`: the group itself.
    pub path: String,
}

/// Opens the group at `path` as one whose members join groups below it, all of which must exist.
pub fn open_below(path: &str, below: &[Below]) -> Result<Box<dyn Cgroup>> {
    check_path(path)?;
    for one in below {
        if one.path.split('/').any(|part| part == "..") {
            return Err(Error::Unsupported(format!(
                "bad sub cgroup path: {} is not a sub cgroup path",
                one.path
            )));
        }
    }
    Ok(match hierarchy::layout()? {
        hierarchy::Layout::V1(hierarchies, unified) => {
            let group = v1::Group::open(hierarchies, unified.as_deref(), path)?;
            Box::new(group.below(below)?)
        }
        hierarchy::Layout::V2(root) => {
            let inside = below.last().map_or("", |one| one.path.trim_matches('/'));
            let whole = match inside {
                "" => path.to_owned(),
                inside => format!("{}/{inside}", path.trim_end_matches('/')),
            };
            Box::new(v2::Group::open(root, &whole)?)
        }
    })
}

/// A path that climbs would name a group that is not ours.
fn check_path(path: &str) -> Result<()> {
    let good = path.starts_with('/')
        && path.len() > 1
        && !path.split('/').any(|part| part == ".." || part == ".");
    if good {
        Ok(())
    } else {
        Err(Error::Unsupported(format!(
            "{path:?} is not the absolute path of a control group"
        )))
    }
}

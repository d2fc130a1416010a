//! A container's files seen from outside, running or not. Nothing in there is trusted: every path is resolved below the
//! container's root, whatever links it leads over.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error_from::io;
use crate::index::Entry;
use crate::mounts::clean;
use crate::{Engine, Error, Kind, Result};

/// The top of a tree and the path below it that was asked for.
#[derive(Debug)]
pub(crate) struct Inside {
    pub root: OwnedFd,
    pub path: PathBuf,
    /// May not be written to.
    pub read_only: bool,
    /// The container's name.
    pub container: String,
}

impl Engine {
    /// Opens the tree that holds `path`. A running container has everything mounted; of a stopped one the root is mounted
    /// where nobody sees it, and volumes are entered directly.
    pub(crate) fn inside(&self, entry: &Entry, path: &str) -> Result<Inside> {
        let (container, pid, mounts, root_read_only) = {
            let record = entry.record();
            (
                record.name.clone(),
                record.state.pid,
                record.mounts.clone(),
                record.spec.read_only_rootfs,
            )
        };
        let wanted = clean(path);
        let holds = |destination: &str| {
            wanted == destination || wanted.starts_with(&format!("{destination}/"))
        };
        let mount = mounts
            .iter()
            .filter(|m| holds(&m.destination))
            .max_by_key(|m| m.destination.len());
        let read_only = mount.map_or(root_read_only, |m| !m.read_write);
        let open = |path: &Path| {
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(io(format!("open {}", path.display())))
        };
        if pid != 0 {
            let root = open(&PathBuf::from(format!("/proc/{pid}/root")))?;
            return Ok(Inside {
                root,
                path: wanted.into(),
                read_only,
                container,
            });
        }
        match mount.filter(|m| m.source.is_dir()) {
            Some(mount) => {
                let rest = wanted[mount.destination.len()..].to_owned();
                Ok(Inside {
                    root: open(&mount.source)?,
                    path: format!("/{}", rest.trim_start_matches('/')).into(),
                    read_only,
                    container,
                })
            }
            None => Ok(Inside {
                root: self.inner.images.mount(&entry.id)?,
                path: wanted.into(),
                read_only,
                container,
            }),
        }
    }
}

impl Inside {
    /// Opens the path; a link at its end is followed only on request.
    pub fn open(&self, flags: OFlags, follow: bool) -> Result<OwnedFd> {
        let flags = if follow {
            flags
        } else {
            flags | OFlags::NOFOLLOW
        };
        let relative = self.path.strip_prefix("/").unwrap_or(&self.path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            self.root.as_fd(),
            relative,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
        .map_err(|e| {
            let kind = if e == rustix::io::Errno::NOENT || e == rustix::io::Errno::NOTDIR {
                Kind::NotFound
            } else {
                Kind::Internal
            };
            match kind {
                Kind::NotFound => Error::new(
                    kind,
                    format!(
                        "Could not find the file {} in container {}",
                        self.path.display(),
                        self.container
                    ),
                ),
                _ => Error::with(
                    kind,
                    format!("open {} in the container: {e}", self.path.display()),
                    e,
                ),
            }
        })
    }

    /// The last name of the path; `/` for the root.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

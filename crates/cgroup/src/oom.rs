//! Learning that the kernel killed a member for want of memory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags, inotify};

use crate::{Error, Result, file};

/// Out-of-memory notification: poll [`OomWatch::fd`], then call [`OomWatch::kills`].
#[derive(Debug)]
pub struct OomWatch {
    notifier: OwnedFd,
    folder: PathBuf,
    file: &'static str,
}

impl OomWatch {
    /// Version 1: an event counter that the kernel writes to.
    pub(crate) fn v1(folder: &Path) -> Result<OomWatch> {
        let control_path = folder.join("memory.oom_control");
        let fail = |operation: &str, source: std::io::Error| Error::File {
            operation: operation.into(),
            path: control_path.clone(),
            source,
        };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let notifier = rustix::event::eventfd(0, flags).map_err(|e| fail("watch", e.into()))?;
        let control = rustix::fs::open(
            &control_path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| fail("open", e.into()))?;
        let line = format!("{} {}", notifier.as_raw_fd(), control.as_raw_fd());
        file::write(folder, "cgroup.event_control", line)?;
        Ok(OomWatch {
            notifier,
            folder: folder.into(),
            file: "memory.oom_control",
        })
    }

    /// Version 2: a change of `memory.events`.
    pub(crate) fn v2(folder: &Path) -> Result<OomWatch> {
        let path = folder.join("memory.events");
        let fail = |source: rustix::io::Errno| Error::File {
            operation: "watch".into(),
            path: path.clone(),
            source: source.into(),
        };
        let notifier =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                .map_err(fail)?;
        inotify::add_watch(&notifier, &path, inotify::WatchFlags::MODIFY).map_err(fail)?;
        Ok(OomWatch {
            notifier,
            folder: folder.into(),
            file: "memory.events",
        })
    }

    /// Readable when something may have happened.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }

    /// How many members were killed so far; takes the notification away. 0 once the group is gone.
    pub fn kills(&self) -> u64 {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.notifier, &mut buffer).is_ok_and(|read| read == buffer.len()) {
        }
        kills(&self.folder, self.file)
    }
}

/// Reads the counter.
pub(crate) fn kills(folder: &Path, file: &str) -> u64 {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0)
}

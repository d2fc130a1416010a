//! Places in a snapshot that are there to be mounted on: no part of what its user changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat};

use crate::Result;
use crate::diff::{join, open_exactly, sorted_names};

/// Empty files and folders of an upper folder that are passed over, and folders that are in it for their sake alone.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mountpoints<'a> {
    /// Without a leading slash.
    pub paths: &'a [&'a str],
    /// The tree below the snapshot.
    pub lower: Option<BorrowedFd<'a>>,
}

impl Mountpoints<'_> {
    /// Whether the entry `name` of `folder`, at `path` from the top, is such a place.
    pub fn hide(&self, folder: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<bool> {
        let listed = self.paths.iter().any(|known| known.as_bytes() == path);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(listed && stat.st_size == 0),
            FileType::Directory if listed || self.holds(path) => {
                let Ok(inner) = open_exactly(folder.as_fd(), name) else {
                    return Ok(false);
                };
                Ok((listed || self.unchanged(path, stat)) && self.all_hidden(&inner, path)?)
            }
            _ => Ok(false),
        }
    }

    /// Whether a folder leads to one of the places.
    fn holds(&self, folder: &[u8]) -> bool {
        let below = |path: &str| path.as_bytes().strip_prefix(folder)?.first().copied();
        self.paths.iter().any(|path| below(path) == Some(b'/'))
    }

    /// Whether a folder was copied up as it was.
    fn unchanged(&self, path: &[u8], stat: &Stat) -> bool {
        let old = self.lower.and_then(|lower| {
            let folder = open_exactly(lower, path).ok()?;
            rustix::fs::fstat(folder).ok()
        });
        old.is_some_and(|old| {
            (old.st_mode, old.st_uid, old.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid)
        })
    }

    fn all_hidden(&self, folder: &OwnedFd, path: &[u8]) -> Result<bool> {
        for name in sorted_names(folder)? {
            let stat = match rustix::fs::statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                Err(_) => return Ok(false),
            };
            if !self.hide(folder, &name, &join(path, &name), &stat)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

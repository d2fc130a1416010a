//! What a container's start leaves in its snapshot: places to mount on, which are no part of what a command did.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use wharf_image::Snapshot;

use crate::{Error, io};

/// Files that are mounted over in every container: a command can't change what is below.
const FILES: [(&str, &[&str]); 1] = [("etc", &["hostname", "hosts", "resolv.conf"])];
/// Folders that are mounted over.
const FOLDERS: [&str; 3] = ["dev", "proc", "sys"];

/// Removes them from a snapshot that is not mounted any more. Blocks.
pub(crate) fn clear(snapshot: &Snapshot) -> Result<(), Error> {
    let failed = || io(format!("clear mount points of snapshot {}", snapshot.key));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = rustix::fs::open(&snapshot.upper, flags, Mode::empty()).map_err(failed())?;
    for (folder, names) in FILES {
        let Some(opened) = inner(&upper, folder).map_err(failed())? else {
            continue;
        };
        let mut cleared = false;
        for name in names {
            cleared |= remove_empty_file(&opened, name).map_err(failed())?;
        }
        // It was copied up for those files' sake.
        if cleared
            && snapshot
                .lower
                .iter()
                .any(|lower| lower.join(folder).is_dir())
        {
            remove_empty_folder(&upper, &opened, folder).map_err(failed())?;
        }
    }
    for folder in FOLDERS {
        if let Some(opened) = inner(&upper, folder).map_err(failed())? {
            remove_empty_folder(&upper, &opened, folder).map_err(failed())?;
        }
    }
    Ok(())
}

/// A folder of the snapshot; `None`: no such, or a link in its place.
fn inner(upper: &OwnedFd, folder: &str) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(upper, folder, flags, Mode::empty(), resolve) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn remove_empty_file(folder: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
        return Ok(false);
    }
    rustix::fs::unlinkat(folder, name, AtFlags::empty()).map(|()| true)
}

/// Unless it says that what is below it is gone.
fn remove_empty_folder(upper: &OwnedFd, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    let mut value = [0u8; 8];
    match rustix::fs::fgetxattr(folder.as_fd(), "trusted.overlay.opaque", &mut value[..]) {
        Ok(_) => return Ok(()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e),
    }
    match rustix::fs::unlinkat(upper, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn clears_only_what_a_start_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["upper/etc", "upper/proc", "upper/dev", "lower/etc"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("upper/etc/hosts"), "").unwrap();
        fs::write(path("upper/dev/own"), "x").unwrap();
        let snapshot = Snapshot {
            key: "k".to_owned(),
            upper: path("upper"),
            work: path("work"),
            lower: vec![path("lower")],
        };
        clear(&snapshot).unwrap();
        assert!(!path("upper/etc").exists() && !path("upper/proc").exists());
        assert!(path("upper/dev/own").exists());
        fs::create_dir(path("upper/etc")).unwrap();
        fs::write(path("upper/etc/hosts"), "own").unwrap();
        fs::write(path("upper/etc/hostname"), "").unwrap();
        clear(&snapshot).unwrap();
        assert!(path("upper/etc/hosts").exists() && !path("upper/etc/hostname").exists());
        fs::remove_dir_all(path("upper/etc")).unwrap();
        std::os::unix::fs::symlink(path("lower/etc"), path("upper/etc")).unwrap();
        fs::write(path("lower/etc/hosts"), "").unwrap();
        clear(&snapshot).unwrap();
        assert!(path("lower/etc/hosts").exists());
    }
}

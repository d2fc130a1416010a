//! Removing trees that others made: any depth, no recursion, nothing followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::Result;
use crate::error::{io, io_at, io_with};

/// Removes a file or tree; absent is not an error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_at("stat", path)(e)),
        Ok(meta) if !meta.is_dir() => {
            return std::fs::remove_file(path).map_err(io_at("remove", path));
        }
        Ok(_) => {}
    }
    let folder = std::fs::File::open(path).map_err(io_at("open", path))?;
    empty(folder.as_fd())?;
    std::fs::remove_dir(path).map_err(io_at("remove", path))
}

/// The same for a name in an open folder.
pub(crate) fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => {
            return Err(io_with(|| format!("remove {}", crate::unpack::show(name)))(
                e,
            ));
        }
    }
    let inner = open(folder, name)?;
    empty(inner.as_fd())?;
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
        .map_err(io_with(|| format!("remove {}", crate::unpack::show(name))))
}

fn open(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
        .map_err(io_with(|| format!("open {}", crate::unpack::show(name))))
}

/// Empties a folder. Folders inside folders are moved up to the top before their turn comes: the depth never exceeds
/// two, however deep a container has nested them.
fn empty(top: BorrowedFd<'_>) -> Result<()> {
    let mut moved = 0u64;
    loop {
        let mut progress = false;
        for name in names(top)? {
            progress = true;
            if unlink(top, &name)? {
                continue;
            }
            let inner = open(top, &name)?;
            for child in names(inner.as_fd())? {
                if unlink(inner.as_fd(), &child)? {
                    continue;
                }
                loop {
                    moved += 1;
                    let target = format!(".wharf-discard-{moved}");
                    let flags = rustix::fs::RenameFlags::NOREPLACE;
                    match rustix::fs::renameat_with(
                        &inner,
                        child.as_slice(),
                        top,
                        target.as_str(),
                        flags,
                    ) {
                        Ok(()) => break,
                        Err(Errno::EXIST) => {}
                        Err(e) => {
                            return Err(io_with(|| {
                                format!("move {}", crate::unpack::show(&child))
                            })(e));
                        }
                    }
                }
            }
            rustix::fs::unlinkat(top, name.as_slice(), AtFlags::REMOVEDIR).map_err(io_with(
                || format!("remove folder {}", crate::unpack::show(&name)),
            ))?;
        }
        if !progress {
            return Ok(());
        }
    }
}

/// Removes anything but a folder that has something in it; says whether it is gone.
fn unlink(folder: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => {
            return Err(io_with(|| format!("remove {}", crate::unpack::show(name)))(
                e,
            ));
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(io_with(|| format!("remove {}", crate::unpack::show(name)))(
            e,
        )),
    }
}

/// Names in a folder, in the file system's order.
fn names(folder: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(io("list a folder"))? {
        let entry = entry.map_err(io("list a folder"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

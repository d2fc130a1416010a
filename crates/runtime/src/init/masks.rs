//! Paths that are hidden or protected (runtime-spec, "Masked Paths", "Readonly Paths").

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Spec;
use wharf_sys::mount::{Attributes, attribute, set_attributes};

use super::{Step, failed, mounts};
use crate::path;

/// Hides the masked paths and makes the read-only ones read-only. Called on the attached root before the pivot; paths
/// that are not there need no protection.
pub fn apply(root: BorrowedFd<'_>, spec: &Spec) -> Step {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    for protected in linux.readonly_paths().iter().flatten() {
        protect(root, Path::new(protected))
            .map_err(failed(format!("make {protected} read-only")))?;
    }
    // Once each: a second mask would cover the first, and nothing more.
    let masked: std::collections::BTreeSet<&String> =
        linux.masked_paths().iter().flatten().collect();
    if masked.is_empty() {
        return Ok(());
    }
    let null = mounts::host_null()?;
    // One empty folder serves all: each place gets a copy of the mount.
    let mut empty: Option<OwnedFd> = None;
    for hidden in masked {
        hide(root, Path::new(hidden), null.as_fd(), &mut empty)
            .map_err(failed(format!("hide {hidden}")))?;
    }
    Ok(())
}

fn protect(root: BorrowedFd<'_>, protected: &Path) -> io::Result<()> {
    let Some(place) = existing(root, protected)? else {
        return Ok(());
    };
    let tree = mounts::copy_of(place.as_fd(), true)?;
    let read_only = Attributes {
        set: attribute::RDONLY,
        ..Attributes::default()
    };
    set_attributes(tree.as_fd(), &read_only, true)?;
    mounts::attach(tree.as_fd(), place.as_fd())
}

fn hide(
    root: BorrowedFd<'_>,
    hidden: &Path,
    null: BorrowedFd<'_>,
    empty: &mut Option<OwnedFd>,
) -> io::Result<()> {
    let Some(place) = existing(root, hidden)? else {
        return Ok(());
    };
    let tree = if path::is_folder(place.as_fd())? {
        match empty {
            Some(first) => mounts::copy_of(first.as_fd(), false)?,
            None => {
                let first =
                    mounts::tmpfs(&[("nr_blocks", "1"), ("nr_inodes", "1")], attribute::RDONLY)?;
                mounts::attach(first.as_fd(), place.as_fd())?;
                *empty = Some(first);
                return Ok(());
            }
        }
    } else {
        mounts::copy_of(null, false)?
    };
    mounts::attach(tree.as_fd(), place.as_fd())
}

fn existing(root: BorrowedFd<'_>, inside: &Path) -> io::Result<Option<OwnedFd>> {
    match path::open_place(root, inside) {
        Ok(place) => Ok(Some(place)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        // A kernel may hide files of procfs from us: then they are hidden from the container too.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

//! Deletions: `.wh.` names in archives (image-spec, "Whiteouts") and what overlayfs has in their place.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

use crate::Result;
use crate::error::io;

/// In front of a deleted name.
pub(crate) const PREFIX: &[u8] = b".wh.";
/// In a folder that hides everything below it.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What overlayfs calls the same.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a name of an archive means.
pub(crate) enum Meaning<'a> {
    Opaque,
    Hides(&'a [u8]),
    /// Book-keeping of AUFS.
    Ignored,
    Malformed,
}

/// `None`: a name like others.
pub(crate) fn meaning(name: &[u8]) -> Option<Meaning<'_>> {
    let rest = name.strip_prefix(PREFIX)?;
    Some(match rest {
        _ if name == OPAQUE => Meaning::Opaque,
        b"" | b"." | b".." => Meaning::Malformed,
        _ if rest.starts_with(PREFIX) => Meaning::Ignored,
        _ => Meaning::Hides(rest),
    })
}

/// Whether overlayfs takes this for "deleted".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn make(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(
        folder,
        name,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0),
        0,
    )
}

pub(crate) fn set_opaque<Fd: AsFd>(folder: Fd) -> Result<()> {
    rustix::fs::fsetxattr(folder, OPAQUE_XATTR, b"y", XattrFlags::empty())
        .map_err(io("mark a folder as opaque"))
}

pub(crate) fn is_opaque<Fd: AsFd>(folder: Fd) -> Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(folder, OPAQUE_XATTR, &mut value[..]) {
        // `x`: has files that are whiteouts by attribute, which Wharf never makes.
        Ok(1) => Ok(value[0] == b'y'),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(io("read attributes of a folder")(e)),
    }
}

//! Extended attributes: which ones travel with a layer, reading and setting them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{io, io_with};
use crate::{Error, Result};

/// The kernel's own limits.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 64 * 1024;
const LIST_BYTES_MAX: usize = 64 * 1024;

/// Attributes that tell overlayfs what a folder means: never taken from an archive, never given away.
fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// What a layer carries: what programs see and need. Labels of the machine's security modules stay here.
fn travels(name: &[u8]) -> bool {
    !is_overlay(name) && (name.starts_with(b"user.") || name == b"security.capability")
}

/// Sets what an archive says. What the file system can't hold is left out, as Docker does.
pub(crate) fn set(fd: BorrowedFd<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| !is_overlay(name)) {
        check(name, value)?;
        tolerate(
            name,
            rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()),
        )?;
    }
    Ok(())
}

/// The same for what can't be opened; the last link is not followed.
pub(crate) fn set_at(
    folder: BorrowedFd<'_>,
    name: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> Result<()> {
    let mut path = std::ffi::OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    for (key, value) in xattrs.iter().filter(|(key, _)| !is_overlay(key)) {
        check(key, value)?;
        tolerate(
            key,
            rustix::fs::lsetxattr(path.as_os_str(), key.as_slice(), value, XattrFlags::empty()),
        )?;
    }
    Ok(())
}

fn check(name: &[u8], value: &[u8]) -> Result<()> {
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.contains(&0)
        || value.len() > VALUE_BYTES_MAX
    {
        let name = crate::unpack::show(name);
        return Err(Error::Invalid(format!(
            "archive refused: extended attribute {name:?} is malformed or too large"
        )));
    }
    Ok(())
}

fn tolerate(name: &[u8], result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => {
            tracing::debug!(name = %crate::unpack::show(name), "the file system does not hold an extended attribute");
            Ok(())
        }
        other => other.map_err(io_with(|| {
            format!("set extended attribute {}", crate::unpack::show(name))
        })),
    }
}

/// Attributes of an open file or folder that go into a layer, sorted.
pub(crate) fn read<Fd: AsFd>(fd: Fd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut small = [0u8; 512];
    let mut large = Vec::new();
    let names: &[u8] = match rustix::fs::flistxattr(&fd, &mut small[..]) {
        Ok(len) => &small[..len],
        Err(Errno::RANGE) => {
            large.resize(LIST_BYTES_MAX, 0);
            let len = rustix::fs::flistxattr(&fd, &mut large[..])
                .map_err(io("list extended attributes"))?;
            &large[..len]
        }
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(io("list extended attributes")(e)),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| travels(name)) {
        let mut value = vec![0; VALUE_BYTES_MAX];
        match rustix::fs::fgetxattr(&fd, name, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                xattrs.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(io("read an extended attribute")(e)),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

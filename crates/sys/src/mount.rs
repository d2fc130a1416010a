//! mount_setattr(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes of a mount, to set and to clear.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0: as it is.
    pub propagation: u64,
    /// Maps IDs through this user namespace (with `MOUNT_ATTR_IDMAP` in `set`).
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// `MOUNT_ATTR_*` (mount_setattr(2)).
#[allow(missing_docs)]
pub mod attribute {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// Mask of the three values of access-time updates; 0 of it is relatime.
    pub const ATIME: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x0010_0000;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// Changes the mount that `fd` (of any kind, `O_PATH` too) is the root of; with `recursive` all below it.
pub fn set_attributes(
    fd: BorrowedFd<'_>,
    attributes: &Attributes<'_>,
    recursive: bool,
) -> io::Result<()> {
    #[repr(C)]
    struct Argument {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let argument = Argument {
        set: attributes.set,
        clear: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes
            .user_namespace
            .map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string; the structure has the layout of mount_attr, its size is passed, and both
    // live through the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const argument,
            size_of::<Argument>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

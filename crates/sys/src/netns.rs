//! Giving the calling thread a network namespace of its own.

use rustix::thread::UnshareFlags;

/// Puts the calling thread, and only it, into a new network namespace (needs `CAP_SYS_ADMIN`).
///
/// # Errors
/// What unshare(2) gives: `EPERM`, `ENOSPC` (limit on namespaces), `ENOMEM`.
pub fn unshare_network() -> rustix::io::Result<()> {
    // SAFETY: the hazard of unshare is `CLONE_FILES`, after which descriptors made by other threads mean
    // something else here. Only `CLONE_NEWNET` is passed; descriptors and memory stay shared as they were.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

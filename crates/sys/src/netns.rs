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

/// Puts the calling thread, and only it, into new namespaces of System V IPC and of host names, as asked for (needs
/// `CAP_SYS_ADMIN`).
///
/// # Errors
/// What unshare(2) gives: `EPERM`, `ENOSPC` (limit on namespaces), `ENOMEM`.
pub fn unshare_ipc_and_name(ipc: bool, name: bool) -> rustix::io::Result<()> {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWIPC, ipc);
    flags.set(UnshareFlags::NEWUTS, name);
    // SAFETY: the hazard of unshare is `CLONE_FILES`; it is not among the flags that can be set here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Brings `lo` of the calling thread's network namespace up.
///
/// # Errors
/// What socket(2) and ioctl(2) with `SIOCSIFFLAGS` give.
pub fn bring_loopback_up() -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data, for which all-zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives through the call; the name in it ends with a zero byte.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

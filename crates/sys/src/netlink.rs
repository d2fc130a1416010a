//! Options of netlink sockets that rustix has no names for.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the kernel say in words why it refused (`NETLINK_EXT_ACK`) and not send the refused request back
/// (`NETLINK_CAP_ACK`).
///
/// # Errors
/// What setsockopt(2) gives, `ENOPROTOOPT` before Linux 4.12.
pub fn explain_errors(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open for the length of the call (borrowed), and the pointer and length
        // describe one live `c_int` that the kernel only reads.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                std::ptr::from_ref(&on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            let errno = std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EINVAL);
            return Err(rustix::io::Errno::from_raw_os_error(errno));
        }
    }
    Ok(())
}

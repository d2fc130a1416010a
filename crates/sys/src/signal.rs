//! Signals by number, real-time ones included.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends any signal to the process that `pidfd` stands for (pidfd_send_signal(2)).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: integers and a null pointer, which asks the kernel to fill the information in as kill(2) does.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

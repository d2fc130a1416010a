//! All descriptors of a process at once.

use std::io;

/// Closes every descriptor from `first` on, whoever opened it.
///
/// For the first lines of a program that inherits what it must not keep: at that time no value owns one of them.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range touches no memory. The caller has opened nothing yet (documented), so no owner exists whose
    // descriptor could be taken away.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

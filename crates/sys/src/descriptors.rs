//! All descriptors of a process at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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

/// Closes every descriptor from `first` on except those in `keep`.
///
/// For a process that only waits to exec: values that own what is closed here must never be dropped or used again.
pub fn close_others(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .filter(|number| *number >= first)
        .collect();
    numbers.sort_unstable();
    let mut from = first;
    for number in numbers {
        if number > from {
            close_range(from, number - 1)?;
        }
        from = number + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(from: u32, to: u32) -> io::Result<()> {
    // SAFETY: close_range touches no memory. The callers of `close_others` promise (documented) that no owner of what is
    // closed acts again: the process execs or exits.
    let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

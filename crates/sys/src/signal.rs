//! Signals by number, real-time ones included.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

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

/// Has [`reset_all`] done in the child between fork and exec: the standard library hands the mask on as it is.
pub fn reset_before_exec(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes system calls and nothing else: no lock, no allocation.
    unsafe {
        command.pre_exec(|| {
            reset_all();
            Ok(())
        })
    }
}

/// Sends any signal to a process by its number (kill(2)), which the caller knows to be still in use: its own child, not
/// yet waited for.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::kill(pid, signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the process, without anything that was registered for its end, when it is asked to (SIGHUP, SIGINT, SIGQUIT,
/// SIGTERM). For a process that only waits; an exec takes it away.
pub fn exit_on_requests_to_end() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit may be called in a signal handler, does not return, and touches no memory of ours.
        unsafe { libc::_exit(128 + signal) }
    }
    let handler = end as extern "C" fn(libc::c_int);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the handler does nothing but end the process, so that it may interrupt anything. Where a filter
        // forbids the call, the signal keeps its effect.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// The kernel's `struct sigaction`, which differs from the C library's.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Gives every signal its default effect again and blocks none, as a program expects to begin.
///
/// For a process that is about to exec: an ignored signal (Rust ignores SIGPIPE) stays ignored through it otherwise.
/// Asks the kernel directly, since the C library keeps its own real-time signals from being touched.
pub fn reset_all() {
    const SIGNALS: libc::c_int = 64;
    let default = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let nothing: *const KernelAction = std::ptr::null();
    for signal in 1..=SIGNALS {
        // SAFETY: `default` has the kernel's layout and lives through the call; the default action runs no code of
        // ours. SIGKILL and SIGSTOP are refused, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                nothing,
                8,
            )
        };
    }
    let none = 0u64;
    let how = libc::SIG_SETMASK;
    // SAFETY: the set has the size given and lives through the call.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, nothing, 8) };
}

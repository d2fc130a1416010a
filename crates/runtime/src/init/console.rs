//! The container's terminal: a pair of its own devpts, whose master goes to the caller.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::{Step, devices, failed, mounts};
use crate::path;

/// A terminal.
#[derive(Debug)]
pub struct Console {
    /// For the caller.
    pub master: OwnedFd,
    /// Standard streams of the program.
    pub slave: OwnedFd,
}

impl Console {
    /// The master alone; the slave has been placed, and is closed together with all that is left open.
    pub fn into_master(self) -> OwnedFd {
        let _ = self.slave.into_raw_fd();
        self.master
    }
}

/// Makes a terminal on the devpts at `root`'s /dev/pts. The slave is got from the master, not by its path: the path
/// could lead elsewhere (CVE-2025-52565).
pub fn open(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Step<Console> {
    let what = "make the terminal";
    let pts = devices::open_pts(root).map_err(failed(what))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(&pts, "ptmx", flags, Mode::empty()).map_err(failed(what))?;
    rustix::pty::unlockpt(&master).map_err(failed(what))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed(what))?;
    if let Some((height, width)) = size {
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).map_err(failed(what))?;
    }
    Ok(Console { master, slave })
}

/// Binds the terminal to /dev/console.
pub fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Step {
    let what = "bind the terminal to /dev/console";
    let place = path::make_file(root, Path::new("/dev/console")).map_err(failed(what))?;
    let tree = mounts::copy_of(slave, false).map_err(failed(what))?;
    mounts::attach(tree.as_fd(), place.as_fd()).map_err(failed(what))
}

/// Makes the terminal the controlling one of this (new) session.
pub fn take_control(slave: BorrowedFd<'_>) -> Step {
    rustix::process::ioctl_tiocsctty(slave).map_err(failed("take control of the terminal"))
}

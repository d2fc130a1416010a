//! Network namespaces without a name: held by descriptors, gone with the last one.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Batch, Socket};
use crate::{Error, Result, route};

/// The namespace of the calling thread.
pub(crate) fn current() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|source| Error::Kernel {
            operation: format!("open {path}"),
            source,
        })
}

fn enter(netns: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).map_err(|errno| {
        Error::Kernel {
            operation: "enter a network namespace".into(),
            source: errno.into(),
        }
    })
}

/// Runs `inside` with the calling thread in another namespace and returns to `home`.
///
/// # Panics
/// If there is no way back: this thread's work would go to the wrong namespace from then on.
pub(crate) fn within<T>(
    home: BorrowedFd<'_>,
    netns: BorrowedFd<'_>,
    inside: impl FnOnce() -> Result<T>,
) -> Result<T> {
    enter(netns)?;
    let result = inside();
    go_home(home);
    result
}

/// A new namespace with `lo` up and IPv6 off on links to come (an endpoint with an IPv6 address turns it on
/// for its own). The calling thread is in `home` before and after.
///
/// # Panics
/// As [`within`] does.
pub(crate) fn create(home: BorrowedFd<'_>) -> Result<OwnedFd> {
    wharf_sys::netns::unshare_network().map_err(|errno| Error::Kernel {
        operation: "make a network namespace".into(),
        source: errno.into(),
    })?;
    let prepare = || {
        let netns = current()?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, route::LOOPBACK, "lo");
        Socket::route()?.send(&batch)?;
        crate::sysctl::set_if_present("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(netns)
    };
    let result = prepare();
    go_home(home);
    result
}

fn go_home(home: BorrowedFd<'_>) {
    if let Err(error) = enter(home) {
        panic!("no way back to the host's network namespace: {error}");
    }
}

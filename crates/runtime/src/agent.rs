//! The seccomp agent: whom a filter asks about system calls (runtime-spec, "The Container Process State").

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use rustix::process::PidfdGetfdFlags;

use crate::error::{Error, Result};

/// Hands the listener of process `pid`, a descriptor of that process, to the agent that the configuration names.
/// `state`: the container's, as the specification writes it.
pub fn hand_over(
    spec: &Spec,
    pid: i32,
    state: &str,
    process: BorrowedFd<'_>,
    listener: i32,
) -> Result<()> {
    let linux = spec.linux().as_ref();
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    let path = seccomp
        .and_then(|seccomp| seccomp.listener_path().as_ref())
        .filter(|path| !path.as_os_str().is_empty());
    let Some(path) = path else {
        return Err(Error::Config(
            "seccomp listenerPath is not set, but the profile has SCMP_ACT_NOTIFY".into(),
        ));
    };
    // Fetched, not sent along: the child may not make a system call that could be asked about.
    let listener = rustix::process::pidfd_getfd(process, listener, PidfdGetfdFlags::empty())
        .map_err(Error::system("fetch the seccomp listener"))?;
    let what = || {
        Error::system(format!(
            "failed to connect with seccomp agent at {}",
            path.display()
        ))
    };
    let state: serde_json::Value =
        serde_json::from_str(state).map_err(|e| what()(io::Error::from(e)))?;
    let metadata = seccomp.and_then(|seccomp| seccomp.listener_metadata().clone());
    let message = serde_json::json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata.unwrap_or_default(),
        "state": state,
    });
    send_descriptor(path, message.to_string().as_bytes(), listener.as_fd()).map_err(what())
}

/// One descriptor with some bytes to a listening unix socket (SCM_RIGHTS).
pub fn send_descriptor(path: &Path, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let bytes = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket.as_fd(), &bytes, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

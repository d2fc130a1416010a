//! The container's run folder: its sockets (through a descriptor, since a socket address holds 108 bytes only) and
//! its records, written so that a reader sees all of one or nothing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::SOCKET_FILE;

/// An open run folder.
#[derive(Debug)]
pub(crate) struct RunDir(OwnedFd);

impl RunDir {
    pub(crate) fn open(path: &Path) -> io::Result<RunDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RunDir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Where it is at this moment; empty if that can't be told.
    pub(crate) fn place(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd())).unwrap_or_default()
    }

    fn socket_address(&self) -> io::Result<SocketAddrUnix> {
        let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", self.0.as_raw_fd());
        Ok(SocketAddrUnix::new(path)?)
    }

    /// Listens on the control socket, which only root may use; replaces one that a killed shim left.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        self.remove(SOCKET_FILE)?;
        let socket = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        rustix::net::bind(&socket, &self.socket_address()?)?;
        rustix::fs::chmodat(
            &self.0,
            SOCKET_FILE,
            Mode::from_raw_mode(0o600),
            AtFlags::empty(),
        )?;
        rustix::net::listen(&socket, 64)?;
        Ok(socket)
    }

    /// Connects to the control socket; `None`: nobody listens there.
    pub(crate) fn connect(&self) -> io::Result<Option<OwnedFd>> {
        let socket = unix_socket(SocketFlags::CLOEXEC)?;
        match rustix::net::connect(&socket, &self.socket_address()?) {
            Ok(()) => Ok(Some(socket)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; absent is not an error.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a record under a passing name, then renames it. `durable`: through to the disk first.
    pub(crate) fn write(
        &self,
        name: &str,
        record: &impl Serialize,
        durable: bool,
    ) -> io::Result<()> {
        let passing = format!("{name}.new");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, passing.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        file.write_all(&serde_json::to_vec(record)?)?;
        if durable {
            file.sync_all()?;
        }
        rustix::fs::renameat(&self.0, passing.as_str(), &self.0, name)?;
        if durable {
            rustix::fs::fsync(&self.0)?;
        }
        Ok(())
    }

    /// Reads a record; `None`: there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = io::read_to_string(io::Read::take(File::from(fd), 64 << 10))?;
        Ok(Some(serde_json::from_str(&text)?))
    }
}

fn unix_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

//! Telling whoever started the daemon that it is ready: systemd's notification protocol (sd_notify(3)), which
//! the client uses too when it starts a daemon of its own.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// Sends `READY=1` to `$NOTIFY_SOCKET`, if there is one.
pub fn ready() {
    let Some(target) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(Path::new(&target), b"READY=1") {
        tracing::warn!(target = %target.display(), %error, "readiness could not be reported");
    }
}

fn send(target: &Path, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let bytes = target.as_os_str().as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(target)?,
    };
    socket.send_to_addr(message, &address).map(drop)
}

/// The receiving end: an abstract socket, gone with this process.
pub struct Waiter {
    socket: UnixDatagram,
    name: String,
}

impl Waiter {
    /// Binds a socket nobody else listens on.
    pub fn bind() -> io::Result<Waiter> {
        let name = format!("wharf-start-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?;
        Ok(Waiter { socket, name })
    }

    /// Value for `NOTIFY_SOCKET` of the process to be waited for.
    pub fn address(&self) -> String {
        format!("@{}", self.name)
    }

    /// Waits for a message at most this long; `false`: none came.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut buffer = [0; 256];
        match self.socket.recv(&mut buffer) {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

//! Sockets the API is served on.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use wharf_docker_api::Listener;

/// Binds every URL, or none.
pub fn bind(hosts: &[String]) -> Result<Vec<Listener>, Box<dyn std::error::Error>> {
    let mut listeners = Vec::with_capacity(hosts.len());
    for host in hosts {
        let listener = match parse(host)? {
            Target::Unix(path) => {
                let listener = bind_unix(&path).map_err(|e| format!("listen on {host}: {e}"))?;
                listener.set_nonblocking(true)?;
                Listener::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
            Target::Tcp(address) => {
                tracing::warn!(%address, "whoever reaches this address controls the machine: there is no authentication");
                let listener = std::net::TcpListener::bind(&address)
                    .map_err(|e| format!("listen on {host}: {e}"))?;
                listener.set_nonblocking(true)?;
                Listener::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Binds the socket of an interface that is served on unix sockets alone.
pub fn bind_local(host: &str) -> Result<tokio::net::UnixListener, Box<dyn std::error::Error>> {
    let Target::Unix(path) = parse(host)? else {
        return Err(
            format!("{host:?} is not the address of a unix socket; give unix:///PATH").into(),
        );
    };
    let listener = bind_unix(&path).map_err(|e| format!("listen on {host}: {e}"))?;
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}

/// Takes the socket files away.
pub fn remove(hosts: &[String]) {
    for host in hosts {
        if let Ok(Target::Unix(path)) = parse(host) {
            // Absent, or of a daemon that came after: both are fine.
            let _ = fs::remove_file(path);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
}

fn parse(host: &str) -> Result<Target, String> {
    if let Some(path) = host
        .strip_prefix("unix://")
        .or_else(|| host.starts_with('/').then_some(host))
    {
        return Ok(Target::Unix(PathBuf::from(path)));
    }
    match host.strip_prefix("tcp://") {
        Some(address) if address.contains(':') => Ok(Target::Tcp(address.to_owned())),
        Some(address) => Ok(Target::Tcp(format!("{address}:2375"))),
        None => Err(format!(
            "{host:?} is no address to listen on; give unix:///PATH or tcp://ADDRESS:PORT"
        )),
    }
}

/// Binds a socket that only root may use. A file left by a dead daemon is replaced, one of a live daemon is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another daemon listens there",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(_) => {}
    }
    // Bound under another name first: nobody connects before the permissions are right.
    let hidden = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    fs::rename(&hidden, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(parse("unix:///a/b").unwrap(), Target::Unix("/a/b".into()));
        assert_eq!(
            parse("tcp://127.0.0.1:1").unwrap(),
            Target::Tcp("127.0.0.1:1".into())
        );
        assert_eq!(
            parse("tcp://127.0.0.1").unwrap(),
            Target::Tcp("127.0.0.1:2375".into())
        );
        assert!(parse("ftp://x").unwrap_err().contains("unix:///PATH"));
    }

    #[test]
    fn a_live_socket_is_respected_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let live = bind_unix(&path).unwrap();
        assert_eq!(
            bind_unix(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(live);
        bind_unix(&path).unwrap();
    }
}

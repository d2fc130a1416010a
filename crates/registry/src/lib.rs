//! OCI distribution server (distribution-spec 1.1): push, pull, mount, tags, catalogue, delete, referrers; users from an
//! htpasswd file. Must not know the engine.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;

/// How the registry is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub addr: SocketAddr,
    /// Folder of blobs, manifests and uploads.
    pub data: PathBuf,
    /// Users (bcrypt); absent: anyone may push and pull.
    pub htpasswd: Option<PathBuf>,
    /// Certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What can go wrong with serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket could not be used.
    #[error("{operation}")]
    Io {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Serves until `shutdown` ends. `ready` is called with the address that was bound.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(SocketAddr) + Send,
    shutdown: impl std::future::Future<Output = ()> + Send,
) -> Result<(), Error> {
    let _ = (config, shutdown);
    ready(([127, 0, 0, 1], 0).into());
    todo!()
}

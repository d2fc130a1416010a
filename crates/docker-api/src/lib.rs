//! Docker Engine HTTP API, versions 1.24 up to the newest, on engine, build and image. The only room that
//! knows Docker's JSON.
#![forbid(unsafe_code)]

use wharf_build::Builder;
use wharf_engine::Engine;

/// What the API serves.
#[derive(Debug, Clone)]
pub struct Api {
    /// Containers, networks, volumes.
    pub engine: Engine,
    /// Builds.
    pub builder: Builder,
    /// Shown by `version`.
    pub server_version: String,
}

/// A listening socket of the API.
#[derive(Debug)]
pub enum Listener {
    /// Unix socket.
    Unix(tokio::net::UnixListener),
    /// Plain TCP.
    Tcp(tokio::net::TcpListener),
}

/// Serves until `shutdown` ends; requests under way are let finish for a moment.
pub async fn serve(
    api: Api,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let _ = (api, listeners, shutdown);
    todo!()
}

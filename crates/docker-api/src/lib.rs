//! Docker Engine HTTP API, versions 1.24 up to the newest, on engine, build and image. The only room that
//! knows Docker's JSON.
#![forbid(unsafe_code)]
#![recursion_limit = "256"]

mod answer;
mod archives;
mod builds;
mod container_json;
mod container_request;
mod containers;
mod execs;
mod filters;
mod hijack;
mod images;
mod networks;
mod news;
mod request;
mod route;
mod serve;
mod streams;
mod system;
mod upload;
mod volumes;

use wharf_build::Builder;
use wharf_engine::Engine;

pub use serve::serve;

/// Newest version spoken.
pub(crate) const VERSION: (u32, u32) = (1, 51);
/// Oldest version spoken.
pub(crate) const VERSION_MIN: (u32, u32) = (1, 24);

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

//! One small supervisor for each container: standard streams, log file, published-port sockets, exit status.
//!
//! The supervisor itself is the binary `wharf-shim`: static, single-threaded, no async runtime, about one
//! megabyte. It outlives the daemon. This library holds what daemon and shim say to each other
//! ([`protocol`]), the daemon's blocking side of it ([`client`]) and the supervisor's loop ([`supervisor`]).
//!
//! Called as `docker-init`, the same executable is the init of containers that asked for one ([`init`]).
//!
//! Must not know the daemon, images or networks.
#![forbid(unsafe_code)]

pub mod client;
pub mod init;
mod message;
mod orphan;
pub mod protocol;
mod run_dir;
mod spawn;
pub mod supervisor;

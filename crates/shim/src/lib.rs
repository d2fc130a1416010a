//! One small supervisor for each container: standard streams, log file, published-port sockets, exit status.
//!
//! The supervisor itself is the binary `wharf-shim`: static, single-threaded, no async runtime, about one
//! megabyte. It outlives the daemon. This library holds what daemon and shim say to each other
//! ([`protocol`]), the daemon's blocking side of it ([`client`]) and the supervisor's loop ([`supervisor`]).
//!
//! Must not know the daemon, images or networks.
#![forbid(unsafe_code)]

pub mod client;
mod message;
mod orphan;
pub mod protocol;
mod run_dir;
mod spawn;
pub mod supervisor;

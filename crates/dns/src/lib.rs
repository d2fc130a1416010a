//! Records in, answers out: a small DNS responder with forwarding. Does not know where records come from.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

/// Answers questions about names the server is the authority of.
pub trait Records: Send + Sync + 'static {
    /// Addresses of `name` (lower case, no trailing dot); `None`: not ours, forward the question.
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>>;
    /// Name of an address; `None`: not ours.
    fn reverse(&self, address: IpAddr) -> Option<String>;
}

/// What can go wrong when serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be used.
    #[error("serve DNS")]
    Io(#[from] std::io::Error),
}

/// Serves DNS on sockets that the caller bound (for example inside another network namespace) until dropped.
/// Questions that are not ours go to `upstreams`, over sockets of the calling thread's network namespace.
#[derive(Debug)]
pub struct Server {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Starts serving on a UDP socket and a TCP listener.
    pub fn start(
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        records: std::sync::Arc<dyn Records>,
        upstreams: Vec<SocketAddr>,
    ) -> Result<Server, Error> {
        let _ = (udp, tcp, records, upstreams);
        todo!()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

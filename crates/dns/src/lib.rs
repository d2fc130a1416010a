//! Records in, answers out: a small DNS responder with forwarding. Does not know where records come from.
#![forbid(unsafe_code)]

mod answer;
mod forward;
mod serve;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
    /// Starts serving on a UDP socket and a TCP listener. Upstreams are asked in order, the next where one is
    /// silent, refuses or fails; without any, names that are not ours don't exist.
    ///
    /// # Errors
    /// If the sockets can't be used without blocking.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        records: Arc<dyn Records>,
        upstreams: Vec<SocketAddr>,
    ) -> Result<Server, Error> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let resolver = Arc::new(serve::Resolver::new(records, upstreams));
        let by_datagram = tokio::spawn(serve::datagrams(udp, Arc::clone(&resolver)));
        let by_stream = tokio::spawn(serve::connections(tcp, resolver));
        Ok(Server {
            tasks: vec![by_datagram, by_stream],
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

//! Records in, answers out: a small DNS responder with forwarding. Does not know where records come from.
#![forbid(unsafe_code)]

mod answer;
mod cache;
mod forward;
mod plain;
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

/// Kinds of records that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    A,
    Aaaa,
    Cname,
    Ptr,
    Srv,
    Txt,
    Ns,
    /// Whatever there is.
    Any,
    /// None of these.
    Other,
}

/// What a record says. Names are without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME: as the only answer it is followed.
    Alias(String),
    /// PTR.
    Pointer(String),
    /// NS.
    NameServer(String),
    /// TXT.
    Text(String),
    /// SRV (RFC 2782).
    Service {
        /// Lower comes first.
        priority: u16,
        /// Share among those of one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The name of the host.
        target: String,
    },
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is; `None`: of the name that was asked for.
    pub name: Option<String>,
    /// How long others may remember it, in seconds.
    pub ttl_s: u32,
    /// What it says.
    pub data: Data,
    /// Whether the server is the authority of it.
    pub is_authoritative: bool,
}

/// Who says that something is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The zone.
    pub zone: String,
    /// Version of the zone.
    pub serial: u32,
    /// How long others may remember that there is none, in seconds.
    pub negative_ttl_s: u32,
}

/// What zones know about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is in none of them: to be asked upstream.
    Elsewhere,
    /// No such records (the name exists), or no such name.
    Nothing {
        /// Whether the name has other records, or names below it.
        exists: bool,
        /// The zone it would be in.
        authority: Option<Authority>,
    },
    /// These.
    Entries {
        /// What was asked for; they take turns in being first.
        answers: Vec<Entry>,
        /// What the client will ask for next.
        additional: Vec<Entry>,
    },
}

/// Whole zones that the server is the authority of, and whom to ask about all others.
pub trait Zones: Send + Sync + 'static {
    /// Records of a kind of `name` (lower case, no trailing dot).
    fn find(&self, name: &str, kind: Kind) -> Found;
    /// Servers to ask about a name that is in no zone, in order. None: such names don't exist.
    fn upstreams(&self, name: &str) -> Vec<SocketAddr>;
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for, if it stands for one whole address.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    let mut name = hickory_proto::rr::Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
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
        let zones = Arc::new(plain::Plain::new(records, upstreams));
        Server::begin(udp, tcp, serve::Resolver::new(zones, false))
    }

    /// The same for whole zones. Answers of upstream servers are remembered.
    ///
    /// # Errors
    /// If the sockets can't be used without blocking.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_zones(
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        zones: Arc<dyn Zones>,
    ) -> Result<Server, Error> {
        Server::begin(udp, tcp, serve::Resolver::new(zones, true))
    }

    fn begin(
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        resolver: serve::Resolver,
    ) -> Result<Server, Error> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let resolver = Arc::new(resolver);
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

//! Network namespaces, links, addresses, nftables, address management and port publishing. Does not know
//! containers or pods, and keeps nothing on disk: its caller's records say what there should be, the kernel
//! says what there is. Starting is the same code as recovering.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What can go wrong; each variant names the link, address, port or rule it failed on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host port is taken already.
    #[error("host port {address}:{port}/{protocol} is already in use{}", holder.as_deref().map(|h| format!(" by {h}")).unwrap_or_default())]
    PortInUse {
        /// Host address.
        address: IpAddr,
        /// Host port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: Protocol,
        /// The process that holds it, `name (pid N)`, where /proc tells.
        holder: Option<String>,
    },
    /// No free address in the pool.
    #[error("no free address left in {0}")]
    PoolExhausted(String),
    /// The address asked for is in use or outside the pool.
    #[error("{0}")]
    AddressUnavailable(String),
    /// The subnet overlaps one in use.
    #[error("{0}")]
    Overlap(String),
    /// Anything else; to be refined, one variant for each failed operation.
    #[error("{operation}")]
    Kernel {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Transport protocol of a published port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// An address range, e.g. `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Subnet {
    /// Network address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// A bridge network as its caller declares it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BridgeConfig {
    /// Name of the kernel's bridge link, at most 15 bytes.
    pub bridge: String,
    /// IPv4 range.
    pub subnet: Subnet,
    /// Narrower range that addresses are given out from.
    pub ip_range: Option<Subnet>,
    /// Address of the bridge itself.
    pub gateway: Ipv4Addr,
    /// IPv6 range and gateway.
    pub subnet6: Option<(Subnet, Ipv6Addr)>,
    /// No route to the outside, no published ports.
    pub internal: bool,
    /// Endpoints may talk to each other.
    pub inter_container: bool,
    /// Source addresses are rewritten for the outside.
    pub masquerade: bool,
    /// `None`: that of the default route's link.
    pub mtu: Option<u32>,
}

/// Asks for an interface in a network namespace.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// Name inside, `eth0` and so on.
    pub interface: String,
    /// A fixed address, or any free one.
    pub ipv4: Option<Ipv4Addr>,
    /// A fixed address, or any free one where the network has IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// A fixed hardware address; by default derived from the IPv4 address (`02:42:…`).
    pub mac: Option<[u8; 6]>,
    /// Whether the default route goes this way.
    pub default_route: bool,
}

/// An interface in place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct Endpoint {
    pub interface: String,
    /// Name of the other end of the veth pair, on the host.
    pub host_link: String,
    pub mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub prefix6: u8,
    pub gateway6: Option<Ipv6Addr>,
}

/// A port on the host that leads to a port of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PortMapping {
    /// Host address; unspecified (0.0.0.0 or ::) is every address of that family.
    pub host_ip: IpAddr,
    /// Host port; 0 lets the kernel choose.
    pub host_port: u16,
    /// Address of the endpoint.
    pub target_ip: IpAddr,
    /// Port of the endpoint.
    pub target_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// A published port. `socket` is bound (and for TCP listening) on the host's port: it keeps the port from
/// others, and whoever holds it serves what address translation can't reach ([::1] to an IPv4 endpoint).
#[derive(Debug)]
pub struct Published {
    /// With the host port that was really taken.
    pub mapping: PortMapping,
    /// Goes to the container's shim.
    pub socket: OwnedFd,
}

/// The machine's networking, for one daemon. Cheap to clone. All methods are cancel-safe in that a dropped
/// call undoes or completes what it began.
#[derive(Debug, Clone)]
pub struct Net {}

impl Net {
    /// Takes over the network namespace of the calling thread. `instance` (short, unique for a data root)
    /// keeps the nftables tables and links of several daemons apart. Leftovers of a crashed run of this
    /// instance (rules, unused links) are removed; what `restore_*` names later is taken over.
    pub async fn open(instance: &str) -> Result<Net> {
        let _ = instance;
        todo!()
    }
    /// Makes the bridge as declared, or adjusts the one that exists.
    pub async fn ensure_bridge(&self, config: &BridgeConfig) -> Result<()> {
        let _ = config;
        todo!()
    }
    /// Removes the bridge and its rules.
    pub async fn remove_bridge(&self, bridge: &str) -> Result<()> {
        let _ = bridge;
        todo!()
    }
    /// A free subnet from the default pools (172.17–31.0.0/16, 192.168.x.0/20) that overlaps neither a known
    /// bridge nor a route of the host.
    pub async fn free_subnet(&self) -> Result<Subnet> {
        todo!()
    }
    /// Fails if `subnet` overlaps a known bridge.
    pub async fn check_subnet(&self, subnet: Subnet) -> Result<()> {
        let _ = subnet;
        todo!()
    }
    /// A new network namespace with `lo` up. It lives as long as a descriptor or a process holds it: a killed
    /// daemon leaks none.
    pub async fn new_namespace(&self) -> Result<OwnedFd> {
        todo!()
    }
    /// Takes a prepared namespace with its veth pair from the pool (refilled in the background), or makes
    /// one, and puts an endpoint of `bridge` into it. Equivalent to [`Net::new_namespace`] + [`Net::attach`].
    pub async fn new_namespace_attached(
        &self,
        bridge: &str,
        request: &EndpointRequest,
    ) -> Result<(OwnedFd, Endpoint)> {
        let _ = (bridge, request);
        todo!()
    }
    /// Puts an endpoint of `bridge` into a namespace: address, veth pair, routes.
    pub async fn attach(
        &self,
        bridge: &str,
        netns: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint> {
        let _ = (bridge, netns, request);
        todo!()
    }
    /// After a restart: marks an endpoint's addresses as taken.
    pub async fn restore_endpoint(&self, bridge: &str, endpoint: &Endpoint) -> Result<()> {
        let _ = (bridge, endpoint);
        todo!()
    }
    /// Removes the endpoint (absent is not an error) and frees its addresses.
    pub async fn detach(&self, bridge: &str, endpoint: &Endpoint) -> Result<()> {
        let _ = (bridge, endpoint);
        todo!()
    }
    /// Publishes ports, all or none: binds the host's sockets, then adds elements to the nftables maps.
    pub async fn publish(&self, bridge: &str, mappings: &[PortMapping]) -> Result<Vec<Published>> {
        let _ = (bridge, mappings);
        todo!()
    }
    /// After a restart: the rules of ports whose sockets a live shim still holds.
    pub async fn restore_published(&self, bridge: &str, mappings: &[PortMapping]) -> Result<()> {
        let _ = (bridge, mappings);
        todo!()
    }
    /// Takes the rules away again; the sockets are closed by whoever holds them.
    pub async fn unpublish(&self, mappings: &[PortMapping]) -> Result<()> {
        let _ = mappings;
        todo!()
    }
    /// Sockets bound at a free port of 127.0.0.11 inside `netns`, with port 53 of that address led to them.
    pub async fn dns_sockets(
        &self,
        netns: BorrowedFd<'_>,
    ) -> Result<(std::net::UdpSocket, std::net::TcpListener)> {
        let _ = netns;
        todo!()
    }
    /// Counters of the interfaces in a namespace, `lo` left out.
    pub async fn counters(&self, netns: BorrowedFd<'_>) -> Result<Vec<LinkCounters>> {
        let _ = netns;
        todo!()
    }
}

/// Traffic of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LinkCounters {
    pub interface: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

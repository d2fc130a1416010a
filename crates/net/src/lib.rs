//! Network namespaces, links, addresses, nftables, address management and port publishing. Does not know
//! containers or pods, and keeps nothing on disk: its caller's records say what there should be, the kernel
//! says what there is. Starting is the same code as recovering.
#![forbid(unsafe_code)]

mod background;
mod bridge;
mod conntrack;
mod counters;
mod dns_redirect;
mod endpoint;
mod holder;
mod ipam;
mod link_address;
mod namespace;
mod netlink;
mod nftables;
mod pool;
mod port;
mod publish;
mod route;
mod ruleset;
mod services;
mod state;
mod subnet;
mod sysctl;
mod worker;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use background::{Background, Results};
use state::State;
use worker::Worker;

pub use counters::LinkCounters;
pub use services::{Backend, Balancer, Balancers, Front, FrontAddress, ServiceOptions, Services};
pub use subnet::{MalformedSubnet, Subnet};

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
    /// No such bridge has been declared.
    #[error("no bridge {0} is known")]
    UnknownBridge(String),
    /// The kernel refused; `operation` says what, and where the kernel gave words for its reason, these.
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
pub struct Net {
    worker: Worker<State>,
    ahead: Worker<Background>,
    removal: Worker<Background>,
}

fn duplicate(netns: BorrowedFd<'_>) -> Result<OwnedFd> {
    netns.try_clone_to_owned().map_err(|source| Error::Kernel {
        operation: "duplicate the descriptor of a network namespace".into(),
        source,
    })
}

impl Net {
    /// Takes over the network namespace of the calling thread. `instance` (short, unique for a data root)
    /// keeps the nftables tables and links of several daemons apart. Rules of a crashed run of this instance
    /// are removed; links are taken over by what names them ([`Net::ensure_bridge`],
    /// [`Net::restore_endpoint`]), the others go with [`Net::remove_unclaimed`].
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, or on a kernel without nftables.
    pub async fn open(instance: &str) -> Result<Net> {
        // All threads are started before anything is awaited: what is awaited may go on on another thread, in
        // another namespace.
        let results = Results::default();
        let background = |name: &str| {
            let results = results.clone();
            Worker::start(name, move || Background::new(results))
        };
        let (ahead, ahead_started) = background("wharf-net-ahead")?;
        let (removal, removal_started) = background("wharf-net-gone")?;
        let (instance, to_ahead, to_removal) =
            (instance.to_owned(), ahead.clone(), removal.clone());
        let (worker, started) = Worker::start("wharf-net", move || {
            State::open(&instance, to_ahead, to_removal, results)
        })?;
        for started in [ahead_started, removal_started, started] {
            started.ready().await?;
        }
        Ok(Net {
            worker,
            ahead,
            removal,
        })
    }

    /// Makes the bridge as declared, or adjusts the one that exists. A bridge of that name that no instance
    /// has marked as its own is used, but never removed.
    ///
    /// # Errors
    /// [`Error::Overlap`] with another bridge's ranges; [`Error::AddressUnavailable`] where gateway or range
    /// lie outside the subnet; a link of that name that is no bridge or belongs to another instance.
    pub async fn ensure_bridge(&self, config: &BridgeConfig) -> Result<()> {
        let config = config.clone();
        self.worker
            .run(move |state| state.ensure_bridge(&config))
            .await
    }

    /// Removes the bridge and its rules, those of its published ports included. Absent is not an error.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn remove_bridge(&self, bridge: &str) -> Result<()> {
        let bridge = bridge.to_owned();
        self.worker
            .run(move |state| state.remove_bridge(&bridge))
            .await
    }

    /// A free subnet from the default pools (172.17–31.0.0/16, 192.168.x.0/20) that overlaps neither a known
    /// bridge nor a route of the host. It is not reserved: [`Net::ensure_bridge`] fails for the second of two
    /// that were given the same.
    ///
    /// # Errors
    /// [`Error::PoolExhausted`].
    pub async fn free_subnet(&self) -> Result<Subnet> {
        self.worker.run(State::free_subnet).await
    }

    /// Fails if `subnet` overlaps a known bridge.
    ///
    /// # Errors
    /// [`Error::Overlap`].
    pub async fn check_subnet(&self, subnet: Subnet) -> Result<()> {
        self.worker
            .run(move |state| state.check_subnet(subnet, None))
            .await
    }

    /// Keeps addresses of a bridge from being given out (a network's auxiliary addresses).
    ///
    /// # Errors
    /// [`Error::AddressUnavailable`] outside the network's ranges.
    pub async fn keep_addresses(&self, bridge: &str, addresses: &[IpAddr]) -> Result<()> {
        let (bridge, addresses) = (bridge.to_owned(), addresses.to_vec());
        self.worker
            .run(move |state| state.keep_addresses(&bridge, &addresses))
            .await
    }

    /// A new network namespace with `lo` up. It lives as long as a descriptor or a process holds it: a killed
    /// daemon leaks none.
    ///
    /// # Errors
    /// What the kernel refuses, such as the limit on namespaces.
    pub async fn new_namespace(&self) -> Result<OwnedFd> {
        self.ahead.run(Background::new_namespace).await
    }

    /// Takes a prepared namespace with its veth pair from the pool (refilled in the background), or makes
    /// one, and puts an endpoint of `bridge` into it. Equivalent to [`Net::new_namespace`] + [`Net::attach`].
    ///
    /// # Errors
    /// As [`Net::attach`].
    pub async fn new_namespace_attached(
        &self,
        bridge: &str,
        request: &EndpointRequest,
    ) -> Result<(OwnedFd, Endpoint)> {
        let (name, request) = (bridge.to_owned(), request.clone());
        let job = move |state: &mut State| {
            let (netns, endpoint) = state.new_namespace_attached(&name, &request)?;
            Ok((name, netns, endpoint))
        };
        let undo = |state: &mut State, (name, _, endpoint): (String, OwnedFd, Endpoint)| {
            undo_attach(state, &name, endpoint);
        };
        let (_, netns, endpoint) = self.worker.run_or_undo(job, undo).await?;
        Ok((netns, endpoint))
    }

    /// Has namespaces of a bridge prepared before their first use, so that the first is as quick as the others.
    ///
    /// # Errors
    /// [`Error::UnknownBridge`].
    pub async fn prepare(&self, bridge: &str) -> Result<()> {
        let bridge = bridge.to_owned();
        self.worker.run(move |state| state.refill(&bridge)).await
    }

    /// Puts an endpoint of `bridge` into a namespace: address, veth pair, routes. On failure nothing is left.
    ///
    /// # Errors
    /// [`Error::UnknownBridge`], [`Error::PoolExhausted`], [`Error::AddressUnavailable`], or what the kernel
    /// refuses (an interface of that name exists).
    pub async fn attach(
        &self,
        bridge: &str,
        netns: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint> {
        let (name, request, netns) = (bridge.to_owned(), request.clone(), duplicate(netns)?);
        let job = move |state: &mut State| {
            let endpoint = state.attach(&name, netns.as_fd(), &request)?;
            Ok((name, endpoint))
        };
        let undo = |state: &mut State, (name, endpoint): (String, Endpoint)| {
            undo_attach(state, &name, endpoint)
        };
        Ok(self.worker.run_or_undo(job, undo).await?.1)
    }

    /// After a restart: marks an endpoint's addresses as taken.
    ///
    /// # Errors
    /// [`Error::UnknownBridge`]; [`Error::AddressUnavailable`] where the network has other ranges by now.
    pub async fn restore_endpoint(&self, bridge: &str, endpoint: &Endpoint) -> Result<()> {
        let (bridge, endpoint) = (bridge.to_owned(), endpoint.clone());
        self.worker
            .run(move |state| state.restore_endpoint(&bridge, &endpoint))
            .await
    }

    /// After a restart, when everything that lives has been named by [`Net::ensure_bridge`] and
    /// [`Net::restore_endpoint`]: removes the other links of this instance.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn remove_unclaimed(&self) -> Result<()> {
        self.worker.run(State::remove_unclaimed).await
    }

    /// Removes the endpoint (absent is not an error) and frees its addresses. It is certain to happen when this
    /// returns, and has happened when [`Net::settled`] does: the kernel takes some 20 ms, which nobody needs
    /// to wait for. Attaching another endpoint of the same name is in order meanwhile.
    ///
    /// # Errors
    /// If the networking threads are gone.
    pub async fn detach(&self, bridge: &str, endpoint: &Endpoint) -> Result<()> {
        let (bridge, endpoint) = (bridge.to_owned(), endpoint.clone());
        self.worker
            .run(move |state| state.detach(&bridge, endpoint))
            .await
    }

    /// Waits until what goes on in the background (removing links, preparing namespaces) has come to its end.
    ///
    /// # Errors
    /// If the networking threads are gone.
    pub async fn settled(&self) -> Result<()> {
        self.removal.run(|_| Ok(())).await?;
        self.ahead.run(|_| Ok(())).await
    }

    /// Publishes ports, all or none: binds the host's sockets, then adds elements to the nftables maps.
    /// Mappings with host port 0 that differ only in their host address get the same port. The answer leaves
    /// out what can't be published: everything of an internal network, and `[::]` on a machine without IPv6.
    ///
    /// # Errors
    /// [`Error::PortInUse`] with its holder; [`Error::PoolExhausted`] when no ephemeral port is free.
    pub async fn publish(&self, bridge: &str, mappings: &[PortMapping]) -> Result<Vec<Published>> {
        let (bridge, mappings) = (bridge.to_owned(), mappings.to_vec());
        let job = move |state: &mut State| state.publish(&bridge, &mappings);
        self.worker.run_or_undo(job, undo_publish).await
    }

    /// After a restart: the rules of ports whose sockets a live shim still holds.
    ///
    /// # Errors
    /// [`Error::UnknownBridge`], or what the kernel refuses.
    pub async fn restore_published(&self, bridge: &str, mappings: &[PortMapping]) -> Result<()> {
        let (bridge, mappings) = (bridge.to_owned(), mappings.to_vec());
        self.worker
            .run(move |state| state.restore_published(&bridge, &mappings))
            .await
    }

    /// Takes the rules away again; the sockets are closed by whoever holds them. Ports that are not published,
    /// or by now to another target, are left alone.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn unpublish(&self, mappings: &[PortMapping]) -> Result<()> {
        let mappings = mappings.to_vec();
        self.worker
            .run(move |state| state.unpublish(&mappings))
            .await
    }

    /// Sockets bound at a free port of 127.0.0.11 inside `netns`, with port 53 of that address led to them.
    /// Called again for a namespace, it gives new sockets and leads the port to these.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn dns_sockets(
        &self,
        netns: BorrowedFd<'_>,
    ) -> Result<(std::net::UdpSocket, std::net::TcpListener)> {
        let netns = duplicate(netns)?;
        self.worker
            .run(move |state| dns_redirect::sockets(state.home.as_fd(), netns.as_fd()))
            .await
    }

    /// Counters of the interfaces in a namespace, `lo` left out.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn counters(&self, netns: BorrowedFd<'_>) -> Result<Vec<LinkCounters>> {
        let netns = duplicate(netns)?;
        self.worker
            .run(move |state| counters::read(state.home.as_fd(), netns.as_fd()))
            .await
    }
}

fn undo_attach(state: &mut State, bridge: &str, endpoint: Endpoint) {
    // With the background gone nobody is left to use the addresses; the link goes with its namespace.
    let _ = state.detach(bridge, endpoint);
}

fn undo_publish(state: &mut State, published: Vec<Published>) {
    let mappings: Vec<PortMapping> = published.iter().map(|one| one.mapping).collect();
    if let Err(error) = state.unpublish(&mappings) {
        tracing::warn!(%error, "could not undo the publishing of ports that nobody waits for any more");
    }
}

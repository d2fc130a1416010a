//! Load balancing of services in the kernel: one nftables table, changed element by element.
//!
//! ```text
//! prerouting   (dstnat - 5)   (address, protocol, port) → chain; then, for addresses of this machine,
//!                             (protocol, port) → chain
//! output       (dstnat - 5)   the same for this machine's own connections
//! postrouting  (srcnat - 10)  marked: masquerade; an endpoint that reached itself: masquerade; not from a pod, to a
//!                             service's own address: masquerade; from a pod to a pod: the source stays, whatever
//!                             later tables say
//! svc-N        an endpoint at random: (pool, place) → (address, port)
//! loc-N        the same among the endpoints of this machine
//! ext-N        what comes from outside the cluster: masquerade or local endpoints only, then on as above
//! from-N       who may come from outside at all
//! reject       nobody serves: reset or unreachable
//! ```
//!
//! A packet of a known connection passes none of this; the first one is looked up once whatever the number of
//! services. A change touches its own chains and elements, in one transaction: a packet meets the old state or
//! the new. The table outlives the process, and the next one replaces it as a whole, in one transaction too.

mod base;
mod claims;
mod placed;
mod program;
mod stale;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::worker::Worker;
use crate::{Protocol, Result, Subnet};
use placed::Placed;

/// An address and port that serves.
pub type Backend = (IpAddr, u16);

/// One port of a service, for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// Of all fronts and endpoints.
    pub protocol: Protocol,
    /// Whether all addresses are IPv6, or all IPv4.
    pub is_ipv6: bool,
    /// Where clients find it.
    pub fronts: Vec<Front>,
    /// Endpoints that a packet may be led to wherever it comes from.
    pub everywhere: Vec<Backend>,
    /// Endpoints on this machine, for who must not be led elsewhere.
    pub here: Vec<Backend>,
    /// Pods and programs of this machine are led to endpoints of this machine only.
    pub internal_local: bool,
    /// Who comes from outside is led to endpoints of this machine only, and its address stays as it is.
    pub external_local: bool,
    /// How long, in seconds, a client is led to the same endpoint.
    pub affinity_s: Option<u32>,
}

/// Where clients find a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// The address.
    pub at: FrontAddress,
    /// The port.
    pub port: u16,
    /// Only clients from these ranges, where there are any.
    pub sources: Vec<Subnet>,
}

/// Kinds of addresses of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontAddress {
    /// The service's own address within the cluster.
    Cluster(IpAddr),
    /// An address that the world knows.
    External(IpAddr),
    /// Every address of this machine.
    Node,
}

/// What all services share.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Name of the nftables table.
    pub table: String,
    /// Ranges of the pods of all nodes.
    pub pods: Vec<Subnet>,
    /// Pods see each other through services by the address of the machine, not their own. Where the kernel does not
    /// show packets between ports of a bridge (`br_netfilter`), it is so in any case.
    pub masquerade_all: bool,
}

/// The services of the calling thread's network namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    worker: Worker<Placed>,
}

/// Balancers by a name of the caller's, which `nft list` shows.
pub type Balancers = BTreeMap<String, Balancer>;

impl Services {
    /// Opens, without a change: what an earlier run left stays in force until [`Services::replace`].
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or on a kernel without nftables.
    pub async fn open(options: ServiceOptions) -> Result<Services> {
        let (worker, started) = Worker::start("wharf-services", move || Placed::open(options))?;
        started.ready().await?;
        Ok(Services { worker })
    }

    /// These and no others, in one transaction.
    ///
    /// # Errors
    /// What the kernel refuses; then everything is as it was.
    pub async fn replace(&self, balancers: Balancers) -> Result<()> {
        self.worker
            .run(move |placed| placed.replace(balancers))
            .await
    }

    /// Puts balancers in, or in place of those of the same name, or takes them out (`None`), in one transaction.
    /// UDP connections that were led to what is no endpoint any more are forgotten.
    ///
    /// # Errors
    /// What the kernel refuses; then everything is as it was.
    pub async fn change(&self, changes: Vec<(String, Option<Balancer>)>) -> Result<()> {
        self.worker.run(move |placed| placed.change(changes)).await
    }

    /// Removes the table. For who leaves the machine for good: a restart needs none of it.
    ///
    /// # Errors
    /// What the kernel refuses. That there is no table is no error.
    pub async fn remove(&self) -> Result<()> {
        self.worker.run(Placed::remove).await
    }

    /// Has a range of services' addresses lead to the loopback link, unless something leads there already: on a machine
    /// without a default route its own programs could not send to them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn keep_route(&self, range: Subnet) -> Result<()> {
        self.worker
            .run(move |placed| placed.keep_route(range))
            .await
    }

    /// Gives the loopback link an address of this host alone, which its programs can listen at and pods of its
    /// bridges can reach; one that is there stays.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn keep_address(&self, address: IpAddr) -> Result<()> {
        self.worker
            .run(move |placed| placed.keep_address(address))
            .await
    }
}

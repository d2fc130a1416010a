//! Services become rules of the kernel, and names: what makes an address that no machine has lead to pods.
//!
//! - [`endpoints`] decides which endpoints of a service a packet of this node may be led to; [`balance`] makes the
//!   balancers of `wharf_net` of a service and its endpoints. Both are pure.
//! - [`follow`] watches Services and EndpointSlices and has the kernel's table follow, batch by batch.
//! - [`health`] tells load balancers in front of the cluster whether this node has endpoints of a service.
//! - [`records`] answers the cluster's names out of the same caches; [`name_server`] serves them at the cluster DNS
//!   address, which every node has for its own pods; [`upstream`] knows whom to ask about other names.
//!
//! Must not know the API server's inside, nor who runs the pods.
#![forbid(unsafe_code)]

mod balance;
mod endpoints;
mod follow;
mod health;
mod name_server;
mod picture;
mod records;
mod upstream;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wharf_client::Api;
use wharf_net::{ServiceOptions, Services, Subnet};

use picture::Picture;

/// How a node's share of the cluster's network runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name, as in `spec.nodeName`.
    pub node_name: String,
    /// The node's addresses; endpoints without a node's name are this node's if they have one of these.
    pub node_addresses: Vec<IpAddr>,
    /// Ranges of all pods.
    pub cluster_cidrs: Vec<Subnet>,
    /// Ranges of the services' own addresses: the node's programs reach them without a default route, too.
    pub service_cidrs: Vec<Subnet>,
    /// Where pods ask for names; absent: no names are served. The service `kube-system/kube-dns` is made for it.
    pub cluster_dns: Option<IpAddr>,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// Domains that certain servers answer for, the longest that fits first. Those of the ConfigMap
    /// `kube-system/kube-dns` (key `stubDomains`) come on top.
    pub stub_domains: Vec<(String, Vec<SocketAddr>)>,
    /// Names the servers for all other names.
    pub resolv_conf: PathBuf,
    /// Pods see each other through services by the node's address.
    pub masquerade_all: bool,
    /// Name of the nftables table.
    pub table: String,
}

impl Options {
    /// The usual ones: pods in 10.42.0.0/16, services in 10.96.0.0/12, names at 10.96.0.10, `cluster.local`.
    pub fn new(node_name: &str) -> Options {
        Options {
            node_name: node_name.to_owned(),
            node_addresses: Vec::new(),
            cluster_cidrs: vec![Subnet::new(Ipv4Addr::new(10, 42, 0, 0).into(), 16)],
            service_cidrs: vec![Subnet::new(Ipv4Addr::new(10, 96, 0, 0).into(), 12)],
            cluster_dns: Some(Ipv4Addr::new(10, 96, 0, 10).into()),
            cluster_domain: "cluster.local".to_owned(),
            stub_domains: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            masquerade_all: false,
            table: "wharf-proxy".to_owned(),
        }
    }
}

/// Why it can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's table can't be opened.
    #[error("open the table of services in the kernel")]
    Open(#[source] wharf_net::Error),
}

/// Follows the cluster until `stop`, in the calling thread's network namespace. What is in the kernel stays when it
/// ends: connections go on, and the next run takes over without a gap.
///
/// # Errors
/// Without `CAP_NET_ADMIN`, or on a kernel without nftables. What fails later is logged and tried again.
pub async fn run(
    api: Arc<dyn Api>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    // Threads are started before anything is awaited: what is awaited may go on in another namespace.
    let services = Services::open(ServiceOptions {
        table: options.table.clone(),
        pods: options.cluster_cidrs.clone(),
        masquerade_all: options.masquerade_all,
    });
    let services = services.await.map_err(Error::Open)?;
    for range in &options.service_cidrs {
        if let Err(error) = services.keep_route(*range).await {
            let error = follow::chain(&error);
            tracing::warn!(%range, error, "programs of this node may not reach services");
        }
    }
    let picture = Arc::new(Picture::start(&api, &options.node_name));
    let names = async {
        if let Some(address) = options.cluster_dns {
            name_server::run(&api, &options, address, &services, &picture).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = names => {}
        () = follow::run(&options, &services, &picture) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

//! A cluster's parts, put together in one process: whoever follows a pod through the house begins here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_apiserver::Server;
use wharf_client::{Api, Informer, Query, Resource};
use wharf_cri::{Cri, Local, v1};

use crate::rooms::Rooms;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Parts that run until they end, by their names.
pub type Parts = JoinSet<(&'static str, Result<()>)>;

const NODES: Resource = Resource::new("", "v1", "nodes");
/// Where pods ask for names: the tenth address of the services' range.
const CLUSTER_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// What the parts are told.
pub struct House<'a> {
    /// The node's name.
    pub node: String,
    /// Folder of everything that lasts.
    pub data_root: &'a Path,
    /// Ends all parts.
    pub stop: CancellationToken,
}

/// Starts API server, controllers, scheduler, services and node; returns once the node is ready.
pub async fn start(house: &House<'_>, server: Server, cri: Local) -> Result<Parts> {
    let mut parts = Parts::new();
    let stop = || house.stop.clone();
    let address = own_address(server.address());
    let node_options = node_options(house, &server, address)?;
    let user = format!("system:node:{}", house.node);
    let of_node = server.local(&user, &["system:nodes"]);
    let admin = server.local("system:kube-controller-manager", &["system:masters"]);
    let of_scheduler = server.local("system:kube-scheduler", &["system:masters"]);
    let of_proxy = server.local("system:kube-proxy", &["system:masters"]);

    let stopped = stop();
    parts.spawn(async move {
        server.serve(stopped.cancelled_owned()).await;
        ("the API server", Ok(()))
    });
    let options = wharf_controllers::Options::default();
    let controllers = wharf_controllers::run(admin.clone(), options, stop());
    parts.spawn(async move {
        controllers.await;
        ("the controllers", Ok(()))
    });
    let scheduler = wharf_scheduler::run(of_scheduler, wharf_scheduler::Options::default(), stop());
    parts.spawn(async move {
        scheduler.await;
        ("the scheduler", Ok(()))
    });
    let mut options = wharf_proxy::Options::new(&house.node);
    options.node_addresses = vec![address];
    let proxy = wharf_proxy::run(of_proxy, options, stop());
    parts.spawn(async move { ("services", proxy.await.map_err(Into::into)) });
    let node = wharf_node::run(of_node, Arc::new(cri), node_options, stop());
    parts.spawn(async move { ("the node", node.await.map_err(Into::into)) });
    tokio::select! {
        () = ready(admin, &house.node) => Ok(parts),
        Some(ended) = parts.join_next() => match ended {
            Ok((part, Ok(()))) => Err(format!("{part} has ended").into()),
            Ok((part, Err(error))) => Err(format!("{part}: {}", chain(&*error)).into()),
            Err(panic) => Err(panic.into()),
        },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    line
}

fn node_options(
    house: &House<'_>,
    server: &Server,
    address: IpAddr,
) -> Result<wharf_node::Options> {
    let hosts = [house.node.clone(), address.to_string()];
    let mut options = wharf_node::Options::new(&house.node, house.data_root.join("node"));
    options.addresses = vec![address];
    options.logs = house.data_root.join("pod-logs");
    options.identity = server.node_certificate(&house.node, &hosts)?;
    options.client_authority = server.authority().to_owned();
    options.cluster_dns = Some(CLUSTER_DNS);
    Ok(options)
}

/// The node's address: where the API listens, if that is one address; else the one that leads to others.
fn own_address(listen: SocketAddr) -> IpAddr {
    if !listen.ip().is_unspecified() {
        return listen.ip();
    }
    let outward = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // Nothing is sent: the kernel only chooses a route, to an address that is nobody's.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    outward().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// Waits until a node says that it is ready.
async fn ready(api: Arc<dyn Api>, name: &str) {
    let changed = Arc::new(Notify::new());
    let query = Query {
        field_selector: format!("metadata.name={name}"),
        ..Query::all(NODES)
    };
    let informer: Informer<Node> = Informer::start(api, query, Vec::new());
    let notify = changed.clone();
    informer.listen(move |_| notify.notify_one());
    let is_ready = |node: &Arc<Node>| {
        let conditions = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let mut all = conditions.into_iter().flatten();
        all.any(|one| one.type_ == "Ready" && one.status == "True")
    };
    while !informer.cache().all().iter().any(is_ready) {
        changed.notified().await;
    }
}

/// Ends every pod there is; returns how many.
pub async fn end_pods(rooms: Rooms) -> Result<usize> {
    let cri = Local::open(rooms.pods, rooms.docker.engine).await?;
    let all = cri_call(Cri::list_pod_sandbox(&cri, v1::ListPodSandboxRequest::default()).await)?;
    for sandbox in &all.items {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.id.clone(),
        };
        cri_call(Cri::remove_pod_sandbox(&cri, request).await)?;
    }
    Ok(all.items.len())
}

fn cri_call<T>(answer: std::result::Result<T, tonic::Status>) -> Result<T> {
    answer.map_err(|status| status.message().to_owned().into())
}

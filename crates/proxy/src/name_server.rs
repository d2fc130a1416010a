//! The cluster DNS address is this node's own: pods ask the node that they run on.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use wharf_client::{Api, Event, Informer, Query, Resource, Target};
use wharf_dns::Server;
use wharf_net::Services;

use crate::Options;
use crate::follow::chain;
use crate::picture::Picture;
use crate::records::Names;
use crate::upstream::{Declared, Upstream};

const DNS: u16 = 53;
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// Between attempts to use the address, or to make the service.
const AGAIN: Duration = Duration::from_secs(2);

/// Serves until it is dropped.
pub(crate) async fn run(
    api: &Arc<dyn Api>,
    options: &Options,
    address: IpAddr,
    kernel: &Services,
    picture: &Arc<Picture>,
) {
    let upstream = Arc::new(Upstream::new(
        address,
        options.stub_domains.clone(),
        options.resolv_conf.clone(),
    ));
    let _settings = settings(api, &upstream);
    // Names that are there must not be denied because they have not been heard of yet.
    picture.synced().await;
    let names = Arc::new(Names {
        picture: picture.clone(),
        domain: options
            .cluster_domain
            .trim_end_matches('.')
            .to_ascii_lowercase(),
        own: address,
        pods: options.cluster_cidrs.clone(),
        upstream,
    });
    let serving = async {
        let _server = loop {
            match start(kernel, address, names.clone()).await {
                Ok(server) => break server,
                Err(error) => {
                    let error = chain(error.as_ref());
                    tracing::warn!(%address, error, "the cluster's names can't be served: is another program at port 53 of all addresses?");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        std::future::pending::<()>().await;
    };
    tokio::join!(serving, declare(api, address));
}

async fn start(
    kernel: &Services,
    address: IpAddr,
    names: Arc<Names>,
) -> Result<Server, Box<dyn std::error::Error + Send + Sync>> {
    kernel.keep_address(address).await?;
    let udp = UdpSocket::bind((address, DNS))?;
    let tcp = TcpListener::bind((address, DNS))?;
    Ok(Server::start_zones(udp, tcp, names)?)
}

/// Follows the ConfigMap with stub domains.
fn settings(api: &Arc<dyn Api>, upstream: &Arc<Upstream>) -> Informer<ConfigMap> {
    let query = Query {
        namespace: NAMESPACE.to_owned(),
        field_selector: format!("metadata.name={NAME}"),
        ..Query::all(Resource::new("", "v1", "configmaps"))
    };
    let informer = Informer::start(api.clone(), query, Vec::new());
    let upstream = upstream.clone();
    informer.listen(move |event| {
        upstream.declare(match event {
            Event::Applied { new, .. } => Declared::of(new),
            Event::Deleted(_) => Declared::default(),
        });
    });
    informer
}

/// Makes the service by which clients find the address, if nobody has.
async fn declare(api: &Arc<dyn Api>, address: IpAddr) {
    let target = Target::new(Resource::new("", "v1", "services"), NAMESPACE, NAME);
    loop {
        let error = match api.get(target.clone()).await {
            Ok(_) => return,
            Err(error) if error.is_not_found() => {
                let mut place = target.clone();
                place.name = String::new();
                match api.create(place, service(address)).await {
                    Ok(_) => return,
                    // Another node was quicker.
                    Err(error) if error.is_conflict() => continue,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tracing::warn!(
            error = chain(&error),
            "the service kube-system/kube-dns can't be made for now"
        );
        tokio::time::sleep(AGAIN).await;
    }
}

fn service(address: IpAddr) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": DNS, "targetPort": DNS, "protocol": protocol});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": address.to_string(),
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    })
}

//! The node's copy of the cluster's services and endpoints, shared by rules and names.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use wharf_client::{Api, Cache, Index, Informer, Key, Object, Query, Resource};

/// Slices by `namespace/service`; services by address.
const BY_SERVICE: &str = "service";
const BY_ADDRESS: &str = "address";

/// Which service a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What is followed.
pub(crate) struct Picture {
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) node: Informer<Node>,
    pub(crate) namespaces: Informer<Namespace>,
}

/// The service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let meta = slice.meta();
    let name = meta.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        name,
    ))
}

/// The addresses of a service itself.
pub(crate) fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let mut texts: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
    texts.extend(spec.cluster_ip.as_ref().filter(|_| texts.is_empty()));
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Whether a service has no address of its own, and its name those of its endpoints.
pub(crate) fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
}

impl Picture {
    /// Begins to follow. Wants a tokio runtime.
    pub(crate) fn start(api: &Arc<dyn Api>, node_name: &str) -> Picture {
        let by_address: Index<Service> = Box::new(|service| {
            let addresses = cluster_addresses(service);
            addresses.iter().map(IpAddr::to_string).collect()
        });
        let by_service: Index<EndpointSlice> =
            Box::new(|slice| service_of(slice).iter().map(Key::to_string).collect());
        let by_endpoint: Index<EndpointSlice> = Box::new(|slice| {
            let addresses = slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|one| &one.addresses);
            let parsed = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
            parsed.map(|address| address.to_string()).collect()
        });
        let all = |group, version, plural| Query::all(Resource::new(group, version, plural));
        let mut node = all("", "v1", "nodes");
        node.field_selector = format!("metadata.name={node_name}");
        Picture {
            services: Informer::start(
                api.clone(),
                all("", "v1", "services"),
                vec![(BY_ADDRESS, by_address)],
            ),
            slices: Informer::start(
                api.clone(),
                all("discovery.k8s.io", "v1", "endpointslices"),
                vec![(BY_SERVICE, by_service), (BY_ADDRESS, by_endpoint)],
            ),
            node: Informer::start(api.clone(), node, Vec::new()),
            namespaces: Informer::start(api.clone(), all("", "v1", "namespaces"), Vec::new()),
        }
    }

    /// Waits until everything is there that was there at the beginning.
    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.node.synced().await;
        self.namespaces.synced().await;
    }

    /// A service's endpoints.
    pub(crate) fn slices_of(&self, key: &Key) -> Vec<Arc<EndpointSlice>> {
        self.slices.cache().by(BY_SERVICE, &key.to_string())
    }

    /// The services that have this address.
    pub(crate) fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>> {
        self.services.cache().by(BY_ADDRESS, &address.to_string())
    }

    /// The slices with an endpoint of this address.
    pub(crate) fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>> {
        self.slices.cache().by(BY_ADDRESS, &address.to_string())
    }

    /// The zone of the node, if it has one.
    pub(crate) fn zone(&self) -> Option<String> {
        let nodes: Arc<Cache<Node>> = self.node.cache();
        let node = nodes.all().into_iter().next()?;
        let labels = node.metadata.labels.as_ref()?;
        labels.get("topology.kubernetes.io/zone").cloned()
    }
}

//! From a service and its endpoints to what the kernel is to do. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use wharf_client::{Key, Object};
use wharf_net::{Balancer, Balancers, Front, FrontAddress, Protocol, Subnet};

use crate::endpoints::{self, Choice, Place, protocol_text};
use crate::picture::cluster_addresses;

/// Services with this label are served by another program of that name.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Three hours: how long `ClientIP` lasts unless the service says otherwise.
const AFFINITY_S: i32 = 10_800;

/// Balancers of a service, by names that begin with its own. None for what has no address: headless ones, names of
/// elsewhere, and what is served at `own`, an address of this node.
pub(crate) fn balancers(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    place: &Place,
    own: Option<IpAddr>,
) -> Balancers {
    let mut found = Balancers::new();
    let (Some(spec), addresses) = (&service.spec, cluster_addresses(service)) else {
        return found;
    };
    let labels = service.metadata.labels.as_ref();
    let is_others = labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY_LABEL));
    if is_others || addresses.iter().any(|address| Some(*address) == own) {
        return found;
    }
    for is_ipv6 in [false, true] {
        let cluster: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|a| a.is_ipv6() == is_ipv6)
            .collect();
        if cluster.is_empty() {
            continue;
        }
        for port in spec.ports.iter().flatten() {
            let Some(protocol) = protocol(port) else {
                continue;
            };
            let choice = endpoints::choose(port, slices, is_ipv6, place);
            let name = port_name(&service.key(), port, protocol, is_ipv6);
            let fronts = fronts(service, spec, port, &cluster, is_ipv6);
            found.insert(name, balancer(spec, protocol, is_ipv6, fronts, choice));
        }
    }
    found
}

/// How many ready endpoints of a service this node has: what a load balancer asks for.
pub(crate) fn endpoints_here(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    place: &Place,
) -> usize {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let backends = ports.flat_map(|port| {
        let v4 = endpoints::choose(port, slices, false, place).here;
        v4.into_iter()
            .chain(endpoints::choose(port, slices, true, place).here)
    });
    let addresses: std::collections::BTreeSet<IpAddr> =
        backends.map(|(address, _)| address).collect();
    addresses.len()
}

/// The port that asks for the health of a node's share of a service, where it has one.
pub(crate) fn health_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let is_asked = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port
        .filter(|_| is_asked)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

fn port_name(key: &Key, port: &ServicePort, protocol: Protocol, is_ipv6: bool) -> String {
    let name = port.name.as_deref().unwrap_or_default();
    let family = if is_ipv6 { " ipv6" } else { "" };
    format!("{key}:{name} {}/{protocol}{family}", port.port)
}

fn protocol(port: &ServicePort) -> Option<Protocol> {
    match protocol_text(port.protocol.as_ref()) {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn balancer(
    spec: &ServiceSpec,
    protocol: Protocol,
    is_ipv6: bool,
    fronts: Vec<Front>,
    choice: Choice,
) -> Balancer {
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let internal_local = is_local(&spec.internal_traffic_policy);
    let external_local = is_local(&spec.external_traffic_policy);
    let here = match internal_local || external_local {
        true => choice.here,
        false => Vec::new(),
    };
    Balancer {
        protocol,
        is_ipv6,
        fronts,
        everywhere: choice.everywhere,
        here,
        internal_local,
        external_local,
        affinity_s: affinity_s(spec),
    }
}

fn affinity_s(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let client = config.and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds);
    u32::try_from(seconds.unwrap_or(AFFINITY_S))
        .ok()
        .filter(|seconds| *seconds > 0)
}

fn fronts(
    service: &Service,
    spec: &ServiceSpec,
    port: &ServicePort,
    cluster: &[IpAddr],
    is_ipv6: bool,
) -> Vec<Front> {
    let mut fronts = Vec::new();
    let mut add = |at: FrontAddress, number: i32, sources: Vec<Subnet>| {
        if let Some(port) = u16::try_from(number).ok().filter(|port| *port != 0) {
            fronts.push(Front { at, port, sources });
        }
    };
    for address in cluster {
        add(FrontAddress::Cluster(*address), port.port, Vec::new());
    }
    let of_family = |text: &String| {
        let address = text.parse::<IpAddr>().ok();
        address.filter(|address| address.is_ipv6() == is_ipv6)
    };
    for address in spec.external_ips.iter().flatten().filter_map(of_family) {
        add(FrontAddress::External(address), port.port, Vec::new());
    }
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if matches!(kind, "NodePort" | "LoadBalancer") {
        add(FrontAddress::Node, port.node_port.unwrap_or(0), Vec::new());
    }
    if kind == "LoadBalancer" {
        let sources = source_ranges(service, spec, is_ipv6);
        let balancer = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        for ingress in balancer
            .iter()
            .flat_map(|balancer| balancer.ingress.iter().flatten())
        {
            // A balancer that is a proxy itself is to be asked, not passed by.
            let is_proxy = ingress.ip_mode.as_deref() == Some("Proxy");
            if let Some(address) = ingress
                .ip
                .as_ref()
                .filter(|_| !is_proxy)
                .and_then(of_family)
            {
                add(FrontAddress::External(address), port.port, sources.clone());
            }
        }
    }
    fronts
}

/// Who may come by the load balancer. Ranges of one family only close the other family's addresses to nobody.
fn source_ranges(service: &Service, spec: &ServiceSpec, is_ipv6: bool) -> Vec<Subnet> {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let mut texts: Vec<String> = spec.load_balancer_source_ranges.clone().unwrap_or_default();
    if texts.is_empty() {
        let annotations = service.metadata.annotations.as_ref();
        let list = annotations.and_then(|annotations| annotations.get(ANNOTATION));
        texts.extend(
            list.iter()
                .flat_map(|list| list.split(','))
                .map(str::to_owned),
        );
    }
    let parsed = texts
        .iter()
        .filter_map(|text| text.trim().parse::<Subnet>().ok());
    parsed
        .filter(|range| range.address.is_ipv6() == is_ipv6)
        .collect()
}

//! From pods to endpoints: who serves, at which addresses and ports.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wharf_client::{Cache, Key};

use super::plan::Group;
use crate::pod_state;

const ZONE: &str = "topology.kubernetes.io/zone";
/// The old way to say `publishNotReadyAddresses`.
const TOLERATE_UNREADY: &str = "service.alpha.kubernetes.io/tolerate-unready-endpoints";

/// What a Service's slices should hold.
pub(crate) fn groups(service: &Service, pods: &[Arc<Pod>], nodes: &Cache<Node>) -> Vec<Group> {
    let mut groups = Vec::new();
    for family in families(service, pods) {
        let first = groups.len();
        for pod in pods {
            let Some(address) = address(pod, &family).filter(|_| !pod_state::is_terminal(pod))
            else {
                continue;
            };
            let ports = ports(service, pod);
            let endpoint = endpoint(service, pod, address, nodes);
            let same = |group: &&mut Group| group.ports == ports;
            match groups[first..].iter_mut().find(same) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family.clone(),
                    ports,
                    endpoints: vec![endpoint],
                }),
            }
        }
        if groups.len() == first {
            groups.push(Group {
                address_type: family,
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
    }
    groups
}

/// The address families of a Service; of its pods where it does not say.
pub(crate) fn families(service: &Service, pods: &[Arc<Pod>]) -> Vec<String> {
    let spec = service.spec.as_ref();
    let told = spec
        .and_then(|spec| spec.ip_families.clone())
        .unwrap_or_default();
    if !told.is_empty() {
        return told;
    }
    let of_pods = pods.iter().any(|pod| address(pod, "IPv6").is_some())
        && !pods.iter().any(|pod| address(pod, "IPv4").is_some());
    vec![if of_pods { "IPv6" } else { "IPv4" }.to_owned()]
}

/// Whether a pod's state does not matter.
pub(crate) fn publishes_unready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let annotations = service.metadata.annotations.as_ref();
    spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
        || annotations
            .and_then(|all| all.get(TOLERATE_UNREADY))
            .is_some_and(|v| v == "true")
}

/// The address of a pod in a family.
pub(crate) fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let many = status.pod_ips.iter().flatten().map(|one| &one.ip);
    let mut all = many.chain(status.pod_ip.iter());
    let fits = |text: &&String| match text.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    all.find(fits).cloned()
}

fn endpoint(service: &Service, pod: &Pod, address: String, nodes: &Cache<Node>) -> Endpoint {
    let serving = pod_state::is_ready(pod);
    let terminating = pod_state::is_deleted(pod);
    let ready = publishes_unready(service) || (serving && !terminating);
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node_name
        .as_ref()
        .and_then(|name| nodes.get(&Key::new("", name)));
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name,
        target_ref: Some(target(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// The name of its own that a pod has under the Service.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain == service.metadata.name).then(|| hostname.clone())
}

/// The pod, as endpoints refer to it.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The ports of a Service as this pod has them; one that it does not have is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.as_ref();
    let all = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let one = |port: &ServicePort| {
        Some(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number(port, pod)?),
            protocol: Some(protocol(port).to_owned()),
        })
    };
    all.iter().filter_map(one).collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|found| {
        found.name.as_ref() == Some(name)
            && found.protocol.as_deref().unwrap_or("TCP") == protocol(port)
    });
    named.map(|found| found.container_port)
}

//! Which endpoints of a service port packets of this node may be led to. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use wharf_net::Backend;

/// The node as seen from its network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) node_name: String,
    pub(crate) zone: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Where packets may go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// From anywhere.
    pub(crate) everywhere: Vec<Backend>,
    /// If they must not leave the node.
    pub(crate) here: Vec<Backend>,
}

/// An endpoint as far as it matters.
#[derive(Debug, Clone, Default)]
struct Candidate {
    is_ready: bool,
    is_serving: bool,
    is_terminating: bool,
    is_here: bool,
    /// Nodes and zones that should use it; empty where nothing is said.
    for_nodes: Vec<String>,
    for_zones: Vec<String>,
}

/// The transport as endpoint slices and services write it.
pub(crate) fn protocol_text(protocol: Option<&String>) -> &str {
    protocol.map_or("TCP", String::as_str)
}

/// Endpoints of one port of a service, of one family.
pub(crate) fn choose(
    port: &ServicePort,
    slices: &[Arc<EndpointSlice>],
    is_ipv6: bool,
    place: &Place,
) -> Choice {
    let candidates = candidates(port, slices, is_ipv6, place);
    let ready = |one: &Candidate| one.is_ready;
    // Better than nobody: who is about to end, and still answers.
    let last_resort = |one: &Candidate| one.is_serving && one.is_terminating;
    let pick = |is_fit: &dyn Fn(&Candidate) -> bool| -> Vec<Backend> {
        let fit = candidates.iter().filter(|(_, one)| is_fit(one));
        fit.map(|(backend, _)| *backend).collect()
    };
    let mut everywhere = match near(&candidates, place) {
        Some(near) => near,
        None => pick(&ready),
    };
    if everywhere.is_empty() {
        everywhere = pick(&last_resort);
    }
    let mut here = pick(&|one| one.is_here && ready(one));
    if here.is_empty() {
        here = pick(&|one| one.is_here && last_resort(one));
    }
    Choice { everywhere, here }
}

/// The ready endpoints meant for this node, or else for its zone, if hints say so for all of them and leave some.
fn near(candidates: &BTreeMap<Backend, Candidate>, place: &Place) -> Option<Vec<Backend>> {
    let ready: Vec<_> = candidates.iter().filter(|(_, one)| one.is_ready).collect();
    let all = |says: &dyn Fn(&Candidate) -> bool| ready.iter().all(|(_, one)| says(one));
    let those = |fits: &dyn Fn(&Candidate) -> bool| -> Option<Vec<Backend>> {
        let fit = ready.iter().filter(|(_, one)| fits(one));
        let fit: Vec<Backend> = fit.map(|(backend, _)| **backend).collect();
        (!fit.is_empty()).then_some(fit)
    };
    let mut found = None;
    if all(&|one| !one.for_nodes.is_empty()) {
        found = those(&|one| one.for_nodes.contains(&place.node_name));
    }
    let zone = place.zone.as_ref()?;
    if found.is_none() && all(&|one| !one.for_zones.is_empty()) {
        found = those(&|one| one.for_zones.contains(zone));
    }
    found
}

fn candidates(
    port: &ServicePort,
    slices: &[Arc<EndpointSlice>],
    is_ipv6: bool,
    place: &Place,
) -> BTreeMap<Backend, Candidate> {
    let mut found: BTreeMap<Backend, Candidate> = BTreeMap::new();
    let family = if is_ipv6 { "IPv6" } else { "IPv4" };
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let Some(number) = port_number(port, slice) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            // All addresses of an endpoint are the same pod; the first stands for it.
            let first = endpoint.addresses.first();
            let Some(address) = first.and_then(|text| text.parse::<IpAddr>().ok()) else {
                continue;
            };
            if address.is_ipv6() != is_ipv6 {
                continue;
            }
            let new = candidate(endpoint, address, place);
            // While it moves from slice to slice it may be in two.
            let known = found
                .entry((address, number))
                .or_insert_with(|| new.clone());
            if new.is_ready && !known.is_ready {
                *known = new;
            }
        }
    }
    found
}

/// The port of a slice that a service's port leads to: that of the same name and transport.
fn port_number(port: &ServicePort, slice: &EndpointSlice) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = protocol_text(port.protocol.as_ref());
    let found = slice.ports.iter().flatten().find(|one| {
        one.name.as_deref().unwrap_or_default() == name
            && protocol_text(one.protocol.as_ref()) == protocol
    })?;
    found
        .port
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number != 0)
}

fn candidate(endpoint: &Endpoint, address: IpAddr, place: &Place) -> Candidate {
    let conditions = endpoint.conditions.as_ref();
    let is_ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let is_here = match &endpoint.node_name {
        Some(name) => *name == place.node_name,
        None => place.addresses.contains(&address),
    };
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    let zones = hints.and_then(|hints| hints.for_zones.as_ref());
    Candidate {
        is_ready,
        is_serving: conditions.and_then(|c| c.serving).unwrap_or(is_ready),
        is_terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        is_here,
        for_nodes: nodes
            .into_iter()
            .flatten()
            .map(|one| one.name.clone())
            .collect(),
        for_zones: zones
            .into_iter()
            .flatten()
            .map(|one| one.name.clone())
            .collect(),
    }
}

//! The cluster's names, answered out of the caches (Kubernetes DNS-Based Service Discovery 1.1.0).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use wharf_client::{Key, Object};
use wharf_dns::{Authority, Data, Entry, Found, Kind, Zones};
use wharf_net::Subnet;

use crate::endpoints::protocol_text;
use crate::picture::{Picture, cluster_addresses, is_headless, service_of};
use crate::upstream::Upstream;

/// How long others may remember an answer, in seconds: endpoints come and go.
const TTL_S: u32 = 5;
/// The specification that is served.
const VERSION: &str = "1.1.0";

/// The cluster's zone, and the addresses of its services and pods.
pub(crate) struct Names {
    pub(crate) picture: Arc<Picture>,
    /// Lower case, no trailing dot.
    pub(crate) domain: String,
    /// Where names are served.
    pub(crate) own: IpAddr,
    /// Ranges whose names nobody else knows.
    pub(crate) pods: Vec<Subnet>,
    pub(crate) upstream: Arc<Upstream>,
}

/// An endpoint as names see it.
struct Host {
    /// The host name that its pod asked for, or its address with dashes.
    label: String,
    address: IpAddr,
}

impl Zones for Names {
    fn find(&self, name: &str, kind: Kind) -> Found {
        if name.ends_with(".arpa") {
            return match wharf_dns::reverse_address(name) {
                Some(address) => self.reverse(address, kind),
                None => Found::Elsewhere,
            };
        }
        if name == self.domain {
            return match kind {
                Kind::Ns => found(vec![Data::NameServer(format!("ns.dns.{name}"))]),
                _ => self.nothing(true),
            };
        }
        let inside = name.strip_suffix(self.domain.as_str());
        let Some(inside) = inside.and_then(|inside| inside.strip_suffix('.')) else {
            return Found::Elsewhere;
        };
        let labels: Vec<&str> = inside.split('.').collect();
        match labels.as_slice() {
            ["dns-version"] => self.of_kind(vec![Data::Text(VERSION.to_owned())], kind),
            ["ns", "dns"] => self.of_kind(vec![Data::Address(self.own)], kind),
            ["svc" | "pod" | "dns"] => self.nothing(true),
            [namespace, "svc" | "pod"] => self.nothing(self.has_namespace(namespace)),
            [address, namespace, "pod"] => self.pod(address, namespace, kind),
            [name, namespace, "svc"] => self.service(&Key::new(namespace, name), kind),
            [one, name, namespace, "svc"] => self.below(one, &Key::new(namespace, name), kind),
            [port, protocol, name, namespace, "svc"] => {
                self.port(port, protocol, &Key::new(namespace, name), kind)
            }
            _ => self.nothing(false),
        }
    }

    fn upstreams(&self, name: &str) -> Vec<SocketAddr> {
        self.upstream.of(name)
    }
}

fn entry(name: Option<String>, data: Data) -> Entry {
    Entry {
        name,
        ttl_s: TTL_S,
        data,
        is_authoritative: true,
    }
}

fn found(data: Vec<Data>) -> Found {
    Found::Entries {
        answers: data.into_iter().map(|data| entry(None, data)).collect(),
        additional: Vec::new(),
    }
}

fn is_of(data: &Data, kind: Kind) -> bool {
    match data {
        _ if kind == Kind::Any => true,
        // Whatever is asked of an alias is to be asked of what it stands for.
        Data::Alias(_) => true,
        Data::Address(address) if address.is_ipv4() => kind == Kind::A,
        Data::Address(_) => kind == Kind::Aaaa,
        Data::Text(_) => kind == Kind::Txt,
        Data::Pointer(_) => kind == Kind::Ptr,
        Data::NameServer(_) => kind == Kind::Ns,
        Data::Service { .. } => kind == Kind::Srv,
    }
}

/// An address as a label: `10-42-0-5`.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace([':', '.'], "-")
}

/// And back.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6);
    v4.or_else(|_| v6()).ok()
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn label(endpoint: &Endpoint, address: IpAddr) -> String {
    let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
    hostname.unwrap_or_else(|| dashed(address))
}

/// The endpoints of a headless service that its name stands for.
fn hosts(service: &Service, slices: &[Arc<EndpointSlice>]) -> Vec<Host> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let mut seen = BTreeSet::new();
    let mut hosts = Vec::new();
    for endpoint in slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
    {
        if !all && !is_ready(endpoint) {
            continue;
        }
        for address in endpoint
            .addresses
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
        {
            let label = label(endpoint, address);
            if seen.insert((label.clone(), address)) {
                hosts.push(Host { label, address });
            }
        }
    }
    hosts
}

impl Names {
    fn nothing(&self, exists: bool) -> Found {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let authority = Authority {
            zone: self.domain.clone(),
            serial: since.map_or(1, |since| since.as_secs() as u32),
            negative_ttl_s: TTL_S,
        };
        Found::Nothing {
            exists,
            authority: Some(authority),
        }
    }

    /// Those of what a name has that were asked for.
    fn of_kind(&self, mut data: Vec<Data>, kind: Kind) -> Found {
        data.retain(|data| is_of(data, kind));
        match data.is_empty() {
            true => self.nothing(true),
            false => found(data),
        }
    }

    fn has_namespace(&self, name: &str) -> bool {
        let namespaces = self.picture.namespaces.cache();
        namespaces.get(&Key::new("", name)).is_some()
    }

    fn host_name(&self, key: &Key) -> String {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.domain)
    }

    fn pod(&self, label: &str, namespace: &str, kind: Kind) -> Found {
        match undashed(label).filter(|_| self.has_namespace(namespace)) {
            Some(address) => self.of_kind(vec![Data::Address(address)], kind),
            None => self.nothing(false),
        }
    }

    fn service(&self, key: &Key, kind: Kind) -> Found {
        let Some(service) = self.picture.services.cache().get(key) else {
            return self.nothing(false);
        };
        if let Some(elsewhere) = external_name(&service) {
            return found(vec![Data::Alias(elsewhere)]);
        }
        if kind == Kind::Srv {
            return self.ports(&service, |_| true);
        }
        let addresses = match is_headless(&service) {
            true => {
                let hosts = hosts(&service, &self.picture.slices_of(key));
                let addresses: BTreeSet<IpAddr> = hosts.iter().map(|host| host.address).collect();
                addresses.into_iter().collect()
            }
            false => cluster_addresses(&service),
        };
        self.of_kind(addresses.into_iter().map(Data::Address).collect(), kind)
    }

    /// A host of a headless service, or what is above the names of its ports.
    fn below(&self, label: &str, key: &Key, kind: Kind) -> Found {
        let Some(service) = self.picture.services.cache().get(key) else {
            return self.nothing(false);
        };
        if let Some(protocol) = label.strip_prefix('_') {
            let ports = service
                .spec
                .iter()
                .flat_map(|spec| spec.ports.iter().flatten());
            let has = |port: &ServicePort| has_protocol(port, protocol);
            return self.nothing(ports.into_iter().any(has));
        }
        let slices = self.picture.slices_of(key);
        let all = hosts(&service, &slices);
        let mut addresses: Vec<Data> = Vec::new();
        for host in all {
            if host.label == label || dashed(host.address) == label {
                addresses.push(Data::Address(host.address));
            }
        }
        match addresses.is_empty() {
            true => self.nothing(false),
            false => self.of_kind(addresses, kind),
        }
    }

    fn port(&self, port: &str, protocol: &str, key: &Key, kind: Kind) -> Found {
        let names = (port.strip_prefix('_'), protocol.strip_prefix('_'));
        let (Some(name), Some(protocol)) = names else {
            return self.nothing(false);
        };
        let Some(service) = self.picture.services.cache().get(key) else {
            return self.nothing(false);
        };
        let is_meant =
            |one: &ServicePort| one.name.as_deref() == Some(name) && has_protocol(one, protocol);
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        match (ports.into_iter().any(is_meant), kind) {
            (false, _) => self.nothing(false),
            (true, Kind::Srv | Kind::Any) => self.ports(&service, is_meant),
            (true, _) => self.nothing(true),
        }
    }

    /// SRV records of some ports of a service, with the addresses of their targets.
    fn ports(&self, service: &Service, is_meant: impl Fn(&ServicePort) -> bool) -> Found {
        let key = service.key();
        let name = self.host_name(&key);
        let ports: Vec<&ServicePort> = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
            .filter(|port| is_meant(port))
            .collect();
        let mut targets: Vec<(String, IpAddr)> = Vec::new();
        let mut data: Vec<Data> = Vec::new();
        if is_headless(service) {
            let slices = self.picture.slices_of(&key);
            for host in hosts(service, &slices) {
                targets.push((format!("{}.{name}", host.label), host.address));
            }
            let names: BTreeSet<String> = targets.iter().map(|(name, _)| name.clone()).collect();
            let weight = (100 / names.len().max(1)).max(1) as u16;
            for port in ports {
                for number in target_ports(port, &slices) {
                    let one = |target: &String| srv(number, weight, target.clone());
                    data.extend(names.iter().map(one));
                }
            }
        } else {
            targets.extend(
                cluster_addresses(service)
                    .into_iter()
                    .map(|a| (name.clone(), a)),
            );
            let numbers = ports
                .iter()
                .filter_map(|port| u16::try_from(port.port).ok());
            data.extend(numbers.map(|number| srv(number, 100, name.clone())));
        }
        if data.is_empty() {
            return self.nothing(true);
        }
        let additional = targets
            .into_iter()
            .map(|(name, address)| entry(Some(name), Data::Address(address)))
            .collect();
        Found::Entries {
            answers: data.into_iter().map(|data| entry(None, data)).collect(),
            additional,
        }
    }

    /// The names of an address: a service's own, or those of an endpoint of headless services.
    fn reverse(&self, address: IpAddr, kind: Kind) -> Found {
        let mut names: BTreeSet<String> = BTreeSet::new();
        for service in self.picture.services_at(address) {
            names.insert(self.host_name(&service.key()));
        }
        for slice in self.picture.slices_at(address) {
            let Some(key) = service_of(&slice) else {
                continue;
            };
            let service = self.picture.services.cache().get(&key);
            let Some(service) = service.filter(|service| is_headless(service)) else {
                continue;
            };
            for host in hosts(&service, &[slice]) {
                if host.address == address {
                    names.insert(format!("{}.{}", host.label, self.host_name(&key)));
                }
            }
        }
        if !names.is_empty() {
            return self.of_kind(names.into_iter().map(Data::Pointer).collect(), kind);
        }
        match self.pods.iter().any(|range| range.contains(address)) {
            // Nobody else knows either; asking would tell the world of the cluster's inside.
            true => Found::Nothing {
                exists: false,
                authority: None,
            },
            false => Found::Elsewhere,
        }
    }
}

fn srv(port: u16, weight: u16, target: String) -> Data {
    Data::Service {
        priority: 0,
        weight,
        port,
        target,
    }
}

fn external_name(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let name = spec.external_name.as_ref()?;
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    is_external.then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

fn has_protocol(port: &ServicePort, protocol: &str) -> bool {
    protocol_text(port.protocol.as_ref()).eq_ignore_ascii_case(protocol)
}

/// The endpoints' numbers of a port: without an address of the service's own nothing translates.
fn target_ports(port: &ServicePort, slices: &[Arc<EndpointSlice>]) -> BTreeSet<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = protocol_text(port.protocol.as_ref());
    let ports = slices.iter().flat_map(|slice| slice.ports.iter().flatten());
    ports
        .filter(|one| one.name.as_deref().unwrap_or_default() == name)
        .filter(|one| protocol_text(one.protocol.as_ref()) == protocol)
        .filter_map(|one| u16::try_from(one.port?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_labels_and_back() {
        for text in ["10.42.0.5", "fd00:42::5", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(undashed(&dashed(address)), Some(address));
        }
        for label in ["10-42-0", "10-42-0-256", "web", "", "-", "1-2-3-4-5"] {
            assert_eq!(undashed(label), None, "{label}");
        }
    }
}

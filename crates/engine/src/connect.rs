//! A container's place in the network: namespace, endpoints, published ports, names; made at the start, taken away at
//! the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use wharf_net::{EndpointRequest, PortMapping, Protocol};
use wharf_shim::client::PortSocket;

use crate::hosts::{self, HostLine};
use crate::index::{Entry, lock};
use crate::network::NetworkRecord;
use crate::record::Record;
use crate::resolve_names::Names;
use crate::spec::{EndpointSpec, PortBinding};
use crate::start::Connected;
use crate::{ContainerSpec, Engine, Error, Kind, Result, names};

impl Engine {
    /// Makes the namespace with its endpoints and publishes the ports.
    pub(crate) async fn connect(&self, entry: &Arc<Entry>) -> Result<Connected> {
        let spec = entry.record().spec.clone();
        let joins = spec.network_mode == "host" || spec.network_mode.starts_with("container:");
        if joins || spec.pod.is_some() {
            return Ok(Connected::default());
        }
        let bridges = self.bridges_of(entry)?;
        if bridges.is_empty() || spec.network_disabled {
            return Ok(Connected {
                namespace: Some(self.inner.net.new_namespace().await?),
                ports: Vec::new(),
            });
        }
        let mut namespace: Option<OwnedFd> = None;
        for (number, (network, bridge)) in bridges.iter().enumerate() {
            let asked = entry
                .record()
                .networks
                .get(&network.spec.name)
                .map(|a| a.spec.clone())
                .unwrap_or_default();
            let request = endpoint_request(&spec, &asked, number)?;
            let endpoint = match &namespace {
                None => {
                    let (made, endpoint) = self
                        .inner
                        .net
                        .new_namespace_attached(bridge, &request)
                        .await?;
                    namespace = Some(made);
                    endpoint
                }
                Some(namespace) => {
                    self.inner
                        .net
                        .attach(bridge, namespace.as_fd(), &request)
                        .await?
                }
            };
            self.note_endpoint(entry, network, endpoint)?;
        }
        if let Some(namespace) = &namespace
            && bridges.iter().any(|(network, _)| network.has_dns())
        {
            self.serve_names(entry, namespace).await?;
        }
        let ports = self.publish_ports(entry, &bridges[0].1, &spec).await?;
        for (network, _) in &bridges {
            self.network_event("connect", network, Some(&entry.id));
        }
        Ok(Connected { namespace, ports })
    }

    /// The container's networks that have a bridge, the one of the default route first.
    pub(crate) fn bridges_of(&self, entry: &Entry) -> Result<Vec<(NetworkRecord, String)>> {
        let (names, mode): (Vec<_>, _) = {
            let record = entry.record();
            let priorities = record
                .networks
                .iter()
                .map(|(name, a)| (a.spec.gw_priority, name.clone()))
                .collect();
            (priorities, record.spec.network_mode.clone())
        };
        let mut list = Vec::new();
        for (priority, name) in names {
            let network = self.inner.networks.find(&name)?;
            if let Some(bridge) = network.bridge.as_ref().map(|bridge| bridge.bridge.clone()) {
                let is_mode = network.spec.name == mode
                    || network.id == mode
                    || (mode == "default" && name == "bridge");
                list.push((
                    std::cmp::Reverse(priority),
                    !is_mode,
                    name,
                    (network, bridge),
                ));
            }
        }
        list.sort_by(|a, b| (&a.0, a.1, &a.2).cmp(&(&b.0, b.1, &b.2)));
        Ok(list.into_iter().map(|(.., found)| found).collect())
    }

    /// Puts an endpoint into the record: what is noted is taken away at the end, whatever happens in between.
    pub(crate) fn note_endpoint(
        &self,
        entry: &Entry,
        network: &NetworkRecord,
        endpoint: wharf_net::Endpoint,
    ) -> Result<()> {
        let endpoint_id = names::new_id()?;
        let mut record = entry.record();
        let mut dns_names = vec![record.name.clone(), record.id[..12].to_owned()];
        dns_names.extend(record.spec.hostname.clone().filter(|name| !name.is_empty()));
        if let Some(attachment) = record.networks.get_mut(&network.spec.name) {
            dns_names.extend(attachment.spec.aliases.iter().cloned());
            dns_names.sort();
            dns_names.dedup();
            attachment.dns_names = dns_names;
            attachment.network_id.clone_from(&network.id);
            attachment.endpoint_id = endpoint_id;
            attachment.endpoint = Some(endpoint);
        }
        record.save(&self.folder(&entry.id), false)
    }

    /// Starts the embedded name server of a container's namespace.
    pub(crate) async fn serve_names(&self, entry: &Entry, namespace: &OwnedFd) -> Result<()> {
        let (udp, tcp) = self.inner.net.dns_sockets(namespace.as_fd()).await?;
        let names = Names {
            engine: Arc::downgrade(&self.inner),
            container: entry.id.clone(),
        };
        let upstreams = hosts::upstreams(&entry.record().spec.dns, &self.inner.config.dns);
        let server = wharf_dns::Server::start(udp, tcp, Arc::new(names), upstreams)
            .map_err(|e| Error::with(Kind::Internal, "serve names to the container", e))?;
        *lock(&entry.dns) = Some(server);
        Ok(())
    }

    async fn publish_ports(
        &self,
        entry: &Arc<Entry>,
        bridge: &str,
        spec: &ContainerSpec,
    ) -> Result<Vec<PortSocket>> {
        let wanted = port_bindings(spec);
        let target = self.bridges_of(entry)?.first().and_then(|(network, _)| {
            entry
                .record()
                .networks
                .get(&network.spec.name)?
                .endpoint
                .as_ref()?
                .ipv4
        });
        let (Some(target), false) = (target, wanted.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut sockets = Vec::new();
        for binding in &wanted {
            let published = self
                .publish_one(entry, bridge, binding, target.into())
                .await?;
            for port in published {
                let udp = port.mapping.protocol == Protocol::Udp;
                let target = SocketAddr::new(port.mapping.target_ip, port.mapping.target_port);
                entry.record().ports.push(port.mapping);
                sockets.push(PortSocket {
                    socket: port.socket,
                    target,
                    udp,
                });
            }
        }
        entry.record().save(&self.folder(&entry.id), false)?;
        Ok(sockets)
    }

    /// Takes the first port of the binding's range that is free, on every address it asks for.
    async fn publish_one(
        &self,
        entry: &Entry,
        bridge: &str,
        binding: &PortBinding,
        target_ip: IpAddr,
    ) -> Result<Vec<wharf_net::Published>> {
        let addresses: Vec<IpAddr> = match binding.host_ip {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        let (first, last) = binding.host_ports.unwrap_or((0, 0));
        let mut refused = None;
        for host_port in first..=last {
            let mappings: Vec<PortMapping> = addresses
                .iter()
                .map(|host_ip| PortMapping {
                    host_ip: *host_ip,
                    host_port,
                    target_ip,
                    target_port: binding.container_port,
                    protocol: binding.protocol,
                })
                .collect();
            match self.inner.net.publish(bridge, &mappings).await {
                Ok(published) => return Ok(published),
                Err(error @ wharf_net::Error::PortInUse { .. }) => refused = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(match refused {
            Some(wharf_net::Error::PortInUse {
                address,
                port,
                holder,
                ..
            }) => {
                let holder = self
                    .port_holder(port)
                    .or(holder)
                    .map(|h| format!(" (by {h})"))
                    .unwrap_or_default();
                let name = entry.record().name.clone();
                Error::new(
                    Kind::Internal,
                    format!(
                        "driver failed programming external connectivity on endpoint {name}: Bind for {address}:{port} \
                         failed: port is already allocated{holder}"
                    ),
                )
            }
            _ => Error::new(Kind::Internal, "no port could be published"),
        })
    }

    /// The container that publishes a host port, by name.
    fn port_holder(&self, port: u16) -> Option<String> {
        let entries = self.inner.containers.all();
        let holder = entries
            .iter()
            .find(|entry| entry.record().ports.iter().any(|p| p.host_port == port))?;
        Some(format!("container {}", holder.record().name))
    }

    /// Takes everything away that [`Engine::connect`] made, as far as it got.
    pub(crate) async fn disconnect(&self, entry: &Arc<Entry>) {
        lock(&entry.dns).take();
        let (ports, endpoints) = {
            let mut record = entry.record();
            let endpoints: Vec<_> = record
                .networks
                .iter_mut()
                .filter_map(|(name, a)| Some((name.clone(), a.endpoint.take()?)))
                .collect();
            (std::mem::take(&mut record.ports), endpoints)
        };
        if !ports.is_empty()
            && let Err(error) = self.inner.net.unpublish(&ports).await
        {
            tracing::warn!(
                container = entry.id,
                error = crate::error_from::chain(&error),
                "ports could not be withdrawn"
            );
        }
        for (name, endpoint) in endpoints {
            let Ok(network) = self.inner.networks.find(&name) else {
                continue;
            };
            let Some(bridge) = network.bridge.as_ref().map(|bridge| bridge.bridge.clone()) else {
                continue;
            };
            if let Err(error) = self.inner.net.detach(&bridge, &endpoint).await {
                tracing::warn!(
                    container = entry.id,
                    network = name,
                    error = crate::error_from::chain(&error),
                    "an endpoint could not be removed"
                );
            }
            self.network_event("disconnect", &network, Some(&entry.id));
        }
    }

    /// Lines of /etc/hosts: extra hosts, links, the container's own addresses.
    pub(crate) fn host_lines(&self, record: &Record, hostname: &str) -> Vec<HostLine> {
        let mut lines: Vec<HostLine> = Vec::new();
        for extra in &record.spec.extra_hosts {
            if let Some((name, address)) = extra.split_once(':').or_else(|| extra.split_once('=')) {
                let address = if address == "host-gateway" {
                    self.host_gateway()
                } else {
                    address.to_owned()
                };
                lines.push((address, vec![name.to_owned()]));
            }
        }
        for (entry, alias) in self.links_of(&record.spec) {
            let linked = entry.record();
            if let Some(address) = default_address(&linked) {
                let mut names = vec![alias, linked.id[..12].to_owned()];
                if !names.contains(&linked.name) {
                    names.push(linked.name.clone());
                }
                lines.push((address.to_string(), names));
            }
        }
        let mut names = vec![hostname.to_owned()];
        if let Some(domain) = record
            .spec
            .domainname
            .as_deref()
            .filter(|domain| !domain.is_empty())
        {
            names.insert(0, format!("{hostname}.{domain}"));
        }
        for endpoint in record
            .networks
            .values()
            .filter_map(|attachment| attachment.endpoint.as_ref())
        {
            lines.extend(
                endpoint
                    .ipv4
                    .map(|address| (address.to_string(), names.clone())),
            );
            lines.extend(
                endpoint
                    .ipv6
                    .map(|address| (address.to_string(), names.clone())),
            );
        }
        lines
    }

    fn host_gateway(&self) -> String {
        let bridge = self
            .inner
            .networks
            .find("bridge")
            .ok()
            .and_then(|network| network.bridge);
        bridge
            .map(|bridge| bridge.gateway.to_string())
            .unwrap_or_default()
    }

    /// Linked containers with their aliases.
    fn links_of(&self, spec: &ContainerSpec) -> Vec<(Arc<Entry>, String)> {
        spec.links
            .iter()
            .filter_map(|link| {
                let (target, alias) = link.split_once(':').unwrap_or((link, link));
                let alias = alias.rsplit('/').next().unwrap_or(alias);
                Some((self.inner.containers.find(target).ok()?, alias.to_owned()))
            })
            .collect()
    }

    /// Variables that tell a container about those it is linked to: `DB_PORT_6379_TCP_ADDR` and so on.
    pub(crate) fn link_env(&self, own_name: &str, spec: &ContainerSpec) -> Vec<String> {
        let mut env = Vec::new();
        for (entry, alias) in self.links_of(spec) {
            let linked = entry.record();
            if let Some(address) = default_address(&linked) {
                env.extend(link_variables(own_name, &alias, address, &linked.spec));
            }
        }
        env
    }
}

fn default_address(record: &Record) -> Option<Ipv4Addr> {
    let bridge = record
        .networks
        .get("bridge")
        .or_else(|| record.networks.values().next())?;
    bridge.endpoint.as_ref()?.ipv4
}

fn link_variables(
    own: &str,
    alias: &str,
    address: Ipv4Addr,
    linked: &ContainerSpec,
) -> Vec<String> {
    let prefix = alias.to_uppercase().replace(['-', '.'], "_");
    let mut env = Vec::new();
    if let Some((port, protocol)) = linked.exposed_ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in &linked.exposed_ports {
        let key = format!(
            "{prefix}_PORT_{port}_{}",
            protocol.to_string().to_uppercase()
        );
        env.push(format!("{key}={protocol}://{address}:{port}"));
        env.push(format!("{key}_ADDR={address}"));
        env.push(format!("{key}_PORT={port}"));
        env.push(format!("{key}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{own}/{alias}"));
    let private = ["HOME", "PATH", "HOSTNAME", "TERM"];
    for entry in linked.env.iter().filter(|entry| {
        !private
            .iter()
            .any(|key| entry.starts_with(&format!("{key}=")))
    }) {
        env.push(format!("{prefix}_ENV_{entry}"));
    }
    env
}

fn endpoint_request(
    spec: &ContainerSpec,
    asked: &EndpointSpec,
    number: usize,
) -> Result<EndpointRequest> {
    let mac = match asked
        .mac_address
        .as_deref()
        .or(spec.mac_address.as_deref().filter(|_| number == 0))
    {
        Some(text) if !text.is_empty() => Some(parse_mac(text)?),
        _ => None,
    };
    Ok(EndpointRequest {
        interface: format!("eth{number}"),
        ipv4: asked.ipv4_address,
        ipv6: asked.ipv6_address,
        mac,
        default_route: number == 0,
    })
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let wrong = || {
        Error::new(
            Kind::InvalidParameter,
            format!("invalid MAC address: {text}"),
        )
    };
    if parts.len() != mac.len() {
        return Err(wrong());
    }
    for (byte, part) in mac.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    Ok(mac)
}

/// What is to be published: as asked for, and with `publish_all` every exposed port besides.
fn port_bindings(spec: &ContainerSpec) -> Vec<PortBinding> {
    let mut bindings = spec.port_bindings.clone();
    if spec.publish_all {
        for (port, protocol) in &spec.exposed_ports {
            if !bindings
                .iter()
                .any(|b| b.container_port == *port && b.protocol == *protocol)
            {
                bindings.push(PortBinding {
                    container_port: *port,
                    protocol: *protocol,
                    host_ip: None,
                    host_ports: None,
                });
            }
        }
    }
    bindings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_containers_are_described_by_variables() {
        let linked = ContainerSpec {
            exposed_ports: vec![(6379, Protocol::Tcp)],
            env: vec!["PATH=/bin".into(), "MODE=fast".into()],
            ..ContainerSpec::default()
        };
        let env = link_variables("web", "my-db", "172.17.0.2".parse().unwrap(), &linked);
        assert_eq!(
            env,
            [
                "MY_DB_PORT=tcp://172.17.0.2:6379",
                "MY_DB_PORT_6379_TCP=tcp://172.17.0.2:6379",
                "MY_DB_PORT_6379_TCP_ADDR=172.17.0.2",
                "MY_DB_PORT_6379_TCP_PORT=6379",
                "MY_DB_PORT_6379_TCP_PROTO=tcp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_MODE=fast",
            ]
        );
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(
            parse_mac("02:42:ac:11:00:02").unwrap(),
            [2, 0x42, 0xac, 0x11, 0, 2]
        );
        assert!(parse_mac("02:42").is_err());
        assert!(parse_mac("02:42:ac:11:00:zz").is_err());
    }
}

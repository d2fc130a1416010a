//! The pods' bridge, and a pod's place on it.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use tonic::Status;
use wharf_net::{BridgeConfig, EndpointRequest, PortMapping, Protocol, Subnet};

use super::record::{Phase, Pod};
use super::{Local, Pods, failed_net, lock};
use crate::v1;

fn bridge_of(bridge: &str, subnet: Subnet) -> Result<BridgeConfig, Status> {
    let IpAddr::V4(network) = subnet.address else {
        return Err(Status::invalid_argument(format!(
            "{subnet} is not an IPv4 range"
        )));
    };
    Ok(BridgeConfig {
        bridge: bridge.to_owned(),
        subnet,
        ip_range: None,
        gateway: Ipv4Addr::from(u32::from(network) + 1),
        subnet6: None,
        internal: false,
        inter_container: true,
        masquerade: true,
        mtu: None,
    })
}

/// The first IPv4 range of what a kubelet says: with two stacks there is one of each, with a comma between.
fn parse_cidr(text: &str) -> Result<Subnet, Status> {
    let wrong = || {
        Status::invalid_argument(format!(
            "{text:?} has no IPv4 range such as 10.42.0.0/24 in it"
        ))
    };
    let mut ranges = text.split(',').filter_map(|range| {
        let subnet: Subnet = range.trim().parse().ok()?;
        (subnet.address.is_ipv4() && (8..=30).contains(&subnet.prefix)).then_some(subnet)
    });
    let mut subnet = ranges.next().ok_or_else(wrong)?;
    if let IpAddr::V4(address) = subnet.address {
        let mask = u32::MAX << (32 - u32::from(subnet.prefix));
        subnet.address = Ipv4Addr::from(u32::from(address) & mask).into();
    }
    Ok(subnet)
}

impl Pods {
    pub(super) async fn restore_network(&self) -> Result<(), Status> {
        let Some(subnet) = self.store.pod_cidr().or(self.options.pod_cidr) else {
            return Ok(());
        };
        let bridge = bridge_of(&self.options.bridge, subnet)?;
        self.net.ensure_bridge(&bridge).await.map_err(failed_net)?;
        for pod in self.store.loaded() {
            let (phase, endpoint) = {
                let record = pod.record();
                (record.phase, record.endpoint.clone())
            };
            if let (Phase::Ready, Some(endpoint)) = (phase, endpoint)
                && let Err(error) = self.net.restore_endpoint(&bridge.bridge, &endpoint).await
            {
                tracing::warn!(sandbox = pod.id, %error, "its address could not be claimed again");
            }
        }
        Ok(())
    }
}

impl Local {
    /// The range in force.
    pub(super) fn pod_cidr(&self) -> Option<Subnet> {
        self.inner.store.pod_cidr().or(self.inner.options.pod_cidr)
    }

    pub(super) async fn update_runtime_config(
        &self,
        request: v1::UpdateRuntimeConfigRequest,
    ) -> Result<v1::UpdateRuntimeConfigResponse, Status> {
        let network = request.runtime_config.and_then(|c| c.network_config);
        let cidr = network.map(|network| network.pod_cidr).unwrap_or_default();
        if cidr.is_empty() {
            return Ok(v1::UpdateRuntimeConfigResponse {});
        }
        let subnet = parse_cidr(&cidr)?;
        let _gate = self.inner.network_gate.lock().await;
        if self.pod_cidr() != Some(subnet) {
            let bridge = bridge_of(&self.inner.options.bridge, subnet)?;
            if self.pod_cidr().is_some() {
                // Pods that run keep the addresses they have, which the new range does not hold.
                if self
                    .pods()
                    .iter()
                    .any(|pod| pod.record().endpoint.is_some())
                {
                    return Err(Status::failed_precondition(
                        "pods run with addresses of the range in force; remove them before setting another",
                    ));
                }
                let name = &self.inner.options.bridge;
                self.inner
                    .net
                    .remove_bridge(name)
                    .await
                    .map_err(failed_net)?;
            }
            self.inner
                .net
                .ensure_bridge(&bridge)
                .await
                .map_err(failed_net)?;
            self.inner.store.save_pod_cidr(subnet)?;
        }
        let name = &self.inner.options.bridge;
        self.inner.net.prepare(name).await.map_err(failed_net)?;
        Ok(v1::UpdateRuntimeConfigResponse {})
    }

    /// A namespace with an address; noted in the record before this returns.
    pub(super) async fn connect(&self, pod: &Pod) -> Result<Option<OwnedFd>, Status> {
        if pod.host_network() {
            return Ok(None);
        }
        if self.pod_cidr().is_none() {
            return Err(Status::unavailable(
                "the pods' network has no range of addresses yet: set one with UpdateRuntimeConfig or --pod-cidr",
            ));
        }
        let request = EndpointRequest {
            interface: "eth0".into(),
            default_route: true,
            ..EndpointRequest::default()
        };
        let made = self
            .inner
            .net
            .new_namespace_attached(&self.inner.options.bridge, &request);
        let (namespace, endpoint) = made.await.map_err(failed_net)?;
        pod.record().endpoint = Some(endpoint);
        Ok(Some(namespace))
    }

    /// Host ports. The sockets only keep the ports from others: packets are led past them.
    pub(super) async fn publish(&self, pod: &Pod) -> Result<(), Status> {
        let target = pod.record().endpoint.as_ref().and_then(|e| e.ipv4);
        let mut wanted = Vec::new();
        for port in pod.config.port_mappings.iter().filter(|p| p.host_port > 0) {
            wanted.extend(mapping(port, target)?);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let bridge = &self.inner.options.bridge;
        let published = self
            .inner
            .net
            .publish(bridge, &wanted)
            .await
            .map_err(failed_net)?;
        let (mappings, sockets): (Vec<_>, Vec<_>) =
            published.into_iter().map(|p| (p.mapping, p.socket)).unzip();
        pod.record().ports = mappings;
        *lock(&pod.sockets) = sockets;
        Ok(())
    }

    /// Takes address and ports away, as far as there are any.
    pub(super) async fn disconnect(&self, pod: &Pod) {
        let (endpoint, ports) = {
            let mut record = pod.record();
            (record.endpoint.take(), std::mem::take(&mut record.ports))
        };
        if !ports.is_empty()
            && let Err(error) = self.inner.net.unpublish(&ports).await
        {
            tracing::warn!(sandbox = pod.id, %error, "its ports could not be withdrawn");
        }
        lock(&pod.sockets).clear();
        if let Some(endpoint) = endpoint
            && let Err(error) = self
                .inner
                .net
                .detach(&self.inner.options.bridge, &endpoint)
                .await
        {
            tracing::warn!(sandbox = pod.id, %error, "its address could not be given back");
        }
    }
}

fn mapping(
    port: &v1::PortMapping,
    target: Option<Ipv4Addr>,
) -> Result<Option<PortMapping>, Status> {
    // With the host's network the program binds the port itself.
    let Some(target) = target else {
        return Ok(None);
    };
    let number = |n: i32, what: &str| {
        u16::try_from(n)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| Status::invalid_argument(format!("{n} is not a {what} port")))
    };
    let host_ip = match port.host_ip.as_str() {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        text => text.parse().map_err(|_| {
            Status::invalid_argument(format!("{text:?} is not an address of the host"))
        })?,
    };
    Ok(Some(PortMapping {
        host_ip,
        host_port: number(port.host_port, "host")?,
        target_ip: target.into(),
        target_port: number(port.container_port, "container")?,
        protocol: match port.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_both_stacks() {
        for (text, expected) in [
            ("10.42.0.0/24", Some("10.42.0.0/24")),
            ("fd00::/64, 10.42.7.9/24", Some("10.42.7.0/24")),
            ("fd00::/64", None),
            ("", None),
            ("10.42.0.0/33", None),
        ] {
            let parsed = parse_cidr(text).ok().map(|subnet| subnet.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn ports_out_of_range_are_refused() {
        let port = |host_port, container_port| v1::PortMapping {
            host_port,
            container_port,
            ..Default::default()
        };
        let target = Some(Ipv4Addr::new(10, 42, 0, 2));
        assert!(mapping(&port(8080, 80), target).unwrap().is_some());
        assert!(mapping(&port(70000, 80), target).is_err());
        assert!(mapping(&port(80, 0), target).is_err());
    }
}

//! Where nodes, pods and services can be reached, from what their objects say.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use wharf_kube_types::{Status, object};

use crate::api::Api;

/// The port of nodes that don't tell theirs.
const NODE_PORT: u16 = 10250;

/// The order in which a node's addresses are tried; only the first that is there counts.
const PREFERRED: [&str; 5] = [
    "InternalIP",
    "ExternalIP",
    "Hostname",
    "InternalDNS",
    "ExternalDNS",
];

/// A name in a path of a proxy: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Whether to speak TLS.
    pub secure: bool,
    /// The object.
    pub name: &'a str,
    /// Number or name of the port, or empty.
    pub port: &'a str,
}

impl<'a> Named<'a> {
    /// Reads one.
    pub fn read(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let secure = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { secure, name, port })
    }

    /// The port as a number.
    ///
    /// # Errors
    /// 400.
    pub fn number(&self) -> Result<Option<u16>, Status> {
        match self.port {
            "" => Ok(None),
            text => text
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .map(Some)
                .ok_or_else(|| Status::bad_request(format!("invalid port {text:?}"))),
        }
    }

    /// The port that its scheme has by itself.
    pub fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }
}

/// An object as the cache has it.
///
/// # Errors
/// 404.
pub fn find(api: &Api, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let kind = api.builtin("", plural)?;
    let found = kind.cache.get(&kind.key(namespace, name));
    let found = found.ok_or_else(|| Status::not_found(&kind.resource, name))?;
    Ok(found.record.to_value())
}

/// Address and port of a node's own server.
///
/// # Errors
/// The node is not there, or has no address.
pub fn node(api: &Api, name: &str) -> Result<(String, u16), Status> {
    let node = find(api, "nodes", "", name)?;
    let known = object::list(&node, "status.addresses");
    let address = PREFERRED.iter().find_map(|wanted| {
        let mut all = known.iter();
        let found = all.find(|a| a["type"] == *wanted)?;
        Some(object::text(found, "address")).filter(|text| !text.is_empty())
    });
    let address = address.ok_or_else(|| {
        let all: Vec<String> = known.iter().map(Value::to_string).collect();
        Status::internal(&format!(
            "no preferred addresses found; known addresses: [{}]",
            all.join(" ")
        ))
    })?;
    let port = object::int(&node, "status.daemonEndpoints.kubeletEndpoint.Port");
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    Ok((address.to_owned(), port.unwrap_or(NODE_PORT)))
}

/// Address and port of a pod, the port being the one that is named, else the first that a container declares.
///
/// # Errors
/// 400: it has no address, or no such port.
pub fn pod(pod: &Value, named: &Named<'_>) -> Result<(IpAddr, u16), Status> {
    let ip: Option<IpAddr> = object::text(pod, "status.podIP").parse().ok();
    let ip = ip.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let declared = || {
        let all = object::list(pod, "spec.containers").iter();
        let mut first = all.filter_map(|c| object::list(c, "ports").first());
        let port = first.find_map(|port| object::int(port, "containerPort"));
        port.and_then(|port| u16::try_from(port).ok())
    };
    let port = named.number()?.or_else(declared);
    Ok((ip, port.unwrap_or_else(|| named.default_port())))
}

/// An endpoint's address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// Namespace and name of the pod behind it.
    pub pod: Option<(String, String)>,
}

/// The ready endpoints of a service's port, the port by its name in the service.
///
/// # Errors
/// No slices are served.
pub fn endpoints(
    api: &Api,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Result<Vec<Endpoint>, Status> {
    let slices = api.builtin("discovery.k8s.io", "endpointslices")?;
    let mut out = Vec::new();
    for slice in slices.cache.all(&slices.range(namespace)) {
        if slice.label("kubernetes.io/service-name") != Some(service) {
            continue;
        }
        let slice = slice.record.to_value();
        let ports = object::list(&slice, "ports").iter();
        let mut port = ports.filter(|p| object::text(p, "name") == port_name);
        let port = port.find_map(|p| u16::try_from(object::int(p, "port")?).ok());
        let Some(port) = port else { continue };
        let all = object::list(&slice, "endpoints").iter();
        for endpoint in all.filter(|e| e["conditions"]["ready"] != false) {
            let target = &endpoint["targetRef"];
            let pod = (target["kind"] == "Pod").then(|| {
                (
                    object::text(target, "namespace").to_owned(),
                    object::text(target, "name").to_owned(),
                )
            });
            for address in object::list(endpoint, "addresses") {
                if let Some(ip) = address.as_str().and_then(|a| a.parse().ok()) {
                    out.push(Endpoint {
                        address: SocketAddr::new(ip, port),
                        pod: pod.clone(),
                    });
                }
            }
        }
    }
    Ok(out)
}

/// Whether a pod has this address now. Whoever may write slices may not choose where the server connects to.
fn is_of_pod(api: &Api, namespace: &str, endpoint: &Endpoint) -> bool {
    let Some((own, name)) = &endpoint.pod else {
        return false;
    };
    let Ok(pod) = find(api, "pods", namespace, name) else {
        return false;
    };
    let is = |text: &str| text.parse() == Ok(endpoint.address.ip());
    let others = object::list(&pod, "status.podIPs").iter();
    own == namespace
        && (is(object::text(&pod, "status.podIP"))
            || others.into_iter().any(|ip| is(object::text(ip, "ip"))))
}

/// One of a service's pods, any of them.
///
/// # Errors
/// 404 and 503.
pub fn service(api: &Api, namespace: &str, named: &Named<'_>) -> Result<SocketAddr, Status> {
    let mut port = named.port.to_owned();
    let object = find(api, "services", namespace, named.name)?;
    if let Ok(number) = port.parse::<i64>() {
        let mut ports = object::list(&object, "spec.ports").iter();
        let found = ports.find(|p| object::int(p, "port") == Some(number));
        let found = found.ok_or_else(|| {
            Status::unavailable(format!(
                "no service port {number} found for service {:?}",
                named.name
            ))
        })?;
        port = object::text(found, "name").to_owned();
    }
    let mut all = endpoints(api, namespace, named.name, &port)?;
    all.retain(|endpoint| is_of_pod(api, namespace, endpoint));
    let missing = || {
        Status::unavailable(format!(
            "no endpoints available for service {:?}",
            named.name
        ))
    };
    if all.is_empty() {
        return Err(missing());
    }
    let [dice] = crate::random::bytes::<1>();
    let chosen = all.get(usize::from(dice) % all.len());
    chosen.map(|e| e.address).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_carry_scheme_and_port() {
        let check = |text: &str, expect: Option<(bool, &str, &str)>| {
            let got = Named::read(text).map(|n| (n.secure, n.name, n.port));
            assert_eq!(got, expect, "{text}");
        };
        check("a", Some((false, "a", "")));
        check("a:80", Some((false, "a", "80")));
        check("https:a:", Some((true, "a", "")));
        check("http:a:web", Some((false, "a", "web")));
        check(":a:80", Some((false, "a", "80")));
        check("ftp:a:80", None);
        check("a:b:c:d", None);
        check("", None);
    }
}

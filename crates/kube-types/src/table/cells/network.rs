//! Rows of services, endpoints, ingresses, nodes and events.

use serde_json::Value;

use super::super::since;
use super::{cut, labels, name_and_age, or, row, selector};
use crate::object::{self, at, int, list, map, text};
use crate::time::Timestamp;

pub(super) fn cells(
    group: &str,
    plural: &str,
    value: &Value,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let (name, age) = name_and_age(value, now);
    match plural {
        "services" => row([
            name,
            text(value, "spec.type").into(),
            cluster_ip(value).into(),
            external_ip(value).into(),
            ports(value).into(),
            age,
            labels(value, "spec.selector"),
        ]),
        "endpoints" => row([name, endpoints(value).into(), age]),
        "endpointslices" => row([
            name,
            text(value, "addressType").into(),
            slice_ports(value),
            slice_addresses(value),
            age,
        ]),
        "ingresses" => {
            let ports = if list(value, "spec.tls").is_empty() {
                "80"
            } else {
                "80, 443"
            };
            row([
                name,
                or(value, "spec.ingressClassName", "<none>"),
                hosts(value).into(),
                balanced(value).into(),
                ports.into(),
                age,
            ])
        }
        "ingressclasses" => row([
            name,
            text(value, "spec.controller").into(),
            class_parameters(value).into(),
            age,
        ]),
        "networkpolicies" => row([name, selector(value, "spec.podSelector"), age]),
        "servicecidrs" => {
            let cidrs: Vec<&str> = list(value, "spec.cidrs")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            row([name, cidrs.join(",").into(), age])
        }
        "ipaddresses" => row([name, parent(value).into(), age]),
        "nodes" => node(value, name, age),
        "events" => event(group, value, now),
        _ => None,
    }
}

fn cluster_ip(service: &Value) -> String {
    let first = list(service, "spec.clusterIPs")
        .first()
        .and_then(Value::as_str);
    first.unwrap_or("<none>").to_owned()
}

fn strings(value: &Value, path: &str) -> Vec<String> {
    list(value, path)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Addresses and names of a load balancer, in order.
fn balanced(value: &Value) -> String {
    let mut found: Vec<&str> = list(value, "status.loadBalancer.ingress")
        .iter()
        .map(|i| {
            if text(i, "ip").is_empty() {
                text(i, "hostname")
            } else {
                text(i, "ip")
            }
        })
        .filter(|text| !text.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.join(",")
}

fn external_ip(service: &Value) -> String {
    let mut ips = strings(service, "spec.externalIPs");
    match text(service, "spec.type") {
        "ClusterIP" | "NodePort" if ips.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => ips.join(","),
        "LoadBalancer" => {
            let balanced = balanced(service);
            if !balanced.is_empty() {
                ips.insert(0, balanced);
            }
            if ips.is_empty() {
                "<pending>".to_owned()
            } else {
                ips.join(",")
            }
        }
        "ExternalName" => text(service, "spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports = list(service, "spec.ports").iter().map(|port| {
        let (number, protocol) = (
            int(port, "port").unwrap_or_default(),
            text(port, "protocol"),
        );
        match int(port, "nodePort").unwrap_or_default() {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    });
    match ports.collect::<Vec<_>>().join(",") {
        ports if ports.is_empty() => "<none>".to_owned(),
        ports => ports,
    }
}

fn endpoints(value: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(value, "subsets") {
        let addresses = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = int(port, "port").unwrap_or_default();
            all.extend(addresses().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    if list(value, "subsets").is_empty() {
        return "<none>".to_owned();
    }
    if all.is_empty() {
        String::new()
    } else {
        cut(&all, 3)
    }
}

fn slice_ports(value: &Value) -> Value {
    let ports =
        list(value, "ports")
            .iter()
            .map(|port| match (int(port, "port"), at(port, "name")) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.as_str().unwrap_or_default().to_owned(),
                (None, None) => "*".to_owned(),
            });
    cut(&ports.collect::<Vec<_>>(), 3).into()
}

fn slice_addresses(value: &Value) -> Value {
    let all: Vec<String> = list(value, "endpoints")
        .iter()
        .flat_map(|e| strings(e, "addresses"))
        .collect();
    cut(&all, 3).into()
}

fn hosts(ingress: &Value) -> String {
    let rules = list(ingress, "spec.rules");
    let all: Vec<&str> = rules
        .iter()
        .map(|r| text(r, "host"))
        .filter(|h| !h.is_empty())
        .collect();
    match all.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), rules.len() - 3),
        _ => all.join(","),
    }
}

fn class_parameters(class: &Value) -> String {
    let Some(parameters) = at(class, "spec.parameters") else {
        return "<none>".to_owned();
    };
    let kind = crate::status::qualified(text(parameters, "kind"), text(parameters, "apiGroup"));
    format!("{kind}/{}", text(parameters, "name"))
}

fn parent(address: &Value) -> String {
    let Some(parent) = at(address, "spec.parentRef") else {
        return "<none>".to_owned();
    };
    let resource =
        crate::status::qualified(text(parent, "resource"), text(parent, "group")).to_lowercase();
    match text(parent, "namespace") {
        "" => format!("{resource}/{}", text(parent, "name")),
        namespace => format!("{resource}/{namespace}/{}", text(parent, "name")),
    }
}

fn node(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let ready = list(value, "status.conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object::flag(value, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = map(value, "metadata.labels")
        .filter_map(
            |(label, text)| match label.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if label == "kubernetes.io/role" => text.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    };
    let address = |kind: &str| {
        let found = list(value, "status.addresses")
            .iter()
            .find(|a| a["type"] == kind);
        found.map_or("<none>".into(), |a| a["address"].clone())
    };
    let info = |field: &str| or(&value["status"]["nodeInfo"], field, "<unknown>");
    row([
        name,
        status.into(),
        roles.into(),
        age,
        text(value, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ])
}

/// An event of either group: the newer one has other names for the same fields.
fn event(group: &str, value: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let newer = group == "events.k8s.io";
    let pick = |new: &'static str, old: &'static str| if newer { new } else { old };
    let about = &value[pick("regarding", "involvedObject")];
    let time = |path: &str| Some(text(value, path)).filter(|t| !t.is_empty());
    let first =
        time(pick("deprecatedFirstTimestamp", "firstTimestamp")).or_else(|| time("eventTime"));
    let last = time("series.lastObservedTime")
        .or_else(|| time(pick("deprecatedLastTimestamp", "lastTimestamp")))
        .or(first);
    let count = int(value, "series.count")
        .or_else(|| int(value, pick("deprecatedCount", "count")))
        .filter(|n| *n != 0)
        .unwrap_or(1);
    let kind = text(about, "kind").to_lowercase();
    let target = match text(about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = &value[pick("deprecatedSource", "source")];
    let part = |field: &str, other: &str| match text(source, field) {
        "" => text(value, other).to_owned(),
        found => found.to_owned(),
    };
    let (component, host) = (
        part(
            "component",
            pick("reportingController", "reportingComponent"),
        ),
        part("host", "reportingInstance"),
    );
    let source = if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    };
    let ago = |time: Option<&str>| since(time.unwrap_or_default(), now);
    row([
        ago(last).into(),
        text(value, "type").into(),
        text(value, "reason").into(),
        target.into(),
        text(about, "fieldPath").into(),
        source.into(),
        text(value, pick("note", "message")).trim().into(),
        ago(first).into(),
        count.into(),
        object::name(value).into(),
    ])
}

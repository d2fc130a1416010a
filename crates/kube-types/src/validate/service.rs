//! Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::faults::{Faults, Seen};
use super::{meta, names};
use crate::field::{FieldError, Path};
use crate::object::{at, flag, int, list, text};

/// A service, new or changed.
pub fn service(service: &Value, out: &mut Vec<FieldError>) {
    let spec = &service["spec"];
    let path = Path::new("spec");
    by_type(spec, &path, out);
    ports(spec, &path.field("ports"), out);
    meta::labels(&spec["selector"], &path.field("selector"), out);
    affinity(spec, &path, out);
    let addresses = path.field("externalIPs");
    for (index, ip) in list(spec, "externalIPs").iter().enumerate() {
        out.ip(&addresses.index(index), ip.as_str().unwrap_or_default());
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    out.one_of(&path.field("type"), text(spec, "type"), &types);
    balancer(spec, &path, out);
    traffic(spec, &path, out);
    cluster_ips(spec, &path, out);
}

/// A service that replaces another.
pub fn update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    service(new, out);
    let path = Path::new("spec");
    fixed_addresses(&new["spec"], &old["spec"], &path, out);
    let balanced = |service: &Value| text(service, "spec.type") == "LoadBalancer";
    let class = "loadBalancerClass";
    if balanced(new) && balanced(old) && new["spec"].get(class) != old["spec"].get(class) {
        out.invalid(
            &path.field(class),
            new["spec"][class].clone(),
            "may not change once set",
        );
    }
}

fn is_headless(spec: &Value) -> bool {
    list(spec, "clusterIPs")
        .first()
        .is_some_and(|ip| ip == "None")
}

fn by_type(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let (kind, headless) = (text(spec, "type"), is_headless(spec));
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        out.required(&path.field("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let place = path.field("clusterIPs");
            let detail = format!("may not be set to 'None' for {kind} services");
            out.invalid(&place.index(0), "None", detail);
        }
        "ExternalName" => {
            if !list(spec, "clusterIPs").is_empty() {
                out.forbidden(
                    &path.field("clusterIPs"),
                    "may not be set for ExternalName services",
                );
            }
            for field in ["ipFamilies", "ipFamilyPolicy"] {
                if at(spec, field).is_some() {
                    out.forbidden(
                        &path.field(field),
                        "may not be set for ExternalName services",
                    );
                }
            }
            let name = text(spec, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            out.required_rule(&path.field("externalName"), name, names::dns1123_subdomain);
        }
        _ => {}
    }
}

fn ports(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let ports = list(spec, "ports");
    let mut seen = Seen::default();
    let (mut nodes, mut numbers) = (HashSet::new(), HashSet::new());
    let mut twice = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let here = path.index(index);
        let (name, protocol) = (text(port, "name"), text(port, "protocol"));
        if name.is_empty() {
            if ports.len() > 1 {
                out.required(&here.field("name"), "");
            }
        } else {
            out.rule(&here.field("name"), name, names::dns1123_label);
            if seen.twice(name) {
                out.duplicate(&here.field("name"), name);
            }
        }
        out.port(
            &here.field("port"),
            &int(port, "port").unwrap_or_default().into(),
        );
        out.one_of(&here.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        out.port(&here.field("targetPort"), &port["targetPort"]);
        if let Some(application) = port["appProtocol"].as_str() {
            out.rule(
                &here.field("appProtocol"),
                application,
                names::qualified_name,
            );
        }
        if let Some(node) = int(port, "nodePort").filter(|n| *n != 0) {
            if text(spec, "type") == "ClusterIP" {
                out.forbidden(
                    &here.field("nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                );
            }
            if !nodes.insert((protocol, node)) {
                out.duplicate(&here.field("nodePort"), node);
            }
        }
        let number = int(port, "port").unwrap_or_default();
        if !numbers.insert((protocol, number)) {
            twice.push((
                index,
                serde_json::json!({"protocol": protocol, "port": number}),
            ));
        }
    }
    for (index, key) in twice {
        out.duplicate(&path.index(index), key);
    }
}

fn affinity(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let sort = text(spec, "sessionAffinity");
    out.one_of(&path.field("sessionAffinity"), sort, &["ClientIP", "None"]);
    let place = path.field("sessionAffinityConfig");
    let config = at(spec, "sessionAffinityConfig");
    match (sort, config) {
        ("None", Some(_)) => out.forbidden(&place, "must not be set when session affinity is None"),
        ("ClientIP", None) => out.required(&place, "when session affinity type is ClientIP"),
        ("ClientIP", Some(config)) => {
            let client = place.field("clientIP");
            match int(config, "clientIP.timeoutSeconds") {
                None => out.required(
                    &client.field("timeoutSeconds"),
                    "when session affinity type is ClientIP",
                ),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    let detail = "must be greater than 0 and less than 86400";
                    out.invalid(&client.field("timeoutSeconds"), seconds, detail);
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

fn balancer(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let balanced = text(spec, "type") == "LoadBalancer";
    let ranges = path.field("loadBalancerSourceRanges");
    let found = list(spec, "loadBalancerSourceRanges");
    if !found.is_empty() && !balanced {
        out.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    for (index, range) in found.iter().enumerate() {
        out.cidr(
            &ranges.index(index),
            range.as_str().unwrap_or_default().trim(),
        );
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if at(spec, field).is_some() && !balanced {
            out.forbidden(
                &path.field(field),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
    }
    if let Some(class) = spec["loadBalancerClass"].as_str() {
        out.rule(
            &path.field("loadBalancerClass"),
            class,
            names::qualified_name,
        );
    }
}

fn traffic(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let kind = text(spec, "type");
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && !list(spec, "externalIPs").is_empty();
    let place = path.field("externalTrafficPolicy");
    let policy = text(spec, "externalTrafficPolicy");
    if outside {
        out.one_of(&place, policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        out.invalid(
            &place,
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or_default();
    let needs = kind == "LoadBalancer" && policy == "Local";
    if health != 0 && !needs {
        let detail =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        out.invalid(&path.field("healthCheckNodePort"), health, detail);
    }
    let place = path.field("internalTrafficPolicy");
    if at(spec, "internalTrafficPolicy").is_none()
        && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP")
    {
        out.required(&place, "");
    }
    out.optional_one_of(
        &place,
        &spec["internalTrafficPolicy"],
        &["Cluster", "Local"],
    );
    let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    out.optional_one_of(
        &path.field("trafficDistribution"),
        &spec["trafficDistribution"],
        &known,
    );
    if flag(spec, "publishNotReadyAddresses") && kind == "ExternalName" {
        // Allowed, and without effect.
    }
}

fn cluster_ips(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let place = path.field("clusterIPs");
    let (one, all) = (text(spec, "clusterIP"), list(spec, "clusterIPs"));
    match (one, all) {
        ("", []) => {}
        ("", _) => out.invalid(
            &place,
            all.to_vec(),
            "must be empty when `clusterIP` is not specified",
        ),
        (_, []) => out.required(&place, ""),
        (one, [first, ..]) if first != one => {
            out.invalid(&place, all.to_vec(), "first value must match `clusterIP`")
        }
        _ => {}
    }
    let families = path.field("ipFamilies");
    let mut seen = Seen::default();
    for (index, family) in list(spec, "ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or_default();
        if !matches!(family, "IPv4" | "IPv6") {
            out.not_supported(&families.index(index), family, &["IPv4", "IPv6"]);
        }
        if seen.twice(family) {
            out.duplicate(&families.index(index), family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    out.optional_one_of(
        &path.field("ipFamilyPolicy"),
        &spec["ipFamilyPolicy"],
        &policies,
    );
    let before = out.len();
    for (index, ip) in all.iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        match (index, ip) {
            (0, "None") if all.len() > 1 => {
                out.invalid(
                    &place,
                    all.to_vec(),
                    "'None' must be the first and only value",
                );
            }
            (0, "None") => {}
            _ => out.ip(&place.index(index), ip),
        }
    }
    if all.len() > 2 {
        out.invalid(&place, all.to_vec(), "may only hold up to 2 values");
    }
    if out.len() == before && !is_headless(spec) {
        families_fit(spec, &place, out);
    }
}

fn is_v6(ip: &Value) -> bool {
    ip.as_str()
        .and_then(|ip| ip.parse::<IpAddr>().ok())
        .is_some_and(|ip| ip.is_ipv6())
}

fn families_fit(spec: &Value, place: &Path<'_>, out: &mut Vec<FieldError>) {
    let all = list(spec, "clusterIPs");
    if let [a, b] = all
        && is_v6(a) == is_v6(b)
    {
        out.invalid(
            place,
            all.to_vec(),
            "may specify no more than one IP for each IP family",
        );
    }
    for (index, (ip, family)) in all.iter().zip(list(spec, "ipFamilies")).enumerate() {
        let expected = if is_v6(ip) { "IPv6" } else { "IPv4" };
        if family != expected {
            let family = family.as_str().unwrap_or_default();
            let detail =
                format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            out.invalid(&place.index(index), ip.clone(), detail);
        }
    }
}

fn fixed_addresses(new: &Value, old: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let named = |spec: &Value| text(spec, "type") == "ExternalName";
    if named(new) || named(old) || is_headless(new) && is_headless(old) {
        return;
    }
    let place = path.field("clusterIPs");
    let (now, was) = (list(new, "clusterIPs"), list(old, "clusterIPs"));
    if now.is_empty() && !was.is_empty() {
        return out.invalid(
            &place.index(0),
            now.to_vec(),
            "primary clusterIP can not be unset",
        );
    }
    for (index, (now_ip, was_ip)) in now.iter().zip(was).enumerate() {
        if now_ip != was_ip {
            out.invalid(&place.index(index), now.to_vec(), "may not change once set");
        }
    }
    if now.len() == 1 && was.len() == 2 && text(new, "ipFamilyPolicy") != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        out.invalid(
            &path.field("ipFamilyPolicy"),
            new["ipFamilyPolicy"].clone(),
            detail,
        );
    }
}

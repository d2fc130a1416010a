//! Ingresses, their classes, NetworkPolicies, EndpointSlices, addresses and ranges.

use std::net::IpAddr;

use serde_json::Value;

use super::faults::{Faults, Seen, label_selector};
use super::{config, meta, names};
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};

/// A NetworkPolicy.
pub fn policy(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    label_selector(&spec["podSelector"], &path.field("podSelector"), out);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let place = path.field(direction);
        for (index, rule) in list(spec, direction).iter().enumerate() {
            let here = place.index(index);
            let ports = here.field("ports");
            for (index, port) in list(rule, "ports").iter().enumerate() {
                policy_port(port, &ports.index(index), out);
            }
            let inner = here.field(peers);
            for (index, peer) in list(rule, peers).iter().enumerate() {
                policy_peer(peer, &inner.index(index), out);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let place = path.field("policyTypes");
    if types.len() > 2 {
        out.invalid(
            &place,
            types.to_vec(),
            "may not specify more than two policyTypes",
        );
    }
    for (index, kind) in types.iter().enumerate() {
        out.optional_one_of(&place.index(index), kind, &["Ingress", "Egress"]);
    }
}

fn policy_port(port: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    out.optional_one_of(
        &path.field("protocol"),
        &port["protocol"],
        &["TCP", "UDP", "SCTP"],
    );
    let end = int(port, "endPort");
    let place = path.field("endPort");
    match at(port, "port") {
        None => {
            if let Some(end) = end {
                out.invalid(
                    &place,
                    end,
                    "may not be specified when `port` is not specified",
                );
            }
        }
        Some(found) => {
            out.port(&path.field("port"), found);
            match (found.as_i64(), end) {
                (Some(from), Some(end)) if end < from => {
                    out.invalid(&place, from, "must be greater than or equal to `port`");
                }
                (Some(_), Some(end)) => out.port(&place, &end.into()),
                (None, Some(end)) => out.invalid(
                    &place,
                    end,
                    "may not be specified when `port` is non-numeric",
                ),
                _ => {}
            }
        }
    }
}

fn policy_peer(peer: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut found = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = at(peer, field) {
            found += 1;
            label_selector(selector, &path.field(field), out);
        }
    }
    if let Some(block) = at(peer, "ipBlock") {
        let here = path.field("ipBlock");
        let cidr = text(block, "cidr");
        if cidr.is_empty() {
            out.required(&here.field("cidr"), "");
        } else {
            out.cidr(&here.field("cidr"), cidr);
        }
        let place = here.field("except");
        for (index, except) in list(block, "except").iter().enumerate() {
            let except = except.as_str().unwrap_or_default();
            out.cidr(&place.index(index), except);
            if !strictly_inside(except, cidr) {
                out.invalid(
                    &place.index(index),
                    except,
                    "must be a strict subset of `cidr`",
                );
            }
        }
        if found > 0 {
            out.forbidden(path, "may not specify both ipBlock and another peer");
        }
        found += 1;
    }
    if found == 0 {
        out.required(path, "must specify a peer");
    }
}

/// Whether one range is a part of another and smaller.
fn strictly_inside(inner: &str, outer: &str) -> bool {
    let parse = |text: &str| -> Option<(u128, u32, u32)> {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        match address.parse().ok()? {
            IpAddr::V4(v4) => Some((u128::from(u32::from(v4)), 32, bits)),
            IpAddr::V6(v6) => Some((u128::from(v6), 128, bits)),
        }
    };
    match (parse(inner), parse(outer)) {
        (Some((a, width, inner_bits)), Some((b, other, outer_bits)))
            if width == other && inner_bits <= width =>
        {
            let shift = width.saturating_sub(outer_bits);
            outer_bits < inner_bits && (shift >= 128 || a >> shift == b >> shift)
        }
        // What is no range has its own fault.
        _ => true,
    }
}

/// An Ingress.
pub fn ingress(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let rules = list(spec, "rules");
    let default = at(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        out.invalid(
            &path,
            spec["rules"].clone(),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(backend) = default {
        self::backend(backend, &path.field("defaultBackend"), out);
    }
    let place = path.field("rules");
    for (index, rule) in rules.iter().enumerate() {
        ingress_rule(rule, &place.index(index), out);
    }
    let place = path.field("tls");
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let here = place.index(index);
        let hosts = here.field("hosts");
        for (index, host) in list(tls, "hosts").iter().enumerate() {
            self::host(host.as_str().unwrap_or_default(), &hosts.index(index), out);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            out.rule(&here.field("secretName"), secret, names::dns1123_subdomain);
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        out.rule(
            &path.field("ingressClassName"),
            class,
            names::dns1123_subdomain,
        );
    }
}

fn host(host: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if host.contains('*') {
        out.rule(path, host, names::wildcard_subdomain);
    } else {
        out.rule(path, host, names::dns1123_subdomain);
    }
}

fn ingress_rule(rule: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let name = text(rule, "host");
    if !name.is_empty() {
        if name.parse::<IpAddr>().is_ok() {
            out.invalid(
                &path.field("host"),
                name,
                "must be a DNS name, not an IP address",
            );
        }
        host(name, &path.field("host"), out);
    }
    let Some(http) = at(rule, "http") else {
        return;
    };
    let here = path.field("http");
    let place = here.field("paths");
    if list(http, "paths").is_empty() {
        out.required(&place, "");
    }
    for (index, item) in list(http, "paths").iter().enumerate() {
        let here = place.index(index);
        http_path(item, &here, out);
        backend(&item["backend"], &here.field("backend"), out);
    }
}

fn http_path(item: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let (kind, found) = (text(item, "pathType"), text(item, "path"));
    let place = path.field("path");
    match kind {
        "" => out.required(&path.field("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !found.starts_with('/') {
                out.invalid(&place, found, "must be an absolute path");
            }
            if found.is_empty() {
                return;
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"]
                .into_iter()
                .filter(|bad| found.contains(bad))
            {
                out.invalid(&place, found, format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].into_iter().filter(|bad| found.ends_with(bad)) {
                out.invalid(&place, found, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !found.is_empty() && !found.starts_with('/') {
                out.invalid(&place, found, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            out.not_supported(&path.field("pathType"), other, &known);
        }
    }
}

fn backend(backend: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let service = at(backend, "service");
    match (service, at(backend, "resource")) {
        (Some(_), Some(_)) => {
            return out.invalid(path, "", "cannot set both resource and service backends");
        }
        (None, None) => return out.invalid(path, "", "resource or service backend is required"),
        _ => {}
    }
    let Some(service) = service else {
        return;
    };
    let here = path.field("service");
    out.required_rule(
        &here.field("name"),
        text(service, "name"),
        names::dns1035_label,
    );
    let port = here.field("port");
    let (name, number) = (
        text(service, "port.name"),
        int(service, "port.number").unwrap_or_default(),
    );
    match (name, number) {
        ("", 0) => out.required(path, "port name or number is required"),
        ("", number) => out.port(&port.field("number"), &number.into()),
        (name, 0) => out.rule(&port.field("name"), name, names::port_name),
        _ => out.invalid(path, "", "cannot set both port name & port number"),
    }
}

/// An IngressClass.
pub fn ingress_class(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let controller = text(object, "spec.controller");
    let place = root.field("controller");
    if controller.len() > 250 {
        out.put(FieldError::too_long(&place, 250));
    }
    super::batch::domain_path(controller, &place, out);
    let Some(parameters) = at(object, "spec.parameters") else {
        return;
    };
    let here = root.field("parameters");
    for field in ["kind", "name"] {
        out.required_rule(
            &here.field(field),
            text(parameters, field),
            names::path_segment,
        );
    }
    let namespace = at(parameters, "namespace");
    match (text(parameters, "scope"), namespace) {
        ("Namespace", None) => out.required(
            &here.field("namespace"),
            "`parameters.scope` is set to 'Namespace'",
        ),
        ("Cluster", Some(_)) => out.forbidden(
            &here.field("namespace"),
            "`parameters.scope` is set to 'Cluster'",
        ),
        ("Namespace" | "Cluster", _) => {}
        ("", _) => out.required(&here.field("scope"), ""),
        (other, _) => out.not_supported(&here.field("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// An EndpointSlice.
pub fn slice(object: &Value, out: &mut Vec<FieldError>) {
    let kind = text(object, "addressType");
    out.one_of(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
    let root = Path::new("endpoints");
    let endpoints = list(object, "endpoints");
    if endpoints.len() > 1_000 {
        return out.put(FieldError::too_many(&root, endpoints.len(), 1_000));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let here = root.index(index);
        let place = here.field("addresses");
        let addresses = list(endpoint, "addresses");
        if addresses.is_empty() {
            out.required(&place, "must contain at least 1 address");
        } else if addresses.len() > 100 {
            out.put(FieldError::too_many(&place, addresses.len(), 100));
        }
        for (index, address) in addresses.iter().enumerate() {
            slice_address(
                kind,
                address.as_str().unwrap_or_default(),
                &place.index(index),
                out,
            );
        }
        if let Some(node) = endpoint["nodeName"].as_str() {
            out.rule(&here.field("nodeName"), node, names::dns1123_subdomain);
        }
        if let Some(name) = endpoint["hostname"].as_str() {
            out.rule(&here.field("hostname"), name, names::dns1123_label);
        }
        meta::labels(
            &endpoint["deprecatedTopology"],
            &here.field("deprecatedTopology"),
            out,
        );
    }
    slice_ports(object, out);
}

fn slice_address(kind: &str, address: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let parsed = address.parse::<IpAddr>();
    match (kind, parsed) {
        ("IPv4", Ok(IpAddr::V6(_)) | Err(_)) => {
            out.invalid(path, address, "must be an IPv4 address")
        }
        ("IPv6", Ok(IpAddr::V4(_)) | Err(_)) => {
            out.invalid(path, address, "must be an IPv6 address")
        }
        ("FQDN", _) => out.rule(path, address, names::dns1123_subdomain),
        _ => config::endpoint_ip(address, path, out),
    }
}

fn slice_ports(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("ports");
    let ports = list(object, "ports");
    if ports.len() > 20_000 {
        return out.put(FieldError::too_many(&root, ports.len(), 20_000));
    }
    let mut seen = Seen::default();
    for (index, port) in ports.iter().enumerate() {
        let here = root.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            out.rule(&here.field("name"), name, names::dns1123_label);
        }
        if seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
        out.one_of(
            &here.field("protocol"),
            text(port, "protocol"),
            &["SCTP", "TCP", "UDP"],
        );
        if let Some(number) = int(port, "port") {
            out.port(&here.field("port"), &number.into());
        }
        if let Some(application) = port["appProtocol"].as_str() {
            out.rule(
                &here.field("appProtocol"),
                application,
                names::qualified_name,
            );
        }
    }
}

/// A ServiceCIDR.
pub fn service_ranges(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let place = root.field("cidrs");
    let ranges = list(object, "spec.cidrs");
    if ranges.is_empty() {
        return out.required(&place, "at least one CIDR required");
    }
    if ranges.len() > 2 {
        return out.invalid(
            &place,
            object["spec"].clone(),
            "may only hold up to 2 values",
        );
    }
    for (index, range) in ranges.iter().enumerate() {
        out.cidr(&place.index(index), range.as_str().unwrap_or_default());
    }
}

/// An IPAddress.
pub fn address(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let here = root.field("parentRef");
    let Some(parent) = at(object, "spec.parentRef") else {
        return out.required(&here, "");
    };
    for field in ["resource", "name"] {
        out.required_rule(&here.field(field), text(parent, field), names::path_segment);
    }
}

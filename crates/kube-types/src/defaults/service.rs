//! Defaults of services, endpoints and network objects.

use serde_json::{Map, Value, json};

use super::{fill_empty, object, text};
use crate::object::fill;
use crate::schema::Schema;

pub(super) fn rule(schema: &Schema, map: &mut Map<String, Value>) -> bool {
    let discovery = schema
        .definition()
        .is_some_and(|d| d.starts_with("io.k8s.api.discovery."));
    match schema.name {
        "Service" => service(map),
        "EndpointPort" => {
            if discovery {
                fill(map, "name", "");
            }
            fill_empty(map, "protocol", "TCP");
        }
        "NetworkPolicyPort" => fill(map, "protocol", "TCP"),
        "NetworkPolicySpec" => network_policy(map),
        "IngressClassParametersReference" => fill(map, "scope", "Cluster"),
        "HTTPIngressPath" => {}
        _ => return false,
    }
    true
}

fn service(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    fill_empty(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.shift_remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let config = super::made(spec, "sessionAffinityConfig");
            if let Some(client) = config.and_then(|config| super::made(config, "clientIP")) {
                fill(client, "timeoutSeconds", 10_800);
            }
        }
        _ => {}
    }
    fill_empty(spec, "type", "ClusterIP");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let number = port["port"].clone();
        if let Some(port) = port.as_object_mut() {
            fill_empty(port, "protocol", "TCP");
            if !number.is_null() {
                fill_empty(port, "targetPort", number);
            }
        }
    }
    let kind = text(spec, "type").to_owned();
    let external_ips = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|ips| !ips.is_empty());
    let outside =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && external_ips;
    if outside {
        fill_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        let ingress = map
            .get_mut("status")
            .map(|s| &mut s["loadBalancer"]["ingress"]);
        for ingress in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(ingress) = ingress.as_object_mut().filter(|i| i.contains_key("ip")) {
                fill(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn network_policy(map: &mut Map<String, Value>) {
    let filled = |map: &Map<String, Value>, field: &str| {
        map.get(field)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    if !filled(map, "policyTypes") {
        let types = if filled(map, "egress") {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
        map.insert("policyTypes".to_owned(), types);
    }
    fill(map, "podSelector", json!({}));
}

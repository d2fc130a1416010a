//! What the server decides about services: what was allocated stays, what a type doesn't have goes.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::object::{self, carry};

pub(super) fn create(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").filter(|s| s.is_object()) else {
        return;
    };
    if !object::text(spec, "clusterIP").is_empty() && object::list(spec, "clusterIPs").is_empty() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
}

pub(super) fn update(new: &mut Value, old: &Value) {
    if !new["spec"].is_object() {
        return;
    }
    let old_spec = &old["spec"];
    {
        let spec = &mut new["spec"];
        addresses(spec, old_spec);
        node_ports(spec, old_spec);
        health_port(spec, old_spec);
        drop_by_type(spec, old_spec);
    }
    if object::text(&new["spec"], "type") != "LoadBalancer" {
        new["status"]["loadBalancer"] = json!({});
    }
}

fn kind(spec: &Value) -> &str {
    object::text(spec, "type")
}

fn has_address(spec: &Value) -> bool {
    kind(spec) != "ExternalName"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

fn has_health_port(spec: &Value) -> bool {
    kind(spec) == "LoadBalancer" && object::text(spec, "externalTrafficPolicy") == "Local"
}

fn outside(spec: &Value) -> bool {
    has_node_ports(spec)
        || kind(spec) == "ClusterIP" && !object::list(spec, "externalIPs").is_empty()
}

fn remove(spec: &mut Value, field: &str) {
    if let Some(spec) = spec.as_object_mut() {
        spec.shift_remove(field);
    }
}

fn addresses(spec: &mut Value, old: &Value) {
    let one = object::text(spec, "clusterIP").to_owned();
    let (old_one, old_all) = (
        object::text(old, "clusterIP"),
        object::list(old, "clusterIPs"),
    );
    let all_same = object::list(spec, "clusterIPs") == old_all;
    // A client that knows the singular field only means the list with it.
    if one != old_one && !one.is_empty() && all_same {
        spec["clusterIPs"] = json!([one]);
    }
    if has_address(spec) && has_address(old) {
        if one.is_empty() {
            carry(spec, old, "clusterIP");
        }
        if object::list(spec, "clusterIPs").is_empty() && !old_all.is_empty() {
            carry(spec, old, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field).is_none_or(Value::is_null) {
                carry(spec, old, field);
            }
        }
        return;
    }
    if has_address(old) && !has_address(spec) {
        if one == old_one && all_same {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field) == old.get(field) {
                remove(spec, field);
            }
        }
    }
}

fn used_node_ports(spec: &Value) -> HashSet<i64> {
    object::list(spec, "ports")
        .iter()
        .filter_map(|p| p["nodePort"].as_i64())
        .filter(|p| *p != 0)
        .collect()
}

fn node_ports(spec: &mut Value, old: &Value) {
    let (before, now) = (used_node_ports(old), used_node_ports(spec));
    if !has_node_ports(old) {
        return;
    }
    let ports = spec
        .get("ports")
        .and_then(Value::as_array)
        .map(Vec::len)
        .unwrap_or_default();
    if has_node_ports(spec) {
        for index in 0..ports {
            let port = &spec["ports"][index];
            if port["nodePort"].as_i64().unwrap_or_default() != 0 {
                continue;
            }
            let name = object::text(port, "name").to_owned();
            let known = object::list(old, "ports")
                .iter()
                .rfind(|p| object::text(p, "name") == name);
            let number = known
                .and_then(|p| p["nodePort"].as_i64())
                .filter(|n| *n != 0 && !now.contains(n));
            if let Some(number) = number {
                spec["ports"][index]["nodePort"] = number.into();
            }
        }
    } else if before.is_superset(&now) {
        for index in 0..ports {
            remove(&mut spec["ports"][index], "nodePort");
        }
    }
}

fn health_port(spec: &mut Value, old: &Value) {
    const FIELD: &str = "healthCheckNodePort";
    if !has_health_port(old) {
        return;
    }
    let given = spec[FIELD].as_i64().unwrap_or_default();
    if has_health_port(spec) {
        if given == 0 {
            carry(spec, old, FIELD);
        }
    } else if given == old[FIELD].as_i64().unwrap_or_default() {
        remove(spec, FIELD);
    }
}

fn drop_by_type(spec: &mut Value, old: &Value) {
    let balanced = |spec: &Value| kind(spec) == "LoadBalancer";
    if balanced(old) && !balanced(spec) {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field) == old.get(field) {
                remove(spec, field);
            }
        }
    }
    if outside(old)
        && !outside(spec)
        && spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy")
    {
        remove(spec, "externalTrafficPolicy");
    }
}

//! Networks.

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use wharf_engine::{IpamPool, Network, NetworkSpec};

use crate::answer::{Outcome, created, empty, json_answer};
use crate::container_request::endpoint;
use crate::filters::Filters;
use crate::request::json_body;
use crate::route::{Call, page_not_found};

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    let engine = call.api.engine.clone();
    match (method, words) {
        (&Method::GET, []) => list(&call),
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["prune"]) => {
            let filters = Filters::of(&call.query)?;
            let removed = engine
                .prune_networks(&|n| !filters.labels(&n.spec.labels))
                .await?;
            Ok(json_answer(&json!({"NetworksDeleted": removed})))
        }
        (&Method::GET, [id]) => Ok(json_answer(&network_json(&engine.network(id)?, true))),
        (&Method::DELETE, [id]) => {
            engine.network_remove(id).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::POST, [id, verb @ ("connect" | "disconnect")]) => {
            let body = json_body(call.body).await?;
            let container = body["Container"].as_str().unwrap_or_default();
            if *verb == "connect" {
                engine
                    .network_connect(id, container, endpoint(body["EndpointConfig"].clone())?)
                    .await?;
            } else {
                engine
                    .network_disconnect(id, container, body["Force"].as_bool().unwrap_or(false))
                    .await?;
            }
            Ok(empty(StatusCode::OK))
        }
        _ => Err(page_not_found()),
    }
}

fn list(call: &Call) -> Outcome {
    let filters = Filters::of(&call.query)?;
    filters.check(&[
        "dangling", "driver", "id", "label", "label!", "name", "scope", "type",
    ])?;
    let built_in = |n: &Network| matches!(n.spec.name.as_str(), "bridge" | "host" | "none");
    let wanted = |n: &&Network| {
        filters.any("name", |v| n.spec.name.contains(v))
            && filters.any("id", |v| n.id.starts_with(v))
            && filters.any("driver", |v| n.spec.driver == v)
            && filters.any("scope", |v| n.scope == v)
            && filters.any("type", |v| (v == "builtin") == built_in(n))
            && filters.labels(&n.spec.labels)
    };
    let networks = call.api.engine.networks();
    Ok(json_answer(
        &networks
            .iter()
            .filter(wanted)
            .map(|n| network_json(n, false))
            .collect(),
    ))
}

fn network_json(n: &Network, whole: bool) -> Value {
    let pools: Vec<Value> = n
        .spec
        .ipam
        .iter()
        .map(|pool| {
            let mut value = Map::new();
            for (key, text) in [
                ("Subnet", &pool.subnet),
                ("IPRange", &pool.ip_range),
                ("Gateway", &pool.gateway),
            ] {
                if !text.is_empty() {
                    value.insert(key.into(), json!(text));
                }
            }
            if !pool.aux_addresses.is_empty() {
                value.insert("AuxiliaryAddresses".into(), json!(pool.aux_addresses));
            }
            Value::Object(value)
        })
        .collect();
    let members: Map<String, Value> = n
        .containers
        .iter()
        .filter(|_| whole)
        .map(|(id, m)| {
            let e = &m.endpoint;
            let v4 = e.ipv4.map(|a| format!("{a}/{}", e.prefix)).unwrap_or_default();
            let v6 = e.ipv6.map(|a| format!("{a}/{}", e.prefix6)).unwrap_or_default();
            let mac = e.mac.map(|b| format!("{b:02x}")).join(":");
            (id.clone(), json!({"Name": m.name, "EndpointID": m.endpoint_id, "MacAddress": mac, "IPv4Address": v4, "IPv6Address": v6}))
        })
        .collect();
    json!({
        "Name": n.spec.name, "Id": n.id, "Created": n.created.to_string(), "Scope": n.scope, "Driver": n.spec.driver, "EnableIPv4": true,
        "EnableIPv6": n.spec.enable_ipv6, "IPAM": {"Driver": if n.spec.ipam_driver.is_empty() { "default" } else { &n.spec.ipam_driver }, "Options": if n.spec.ipam_options.is_empty() { Value::Null } else { json!(n.spec.ipam_options) }, "Config": pools},
        "Internal": n.spec.internal, "Attachable": n.spec.attachable, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": members, "Options": n.spec.options, "Labels": n.spec.labels,
    })
}

async fn create(call: Call) -> Outcome {
    let body = json_body(call.body).await?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let map = |v: &Value| serde_json::from_value(v.clone()).unwrap_or_default();
    let flag = |key: &str| body[key].as_bool().unwrap_or(false);
    let pools = body["IPAM"]["Config"].as_array().into_iter().flatten();
    let spec = NetworkSpec {
        name: text(&body["Name"]),
        driver: text(&body["Driver"]),
        internal: flag("Internal"),
        attachable: flag("Attachable"),
        enable_ipv6: flag("EnableIPv6"),
        labels: map(&body["Labels"]),
        options: map(&body["Options"]),
        ipam_driver: text(&body["IPAM"]["Driver"]),
        ipam_options: map(&body["IPAM"]["Options"]),
        ipam: pools
            .map(|p| IpamPool {
                subnet: text(&p["Subnet"]),
                ip_range: text(&p["IPRange"]),
                gateway: text(&p["Gateway"]),
                aux_addresses: map(&p["AuxiliaryAddresses"]),
            })
            .collect(),
    };
    let network = call.api.engine.network_create(spec).await?;
    Ok(created(&json!({"Id": network.id, "Warning": ""})))
}

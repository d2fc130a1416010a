//! What every cluster has: namespaces, default roles and bindings, priority classes, the service `kubernetes`.

use std::sync::Arc;

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use crate::admission::allocate::API_ADDRESS;
use crate::api::Api;
use crate::authz::defaults;
use crate::call::Call;
use crate::verbs::{create, update};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

async fn ensure(api: &Arc<Api>, group: &str, plural: &str, value: Value) -> Result<bool, Status> {
    let kind = api.builtin(group, plural)?;
    let namespace = object::namespace(&value).to_owned();
    let mut call = Call::internal(api, &kind, &namespace, object::name(&value), "bootstrap");
    if api.read(&call.key()).await?.is_some() {
        return Ok(false);
    }
    let value = call.check_object(value, Vec::new())?;
    match create::create(&mut call, value).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason == "AlreadyExists" => Ok(false),
        Err(status) => Err(status),
    }
}

/// Adds rules that a newer version of this program has and a stored default role lacks.
async fn refresh(api: &Arc<Api>, plural: &str, value: &Value) -> Result<(), Status> {
    let kind = api.builtin(RBAC, plural)?;
    let mut call = Call::internal(api, &kind, "", object::name(value), "bootstrap");
    update::change(&mut call, &update::Demand::default(), |_, old| {
        let mut new = old.clone();
        let wants = old["metadata"]["annotations"][AUTOUPDATE] == "true";
        if wants && value.get("aggregationRule").is_none() {
            let missing: Vec<Value> = object::list(value, "rules")
                .iter()
                .filter(|rule| !object::list(old, "rules").contains(rule))
                .cloned()
                .collect();
            if let (Some(rules), false) = (new["rules"].as_array_mut(), missing.is_empty()) {
                rules.extend(missing);
            }
        }
        Ok(update::Made::plain(new))
    })
    .await?;
    Ok(())
}

/// Makes what is missing.
///
/// # Errors
/// The store's.
pub async fn run(api: &Arc<Api>, port: u16, address: &str) -> Result<(), Status> {
    for name in NAMESPACES {
        let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(api, "", "namespaces", value).await?;
    }
    for role in defaults::cluster_roles() {
        if !ensure(api, RBAC, "clusterroles", role.clone()).await? {
            refresh(api, "clusterroles", &role).await?;
        }
    }
    for binding in defaults::cluster_role_bindings() {
        ensure(api, RBAC, "clusterrolebindings", binding).await?;
    }
    for (name, value, about) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": about,
        });
        ensure(api, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    service(api, port, address).await
}

async fn service(api: &Arc<Api>, port: u16, address: &str) -> Result<(), Status> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": API_ADDRESS.to_string(), "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
    });
    ensure(api, "", "services", service).await?;
    if address
        .parse::<std::net::Ipv4Addr>()
        .is_ok_and(|a| a.is_loopback())
    {
        // No pod could reach it there.
        return Ok(());
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    ensure(api, "discovery.k8s.io", "endpointslices", slice).await?;
    Ok(())
}

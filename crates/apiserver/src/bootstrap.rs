//! What every cluster has: namespaces, default roles and bindings, priority classes, the service `kubernetes`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use crate::admission::allocate::{API_ADDRESS, SERVICE_RANGE};
use crate::api::Api;
use crate::authz::defaults;
use crate::call::Call;
use crate::clock;
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
    cluster_info(api, port, address).await?;
    service(api, port, address).await
}

/// Where the cluster is and whom to believe, for machines that want to join and have no name yet.
async fn cluster_info(api: &Arc<Api>, port: u16, address: &str) -> Result<(), Status> {
    let url = match address.contains(':') {
        true => format!("https://[{address}]:{port}"),
        false => format!("https://{address}:{port}"),
    };
    let authority = STANDARD.encode(&api.authority.pem);
    let text = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: {url}\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\nusers: null\n"
    );
    let (namespace, name) = ("kube-public", "cluster-info");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kubeconfig": text},
        "metadata": {"name": name, "namespace": namespace}});
    if !ensure(api, "", "configmaps", map).await? {
        let kind = api.builtin("", "configmaps")?;
        let mut call = Call::internal(api, &kind, namespace, name, "bootstrap");
        update::change(&mut call, &update::Demand::default(), |_, old| {
            let mut new = old.clone();
            object::object_mut(&mut new, "data")
                .insert("kubeconfig".to_owned(), text.clone().into());
            Ok(update::Made::plain(new))
        })
        .await?;
    }
    let reader = "kubeadm:bootstrap-signer-clusterinfo";
    let meta = json!({"name": reader, "namespace": namespace});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta,
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}]});
    ensure(api, RBAC, "roles", role).await?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": reader},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"}]});
    ensure(api, RBAC, "rolebindings", binding).await?;
    Ok(())
}

async fn service(api: &Arc<Api>, port: u16, address: &str) -> Result<(), Status> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": API_ADDRESS.to_string(), "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
    });
    settle(api, "", "services", service).await?;
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [SERVICE_RANGE]},
    });
    ensure(api, "networking.k8s.io", "servicecidrs", range).await?;
    range_is_ready(api).await?;
    if address
        .parse::<std::net::Ipv4Addr>()
        .is_ok_and(|a| a.is_loopback())
    {
        // No pod could reach it there.
        return Ok(());
    }
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    settle(api, "", "endpoints", endpoints).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    settle(api, "discovery.k8s.io", "endpointslices", slice).await
}

/// Makes an object, or gives it what it should say: the server may have moved to another address.
async fn settle(api: &Arc<Api>, group: &str, plural: &str, value: Value) -> Result<(), Status> {
    if ensure(api, group, plural, value.clone()).await? {
        return Ok(());
    }
    let kind = api.builtin(group, plural)?;
    let (namespace, name) = (object::namespace(&value), object::name(&value));
    let mut call = Call::internal(api, &kind, namespace, name, "bootstrap");
    update::change(&mut call, &update::Demand::default(), |_, old| {
        let mut new = old.clone();
        for field in ["subsets", "endpoints", "ports"] {
            if let Some(wanted) = value.get(field) {
                new[field] = wanted.clone();
            }
        }
        if let Some(ports) = value["spec"].get("ports") {
            new["spec"]["ports"] = ports.clone();
        }
        Ok(update::Made::plain(new))
    })
    .await
    .map(drop)
}

/// The range is there from the start: nobody has to make it ready.
async fn range_is_ready(api: &Arc<Api>) -> Result<(), Status> {
    let kind = api.builtin("networking.k8s.io", "servicecidrs")?;
    let mut call = Call::internal(api, &kind, "", "kubernetes", "bootstrap");
    call.subresource = "status".to_owned();
    update::change(&mut call, &update::Demand::default(), |_, old| {
        let mut new = old.clone();
        if new["status"]["conditions"].is_null() {
            new["status"] = json!({"conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": clock::now_text(),
            }]});
        }
        Ok(update::Made::plain(new))
    })
    .await
    .map(drop)
}

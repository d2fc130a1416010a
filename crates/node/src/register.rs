//! The node's own object, its lease and its conditions.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};
use tokio::sync::Notify;
use wharf_client::{Error, Event, Informer, Patch, Query, Resource, Target};
use wharf_cri::v1;

use crate::Node;

const NODES: Resource = Resource::new("", "v1", "nodes");
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// For how long a lease counts, and how often it is renewed.
const LEASE_SECONDS: u64 = 40;
const RENEWAL: Duration = Duration::from_secs(10);
/// How often the status is written though nothing changed.
const STATUS_EVERY: u32 = 30;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Registers, then keeps lease and status fresh for ever.
pub(crate) async fn run(node: &Arc<Node>, port: u16) {
    while let Err(error) = register(node).await {
        tracing::warn!(%error, "register the node; trying again");
        tokio::time::sleep(TRY_AGAIN).await;
    }
    let changed = Arc::new(Notify::new());
    let informer = follow(node, changed.clone());
    let mut beats = 0_u32;
    loop {
        let own = informer.cache().all().pop();
        set_range(node, own.as_deref()).await;
        if let Err(error) = write_status(node, own.as_deref(), port).await {
            tracing::warn!(%error, "write the node's status");
        }
        loop {
            if let Err(error) = renew(node).await {
                tracing::warn!(%error, "renew the node's lease");
            }
            let beat = tokio::time::timeout(RENEWAL, changed.notified()).await;
            beats = beats.wrapping_add(1);
            if beat.is_ok() || beats.is_multiple_of(STATUS_EVERY) {
                break;
            }
        }
    }
}

/// Wakes when the range of pods' addresses appears.
fn follow(node: &Node, changed: Arc<Notify>) -> Informer<core::Node> {
    let query = Query {
        field_selector: format!("metadata.name={}", node.options.name),
        ..Query::all(NODES)
    };
    let informer: Informer<core::Node> = Informer::start(node.api.clone(), query, Vec::new());
    informer.listen(move |event| {
        if let Event::Applied { old, new } = event
            && old.as_deref().and_then(range) != range(new)
        {
            changed.notify_one();
        }
    });
    informer
}

fn range(node: &core::Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref()
}

async fn set_range(node: &Node, own: Option<&core::Node>) {
    let Some(range) = own.and_then(range) else {
        return;
    };
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: range.to_owned(),
            }),
        }),
    };
    if let Err(status) = node.cri.update_runtime_config(request).await {
        tracing::error!(range, error = status.message(), "give pods their addresses");
    }
}

async fn register(node: &Node) -> Result<(), Error> {
    let name = &node.options.name;
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch(),
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": arch(),
    });
    for (key, value) in &node.options.labels {
        labels[key] = value.clone().into();
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {},
        "status": status(node, None, 0, &Ok(None)),
    });
    match node.api.create(Target::new(NODES, "", ""), object).await {
        Err(error) if error.is_conflict() => {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            node.api.patch(Target::new(NODES, "", name), patch).await?;
            Ok(())
        }
        other => other.map(drop),
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn write_status(node: &Node, own: Option<&core::Node>, port: u16) -> Result<(), Error> {
    let answer = node.cri.status(v1::StatusRequest { verbose: false }).await;
    let runtime = answer
        .map(|answer| answer.status)
        .map_err(|status| status.message().to_owned());
    let status = status(node, own, port, &runtime);
    let target = Target::new(NODES, "", &node.options.name).with_subresource("status");
    node.api
        .patch(target, Patch::Strategic(json!({"status": status})))
        .await?;
    Ok(())
}

type Runtime = Result<Option<v1::RuntimeStatus>, String>;

fn status(node: &Node, own: Option<&core::Node>, port: u16, runtime: &Runtime) -> Value {
    let machine = &node.machine;
    let mut addresses: Vec<Value> = node
        .options
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.options.name}));
    let amounts = json!({
        "cpu": machine.cpus.to_string(), "memory": format!("{}Ki", machine.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", machine.disk_bytes / 1024),
        "pods": node.options.max_pods.to_string(), "hugepages-1Gi": "0", "hugepages-2Mi": "0",
    });
    json!({
        "addresses": addresses,
        "capacity": amounts, "allocatable": amounts,
        "conditions": conditions(own, runtime),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": machine.machine_id, "systemUUID": machine.machine_id, "bootID": machine.boot_id,
            "kernelVersion": machine.kernel, "osImage": machine.system,
            "containerRuntimeVersion": concat!("wharf://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": concat!("v1.37.0+wharf", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": arch(),
        },
    })
}

fn conditions(own: Option<&core::Node>, runtime: &Runtime) -> Vec<Value> {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let before = own.and_then(|own| own.status.as_ref()?.conditions.as_ref());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let same = before.and_then(|all| all.iter().find(|one| one.type_ == kind));
        let same = same.filter(|one| one.status == status);
        let since = same.and_then(|one| one.last_transition_time.as_ref());
        let since = since.map_or(now, |time| time.0);
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now.to_string(), "lastTransitionTime": since.to_string()})
    };
    let failing: Vec<String> = match runtime {
        Err(error) => vec![error.clone()],
        Ok(None) => vec!["container runtime status is not known yet".to_owned()],
        Ok(Some(status)) => status
            .conditions
            .iter()
            .filter(|one| !one.status)
            .map(|one| format!("{}: {} {}", one.r#type, one.reason, one.message))
            .collect(),
    };
    let ready = match failing.is_empty() {
        true => condition(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status",
        ),
        false => condition("Ready", "False", "KubeletNotReady", &failing.join(", ")),
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ready,
    ]
}

async fn renew(node: &Node) -> Result<(), Error> {
    let name = &node.options.name;
    let now = Timestamp::now();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()});
    let target = Target::new(LEASES, LEASE_NAMESPACE, name);
    match node
        .api
        .patch(target, Patch::Merge(json!({"spec": spec})))
        .await
    {
        Err(error) if error.is_not_found() => {
            let own = node.api.get(Target::new(NODES, "", name)).await?;
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": own["metadata"]["uid"]}]}});
            let made = node
                .api
                .create(Target::new(LEASES, LEASE_NAMESPACE, ""), lease)
                .await;
            made.map(drop)
        }
        other => other.map(drop),
    }
}

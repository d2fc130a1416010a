//! What pods get before they are validated: their account, priority, tolerations, and a namespace's default resources.

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::Attributes;
use super::Operation;
use crate::call::Call;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS: i64 = 3607;
const NOT_READY: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

fn forbidden(call: &Call, why: &str) -> Status {
    Status::forbidden("", "pods", &call.name, why)
}

/// Completes a new pod.
///
/// # Errors
/// 403 for an account or priority class that is not there.
pub async fn fill(call: &Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if !call.kind.resource.is("", "pods") || !call.subresource.is_empty() {
        return Ok(());
    }
    let Some(pod) = what.object.as_deref_mut() else {
        return Ok(());
    };
    if what.operation == Operation::Create {
        priority(call, pod)?;
        service_account(call, pod).await?;
        runtime_class(call, pod)?;
    }
    tolerations(pod);
    Ok(())
}

fn priority(call: &Call, pod: &mut Value) -> Result<(), Status> {
    let classes = call.api.builtin("scheduling.k8s.io", "priorityclasses")?;
    let name = object::text(pod, "spec.priorityClassName").to_owned();
    let class = if name.is_empty() {
        let all = classes.cache.all("");
        let mut defaults = all
            .iter()
            .map(|o| o.record.to_value())
            .filter(|c| object::flag(c, "globalDefault"));
        defaults.next()
    } else {
        let found = classes.cache.get(&classes.key("", &name));
        let found = found.ok_or_else(|| {
            forbidden(
                call,
                &format!("no PriorityClass with name {name} was found"),
            )
        })?;
        Some(found.record.to_value())
    };
    let value = class
        .as_ref()
        .and_then(|c| object::int(c, "value"))
        .unwrap_or_default();
    let policy = class
        .as_ref()
        .map_or("", |c| object::text(c, "preemptionPolicy"))
        .to_owned();
    let asked = object::int(pod, "spec.priority");
    if asked.is_some_and(|asked| asked != value) {
        return Err(forbidden(
            call,
            &format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
                asked.unwrap_or_default()
            ),
        ));
    }
    let spec = object::object_mut(pod, "spec");
    if let Some(class) = class.filter(|_| name.is_empty()) {
        spec.insert("priorityClassName".to_owned(), object::name(&class).into());
    }
    spec.insert("priority".to_owned(), value.into());
    let policy = if policy.is_empty() {
        "PreemptLowerPriority"
    } else {
        &policy
    };
    object::fill(spec, "preemptionPolicy", policy);
    Ok(())
}

fn runtime_class(call: &Call, pod: &mut Value) -> Result<(), Status> {
    let name = object::text(pod, "spec.runtimeClassName").to_owned();
    if name.is_empty() {
        return Ok(());
    }
    let classes = call.api.builtin("node.k8s.io", "runtimeclasses")?;
    let Some(class) = classes.cache.get(&classes.key("", &name)) else {
        return Err(forbidden(
            call,
            &format!("pod rejected: RuntimeClass {name:?} not found"),
        ));
    };
    if let Some(overhead) = object::at(&class.record.to_value(), "overhead.podFixed") {
        object::object_mut(pod, "spec").insert("overhead".to_owned(), overhead.clone());
    }
    Ok(())
}

fn tolerations(pod: &mut Value) {
    let spec = object::object_mut(pod, "spec");
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for key in NOT_READY {
        let tolerated = list.iter().any(|t| {
            let same = t["key"] == key || object::text(t, "key").is_empty();
            same && matches!(object::text(t, "effect"), "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

async fn service_account(call: &Call, pod: &mut Value) -> Result<(), Status> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let spec = object::object_mut(pod, "spec");
    object::fill(spec, "serviceAccountName", "default");
    let name = spec["serviceAccountName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    spec.insert("serviceAccount".to_owned(), name.clone().into());
    let accounts = call.api.builtin("", "serviceaccounts")?;
    let account = call.api.read(&accounts.key(&call.namespace, &name)).await?;
    let Some(account) = account else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            call.namespace
        );
        return Err(forbidden(call, &why));
    };
    let account = account.to_value();
    if object::list(pod, "spec.imagePullSecrets").is_empty()
        && let Some(secrets) = account.get("imagePullSecrets")
    {
        object::object_mut(pod, "spec").insert("imagePullSecrets".to_owned(), secrets.clone());
    }
    let automount = match (
        &pod["spec"]["automountServiceAccountToken"],
        &account["automountServiceAccountToken"],
    ) {
        (Value::Bool(own), _) => *own,
        (_, Value::Bool(accounts)) => *accounts,
        _ => true,
    };
    if automount {
        mount_token(pod);
    }
    Ok(())
}

/// A projected volume with token, authority and namespace, mounted in every container that has nothing there.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", crate::random::suffix(5));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            if object::list(container, "volumeMounts")
                .iter()
                .any(|m| m["mountPath"] == MOUNT_PATH)
            {
                continue;
            }
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if !mounted {
        return;
    }
    let volumes = object::object_mut(pod, "spec")
        .entry("volumes")
        .or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

//! Defaults inside pods and pod templates: containers, probes, volumes.

use serde_json::{Map, Value, json};

use super::{fill_empty, object, text};
use crate::object::fill;

type Fields = Map<String, Value>;

pub(super) fn rule(name: &str, map: &mut Fields) -> bool {
    match name {
        "Pod" => pod(map),
        "PodSpec" => pod_spec(map),
        "PodTemplateSpec" => fill(map, "metadata", json!({})),
        "Container" | "EphemeralContainer" => container(map),
        "ContainerPort" => fill_empty(map, "protocol", "TCP"),
        "Probe" => probe(map),
        "HTTPGetAction" => {
            fill_empty(map, "path", "/");
            fill_empty(map, "scheme", "HTTP");
        }
        "GRPCAction" => fill(map, "service", ""),
        "ObjectFieldSelector" => fill_empty(map, "apiVersion", "v1"),
        "ResourceFieldSelector" => fill(map, "divisor", "0"),
        "ServiceAccountTokenProjection" => fill(map, "expirationSeconds", 3_600),
        "FileKeySelector" => fill(map, "optional", false),
        "Volume" => volume(map),
        _ => return volume_source(name, map),
    }
    true
}

fn pod(map: &mut Fields) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            requests_from_limits(container);
            if on_host {
                host_ports(container);
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = object(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = super::made(resources, "requests") {
        for (name, amount) in limits {
            fill(requests, &name, amount);
        }
    }
}

/// On the host's network a port is the same inside and outside.
fn host_ports(container: &mut Fields) {
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let number = port["containerPort"].clone();
        if let (Some(port), false) = (port.as_object_mut(), number.is_null()) {
            fill_empty(port, "hostPort", number);
        }
    }
}

fn pod_spec(map: &mut Fields) {
    fill_empty(map, "dnsPolicy", "ClusterFirst");
    fill_empty(map, "restartPolicy", "Always");
    fill(map, "securityContext", json!({}));
    fill(map, "terminationGracePeriodSeconds", 30);
    fill_empty(map, "schedulerName", "default-scheduler");
    // The old name of serviceAccountName is kept in step with it.
    let account = match text(map, "serviceAccountName") {
        "" => text(map, "serviceAccount"),
        account => account,
    }
    .to_owned();
    if !account.is_empty() {
        map.insert("serviceAccountName".to_owned(), account.clone().into());
        map.insert("serviceAccount".to_owned(), account.into());
    }
}

fn container(map: &mut Fields) {
    let policy = pull_policy(text(map, "image"));
    fill_empty(map, "imagePullPolicy", policy);
    fill_empty(map, "terminationMessagePath", "/dev/termination-log");
    fill_empty(map, "terminationMessagePolicy", "File");
    fill(map, "resources", json!({}));
}

/// `Always` for an image whose tag is `latest`, given or meant.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let (name, digest) = last
        .split_once('@')
        .map_or((last, false), |(name, _)| (name, true));
    match name.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest && !image.is_empty() => "Always",
        // A reference that can't be parsed has no tag at all.
        _ => "IfNotPresent",
    }
}

fn probe(map: &mut Fields) {
    fill_empty(map, "timeoutSeconds", 1);
    fill_empty(map, "periodSeconds", 10);
    fill_empty(map, "successThreshold", 1);
    fill_empty(map, "failureThreshold", 3);
}

fn volume(map: &mut Fields) {
    if !map
        .iter()
        .any(|(name, value)| name != "name" && !value.is_null())
    {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(image) = object(map, "image") {
        let policy = pull_policy(text(image, "reference"));
        fill_empty(image, "pullPolicy", policy);
    }
}

fn volume_source(name: &str, map: &mut Fields) -> bool {
    match name {
        "SecretVolumeSource"
        | "ConfigMapVolumeSource"
        | "DownwardAPIVolumeSource"
        | "ProjectedVolumeSource" => {
            fill(map, "defaultMode", 0o644);
        }
        "HostPathVolumeSource" => fill(map, "type", ""),
        "ISCSIVolumeSource" | "ISCSIPersistentVolumeSource" => {
            fill_empty(map, "iscsiInterface", "default")
        }
        "RBDVolumeSource" | "RBDPersistentVolumeSource" => {
            fill_empty(map, "pool", "rbd");
            fill_empty(map, "user", "admin");
            fill_empty(map, "keyring", "/etc/ceph/keyring");
        }
        "ScaleIOVolumeSource" | "ScaleIOPersistentVolumeSource" => {
            fill_empty(map, "storageMode", "ThinProvisioned");
            fill_empty(map, "fsType", "xfs");
        }
        "AzureDiskVolumeSource" => {
            fill(map, "cachingMode", "ReadWrite");
            fill(map, "fsType", "ext4");
            fill(map, "readOnly", false);
            fill(map, "kind", "Shared");
        }
        _ => return false,
    }
    true
}

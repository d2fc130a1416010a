//! Pod security standards: `baseline` and `restricted`, enforced, warned of or noted as a namespace's labels say.

use serde_json::Value;
use wharf_kube_types::{Status, object};

use super::{Attributes, Operation};
use crate::call::Call;

const PREFIX: &str = "pod-security.kubernetes.io/";
const SAFE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];
const SAFE_VOLUMES: [&str; 9] = [
    "name",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| object::list(spec, list))
}

fn quoted(names: &[String]) -> String {
    let one = |name: &String| format!("{name:?}");
    names.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Names of the containers that break a rule, in words.
fn breaking(spec: &Value, rule: impl Fn(&Value) -> bool) -> Option<String> {
    let names: Vec<String> = containers(spec)
        .filter(|c| rule(c))
        .map(|c| object::text(c, "name").to_owned())
        .collect();
    match names.len() {
        0 => None,
        1 => Some(format!("container {}", quoted(&names))),
        _ => Some(format!("containers {}", quoted(&names))),
    }
}

fn capabilities<'a>(container: &'a Value, field: &str) -> Vec<&'a str> {
    let path = format!("securityContext.capabilities.{field}");
    object::list(container, &path)
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

fn baseline(pod: &Value, faults: &mut Vec<String>) {
    let spec = &pod["spec"];
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if !shared.is_empty() {
        faults.push(format!("host namespaces ({})", shared.join(", ")));
    }
    if let Some(who) = breaking(spec, |c| object::flag(c, "securityContext.privileged")) {
        faults.push(format!(
            "privileged ({who} must not set securityContext.privileged=true)"
        ));
    }
    let unsafe_added = |c: &Value| {
        capabilities(c, "add")
            .iter()
            .any(|cap| !SAFE_CAPABILITIES.contains(cap))
    };
    if let Some(who) = breaking(spec, unsafe_added) {
        let mut added: Vec<String> = containers(spec)
            .flat_map(|c| capabilities(c, "add"))
            .filter(|cap| !SAFE_CAPABILITIES.contains(cap))
            .map(str::to_owned)
            .collect();
        added.sort();
        added.dedup();
        faults.push(format!("non-default capabilities ({who} must not include {} in securityContext.capabilities.add)", quoted(&added)));
    }
    let paths: Vec<String> = object::list(spec, "volumes")
        .iter()
        .filter(|v| v.get("hostPath").is_some_and(|p| !p.is_null()))
        .map(|v| object::text(v, "name").to_owned())
        .collect();
    if !paths.is_empty() {
        let word = if paths.len() == 1 {
            "volume"
        } else {
            "volumes"
        };
        faults.push(format!("hostPath volumes ({word} {})", quoted(&paths)));
    }
    let ports = |c: &Value| {
        object::list(c, "ports")
            .iter()
            .any(|p| object::int(p, "hostPort").unwrap_or_default() != 0)
    };
    if let Some(who) = breaking(spec, ports) {
        faults.push(format!("hostPort ({who} uses hostPorts)"));
    }
    let masked =
        |c: &Value| !matches!(object::text(c, "securityContext.procMount"), "" | "Default");
    if let Some(who) = breaking(spec, masked) {
        faults.push(format!(
            "procMount ({who} must not set securityContext.procMount to \"Unmasked\")"
        ));
    }
    profiles(spec, faults);
}

fn profiles(spec: &Value, faults: &mut Vec<String>) {
    let unconfined =
        |c: &Value| object::text(c, "securityContext.seccompProfile.type") == "Unconfined";
    if object::text(spec, "securityContext.seccompProfile.type") == "Unconfined" {
        faults.push("seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")".to_owned());
    } else if let Some(who) = breaking(spec, unconfined) {
        faults.push(format!("seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"));
    }
    let sysctls: Vec<String> = object::list(spec, "securityContext.sysctls")
        .iter()
        .map(|s| object::text(s, "name").to_owned())
        .filter(|name| !SAFE_SYSCTLS.contains(&name.as_str()))
        .collect();
    if !sysctls.is_empty() {
        faults.push(format!("forbidden sysctls ({})", sysctls.join(", ")));
    }
}

fn restricted(pod: &Value, faults: &mut Vec<String>) {
    let spec = &pod["spec"];
    if object::text(spec, "os.name") == "windows" {
        return;
    }
    if let Some(who) = breaking(spec, |c| {
        c["securityContext"]["allowPrivilegeEscalation"] != false
    }) {
        faults.push(format!("allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"));
    }
    if let Some(who) = breaking(spec, |c| !capabilities(c, "drop").contains(&"ALL")) {
        faults.push(format!(
            "unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"
        ));
    }
    let added = |c: &Value| {
        capabilities(c, "add")
            .iter()
            .any(|cap| *cap != "NET_BIND_SERVICE")
    };
    if let Some(who) = breaking(spec, added) {
        faults.push(format!("unrestricted capabilities ({who} must not include other than \"NET_BIND_SERVICE\" in securityContext.capabilities.add)"));
    }
    let odd: Vec<String> = object::list(spec, "volumes")
        .iter()
        .filter(|v| {
            v.as_object().is_some_and(|v| {
                v.keys()
                    .any(|k| !SAFE_VOLUMES.contains(&k.as_str()) && k != "hostPath" && k != "image")
            })
        })
        .map(|v| object::text(v, "name").to_owned())
        .collect();
    if !odd.is_empty() {
        faults.push(format!(
            "restricted volume types (volumes {})",
            quoted(&odd)
        ));
    }
    let whole = spec["securityContext"]["runAsNonRoot"] == true;
    let root = |c: &Value| match &c["securityContext"]["runAsNonRoot"] {
        Value::Bool(own) => !own,
        _ => !whole,
    };
    if let Some(who) = breaking(spec, root) {
        faults.push(format!(
            "runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"
        ));
    }
    let zero = |c: &Value| object::int(c, "securityContext.runAsUser") == Some(0);
    if object::int(spec, "securityContext.runAsUser") == Some(0) {
        faults.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned());
    } else if let Some(who) = breaking(spec, zero) {
        faults.push(format!("runAsUser=0 ({who} must not set runAsUser=0)"));
    }
    let confined = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let whole = confined(object::text(spec, "securityContext.seccompProfile.type"));
    let bare = |c: &Value| match object::text(c, "securityContext.seccompProfile.type") {
        "" => !whole,
        own => !confined(own),
    };
    if let Some(who) = breaking(spec, bare) {
        faults.push(format!("seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"));
    }
}

fn faults(level: &str, pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if matches!(level, "baseline" | "restricted") {
        baseline(pod, &mut out);
    }
    if level == "restricted" {
        restricted(pod, &mut out);
    }
    out
}

/// The pod that an object is or makes.
fn pod_of(call: &Call, value: &Value) -> Option<Value> {
    let resource = &call.kind.resource;
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => Some(value.clone()),
        ("", "podtemplates") => value.get("template").cloned(),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => object::at(value, "spec.template").cloned(),
        ("batch", "cronjobs") => object::at(value, "spec.jobTemplate.spec.template").cloned(),
        _ => None,
    }
}

/// Refuses or warns of pods by the labels of their namespace.
///
/// # Errors
/// 403 with all violations.
pub fn check(call: &mut Call, what: &Attributes<'_>) -> Result<(), Status> {
    let resource = &call.kind.resource;
    let Some(value) = what
        .object
        .as_deref()
        .filter(|_| !resource.custom && resource.namespaced)
    else {
        return Ok(());
    };
    if what.operation == Operation::Delete
        || !matches!(call.subresource.as_str(), "" | "ephemeralcontainers")
    {
        return Ok(());
    }
    let namespaces = call.api.builtin("", "namespaces")?;
    let Some(namespace) = namespaces.cache.get(&namespaces.key("", &call.namespace)) else {
        return Ok(());
    };
    let level = |mode: &str| {
        namespace
            .label(&format!("{PREFIX}{mode}"))
            .unwrap_or_default()
            .to_owned()
    };
    let (enforce, warn) = (level("enforce"), level("warn"));
    if enforce.is_empty() && warn.is_empty() {
        return Ok(());
    }
    let Some(pod) = pod_of(call, value) else {
        return Ok(());
    };
    let same = what
        .old
        .and_then(|old| pod_of(call, old))
        .is_some_and(|old| old["spec"] == pod["spec"]);
    if same {
        return Ok(());
    }
    let version = |mode: &str| match level(&format!("{mode}-version")) {
        version if version.is_empty() => "latest".to_owned(),
        version => version,
    };
    let broken = faults(&enforce, &pod);
    if !broken.is_empty() && resource.is("", "pods") {
        let why = format!(
            "violates PodSecurity \"{enforce}:{}\": {}",
            version("enforce"),
            broken.join(", ")
        );
        return Err(Status::forbidden("", "pods", &call.name, &why));
    }
    let warned = faults(&warn, &pod);
    if !warned.is_empty() {
        call.warnings.push(format!(
            "would violate PodSecurity \"{warn}:{}\": {}",
            version("warn"),
            warned.join(", ")
        ));
    } else if !broken.is_empty() {
        call.warnings.push(format!(
            "would violate PodSecurity \"{enforce}:{}\": {}",
            version("enforce"),
            broken.join(", ")
        ));
    }
    Ok(())
}

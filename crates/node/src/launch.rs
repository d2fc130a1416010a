//! Pods and containers in the words of the Container Runtime Interface.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use v1::security_profile::ProfileType;
use wharf_cri::v1;

use crate::Node;
use crate::expand::expand;
use crate::part::{self, Part, Role};
use crate::resources;
use crate::seen::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};

/// What a process may not see of the kernel.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
/// More of it.
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
/// What it may not change.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn spec(pod: &Pod) -> PodSpec {
    pod.spec.clone().unwrap_or_default()
}

/// Folder of a pod's logs.
pub(crate) fn log_folder(node: &Node, pod: &Pod) -> PathBuf {
    let name = format!(
        "{}_{}_{}",
        part::namespace(pod),
        part::name(pod),
        part::uid(pod)
    );
    node.options.logs.join(name)
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    let own = pod.metadata.labels.iter().flatten();
    let mut labels: HashMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert(POD_NAME.to_owned(), part::name(pod).to_owned());
    labels.insert(POD_NAMESPACE.to_owned(), part::namespace(pod).to_owned());
    labels.insert(POD_UID.to_owned(), part::uid(pod).to_owned());
    labels
}

/// What a pod is called inside.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = spec(pod);
    let name = spec
        .hostname_override
        .or(spec.hostname)
        .filter(|name| !name.is_empty());
    let mut name = name.unwrap_or_else(|| part::name(pod).to_owned());
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The sandbox of a pod.
pub(crate) fn sandbox(node: &Node, pod: &Pod, attempt: u32) -> v1::PodSandboxConfig {
    let spec = spec(pod);
    let host_network = spec.host_network == Some(true);
    let annotations = pod.metadata.annotations.iter().flatten();
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: part::name(pod).to_owned(),
            uid: part::uid(pod).to_owned(),
            namespace: part::namespace(pod).to_owned(),
            attempt,
        }),
        hostname: if host_network {
            String::new()
        } else {
            hostname(pod)
        },
        log_directory: log_folder(node, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns(node, pod, &spec)),
        port_mappings: if host_network {
            Vec::new()
        } else {
            ports(&spec)
        },
        labels: labels(pod),
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(&node.options.cgroup_root, pod),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(&spec)),
                privileged: spec
                    .containers
                    .iter()
                    .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true)),
                ..Default::default()
            }),
            sysctls: sysctls(spec.security_context.as_ref()),
            resources: Some(resources::pod_total(pod)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn sysctls(context: Option<&PodSecurityContext>) -> HashMap<String, String> {
    let all = context.and_then(|context| context.sysctls.as_ref());
    all.into_iter()
        .flatten()
        .map(|one| (one.name.clone(), one.value.clone()))
        .collect()
}

fn namespaces(spec: &PodSpec) -> v1::NamespaceOption {
    let node_or = |host: Option<bool>, other| match host {
        Some(true) => v1::NamespaceMode::Node,
        _ => other,
    };
    let pid = match spec.share_process_namespace {
        Some(true) => v1::NamespaceMode::Pod,
        _ => v1::NamespaceMode::Container,
    };
    v1::NamespaceOption {
        network: node_or(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: node_or(spec.host_pid, pid).into(),
        ipc: node_or(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        target_id: String::new(),
        userns_options: (spec.host_users == Some(false)).then(|| v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            ..Default::default()
        }),
    }
}

/// Where names are asked for.
fn dns(node: &Node, pod: &Pod, spec: &PodSpec) -> v1::DnsConfig {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let host = read_resolver(&text);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let by_cluster = match policy {
        "ClusterFirst" => spec.host_network != Some(true),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = match (policy, by_cluster, node.options.cluster_dns) {
        ("None", _, _) => v1::DnsConfig::default(),
        (_, true, Some(server)) => {
            let domain = &node.options.cluster_domain;
            let mut searches = vec![
                format!("{}.svc.{domain}", part::namespace(pod)),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            searches.extend(host.searches);
            v1::DnsConfig {
                servers: vec![server.to_string()],
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ => host,
    };
    if let Some(own) = &spec.dns_config {
        let add = |to: &mut Vec<String>, more: &Option<Vec<String>>| {
            for one in more.iter().flatten().filter(|one| !one.is_empty()) {
                if !to.contains(one) {
                    to.push(one.clone());
                }
            }
        };
        add(&mut config.servers, &own.nameservers);
        add(&mut config.searches, &own.searches);
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            config
                .options
                .retain(|old| old.split(':').next() != Some(name));
            config.options.push(match option.value.as_deref() {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    config
}

fn read_resolver(text: &str) -> v1::DnsConfig {
    let mut config = v1::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => config.searches = words.collect(),
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

fn ports(spec: &PodSpec) -> Vec<v1::PortMapping> {
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let with_host = ports.filter(|port| port.host_port.is_some_and(|port| port > 0));
    with_host
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// All that a container's configuration is made of.
pub(crate) struct Launch<'a> {
    pub node: &'a Node,
    pub pod: &'a Pod,
    pub part: &'a Part,
    pub attempt: u32,
    /// Reference of the image that is here.
    pub image: &'a str,
    pub env: Vec<v1::KeyValue>,
    pub mounts: Vec<v1::Mount>,
    /// Whose processes an ephemeral container sees, by ID.
    pub target: Option<String>,
}

/// The configuration of a container.
pub(crate) fn container(launch: Launch<'_>) -> Result<v1::ContainerConfig, String> {
    let (pod, container) = (launch.pod, &launch.part.container);
    let look_up = |name: &str| {
        let found = launch.env.iter().find(|one| one.key == name)?;
        Some(String::from_utf8_lossy(&found.value).into_owned())
    };
    let words = |words: &Option<Vec<String>>| -> Vec<String> {
        words
            .iter()
            .flatten()
            .map(|word| expand(word, look_up))
            .collect()
    };
    let mut labels = labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let memory = i64::try_from(launch.node.machine.memory_bytes).unwrap_or(i64::MAX);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: launch.attempt,
        }),
        image: Some(v1::ImageSpec {
            image: launch.image.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        log_path: format!("{}/{}.log", container.name, launch.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::linux(pod, container, memory)),
            security_context: Some(security(pod, launch.part, launch.target)?),
        }),
        stop_signal: stop_signal(container),
        envs: launch.env,
        mounts: launch.mounts,
        ..Default::default()
    })
}

fn stop_signal(container: &Container) -> i32 {
    let asked = container
        .lifecycle
        .as_ref()
        .and_then(|life| life.stop_signal.as_deref());
    let known = asked.and_then(|name| v1::Signal::from_str_name(&format!("SIGNAL_{name}")));
    known.unwrap_or(v1::Signal::RuntimeDefault).into()
}

fn security(
    pod: &Pod,
    part: &Part,
    target: Option<String>,
) -> Result<v1::LinuxContainerSecurityContext, String> {
    let spec = spec(pod);
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = part.container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let mut namespace_options = namespaces(&spec);
    if let (Role::Ephemeral, Some(target)) = (part.role, target) {
        namespace_options.pid = v1::NamespaceMode::Target.into();
        namespace_options.target_id = target;
    }
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |all: &[&str]| -> Vec<String> {
        if unmasked || privileged {
            Vec::new()
        } else {
            all.iter().map(|p| (*p).to_owned()).collect()
        }
    };
    let mut masked = paths(&MASKED);
    masked.extend(paths(&MASKED_SYS));
    let mut groups = of_pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(of_pod.fs_group);
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged,
        namespace_options: Some(namespace_options),
        run_as_user: number(own.run_as_user.or(of_pod.run_as_user)),
        run_as_group: number(
            own.run_as_group
                .or(of_pod.run_as_group)
                .filter(|_| own.run_as_user.or(of_pod.run_as_user).is_some()),
        ),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups,
        supplemental_groups_policy: match of_pod.supplemental_groups_policy.as_deref() {
            Some("Strict") => v1::SupplementalGroupsPolicy::Strict,
            _ => v1::SupplementalGroupsPolicy::Merge,
        }
        .into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: masked,
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(&own, &of_pod, privileged)),
        ..Default::default()
    })
}

fn number(value: Option<i64>) -> Option<v1::Int64Value> {
    value.map(|value| v1::Int64Value { value })
}

fn capabilities(asked: &Capabilities) -> v1::Capability {
    v1::Capability {
        add_capabilities: asked.add.clone().unwrap_or_default(),
        drop_capabilities: asked.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn seccomp(
    own: &SecurityContext,
    of_pod: &PodSecurityContext,
    privileged: bool,
) -> v1::SecurityProfile {
    let profile: Option<&SeccompProfile> = own
        .seccomp_profile
        .as_ref()
        .or(of_pod.seccomp_profile.as_ref());
    let kind = match profile.map(|profile| profile.type_.as_str()) {
        _ if privileged => ProfileType::Unconfined,
        Some("RuntimeDefault") => ProfileType::RuntimeDefault,
        Some("Localhost") => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    let file = profile.and_then(|profile| profile.localhost_profile.clone());
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: file
            .map(|file| format!("/var/lib/kubelet/seccomp/{file}"))
            .unwrap_or_default(),
    }
}

/// A port of a container by number or name.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|one| one.name.as_deref() == Some(name))
            .map(|one| one.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resolvers_are_read() {
        let config =
            read_resolver("nameserver 1.1.1.1\nsearch a b\noptions ndots:2\nnameserver 2.2.2.2\n");
        assert_eq!(config.servers, ["1.1.1.1", "2.2.2.2"]);
        assert_eq!((config.searches.len(), config.options.len()), (2, 1));
    }

    #[test]
    fn a_container_s_context_goes_before_its_pod_s() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 9, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 5, "allowPrivilegeEscalation": false}}]}}))
        .unwrap();
        let part = &part::parts(&pod)[0];
        let context = security(&pod, part, None).unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 5);
        assert_eq!(context.run_as_group.unwrap().value, 2);
        assert_eq!(context.supplemental_groups, [9]);
        assert!(context.no_new_privs && !context.masked_paths.is_empty());
        assert_eq!(
            context.seccomp.unwrap().profile_type(),
            ProfileType::RuntimeDefault
        );
    }

    #[test]
    fn ports_have_numbers_and_names() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "ports": [{"name": "http", "containerPort": 80}]}),
        )
        .unwrap();
        assert_eq!(
            port(&container, &IntOrString::String("http".into())),
            Some(80)
        );
        assert_eq!(port(&container, &IntOrString::Int(8080)), Some(8080));
        assert_eq!(port(&container, &IntOrString::String("x".into())), None);
    }
}

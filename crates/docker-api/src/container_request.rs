//! The body of a creation → the engine's own terms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use wharf_engine::{
    ContainerSpec, DeviceMapping, EndpointSpec, Healthcheck, MountKind, MountSpec, PortBinding,
    Protocol, Resources, RestartPolicy, Ulimit,
};

use crate::answer::{Outcome, Refusal};
use crate::request::parse;

/// Key of what is only shown again.
pub const ISOLATION: &str = "Isolation";

/// Lists and maps that clients send as null.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

macro_rules! wire {
    ($(#[$meta:meta])* $name:ident { $($field:ident : $type:ty = $key:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        struct $name { $(#[serde(rename = $key, deserialize_with = "nullable")] $field: $type),* }
    };
}

type Set = BTreeMap<String, Value>;
type Map = BTreeMap<String, String>;

wire!(
    /// Docker's Config with HostConfig and NetworkingConfig beside it.
    Body {
        hostname: String = "Hostname", domainname: String = "Domainname", user: String = "User",
        attach_stdin: bool = "AttachStdin", attach_stdout: bool = "AttachStdout", attach_stderr: bool = "AttachStderr",
        exposed_ports: Set = "ExposedPorts", tty: bool = "Tty", open_stdin: bool = "OpenStdin", stdin_once: bool = "StdinOnce",
        env: Vec<String> = "Env", cmd: Option<Words> = "Cmd", entrypoint: Option<Words> = "Entrypoint",
        healthcheck: Option<Health> = "Healthcheck", image: String = "Image", volumes: Set = "Volumes",
        working_dir: String = "WorkingDir", network_disabled: bool = "NetworkDisabled", mac_address: String = "MacAddress",
        labels: Map = "Labels", stop_signal: String = "StopSignal", stop_timeout: Option<i64> = "StopTimeout",
        shell: Option<Vec<String>> = "Shell", on_build: Vec<String> = "OnBuild", host: Host = "HostConfig", networking: Networking = "NetworkingConfig",
    }
);

wire!(Health { test: Vec<String> = "Test", interval: i64 = "Interval", timeout: i64 = "Timeout", start_period: i64 = "StartPeriod",
    start_interval: i64 = "StartInterval", retries: i64 = "Retries" });

wire!(Networking { endpoints: BTreeMap<String, Option<Value>> = "EndpointsConfig" });

wire!(
    Host {
        binds: Vec<String> = "Binds", container_id_file: String = "ContainerIDFile", log: Log = "LogConfig", network_mode: String = "NetworkMode",
        ports: BTreeMap<String, Option<Vec<Port>>> = "PortBindings", restart: Restart = "RestartPolicy", auto_remove: bool = "AutoRemove",
        volume_driver: String = "VolumeDriver", volumes_from: Vec<String> = "VolumesFrom", mounts: Vec<Mount> = "Mounts",
        console_size: Option<(u16, u16)> = "ConsoleSize", annotations: Map = "Annotations", cap_add: Vec<String> = "CapAdd",
        cap_drop: Vec<String> = "CapDrop", cgroupns_mode: String = "CgroupnsMode", dns: Vec<String> = "Dns", dns_options: Vec<String> = "DnsOptions",
        dns_search: Vec<String> = "DnsSearch", extra_hosts: Vec<String> = "ExtraHosts", group_add: Vec<String> = "GroupAdd",
        ipc_mode: String = "IpcMode", links: Vec<String> = "Links", oom_score_adj: i64 = "OomScoreAdj", pid_mode: String = "PidMode",
        privileged: bool = "Privileged", publish_all: bool = "PublishAllPorts", read_only: bool = "ReadonlyRootfs",
        security_opt: Vec<String> = "SecurityOpt", storage_opt: Map = "StorageOpt", tmpfs: Map = "Tmpfs", uts_mode: String = "UTSMode",
        userns_mode: String = "UsernsMode", shm_size: u64 = "ShmSize", sysctls: Map = "Sysctls", runtime: String = "Runtime", isolation: String = "Isolation",
        masked_paths: Option<Vec<String>> = "MaskedPaths", readonly_paths: Option<Vec<String>> = "ReadonlyPaths", init: bool = "Init",
        cgroup_parent: String = "CgroupParent", devices: Vec<Device> = "Devices", device_rules: Vec<String> = "DeviceCgroupRules",
        ulimits: Vec<Limit> = "Ulimits", oom_kill_disable: bool = "OomKillDisable",
    }
);

wire!(Log {
    driver: String = "Type",
    options: Map = "Config"
});
wire!(Port {
    host_ip: String = "HostIp",
    host_port: String = "HostPort"
});
wire!(Restart {
    name: String = "Name",
    retries: i64 = "MaximumRetryCount"
});
wire!(Device {
    host: String = "PathOnHost",
    inside: String = "PathInContainer",
    permissions: String = "CgroupPermissions"
});
wire!(Limit {
    name: String = "Name",
    soft: i64 = "Soft",
    hard: i64 = "Hard"
});
wire!(Mount {
    kind: String = "Type",
    source: String = "Source",
    target: String = "Target",
    read_only: bool = "ReadOnly",
    consistency: String = "Consistency",
    bind: Value = "BindOptions",
    volume: Value = "VolumeOptions",
    tmpfs: Value = "TmpfsOptions"
});
wire!(Limits { shares: u64 = "CpuShares", quota: i64 = "CpuQuota", period: u64 = "CpuPeriod", nano: i64 = "NanoCpus",
    rt_period: u64 = "CpuRealtimePeriod", rt_runtime: i64 = "CpuRealtimeRuntime", cpus: String = "CpusetCpus", mems: String = "CpusetMems",
    memory: i64 = "Memory", reservation: i64 = "MemoryReservation", swap: i64 = "MemorySwap", swappiness: Option<i64> = "MemorySwappiness",
    kernel: i64 = "KernelMemory", pids: i64 = "PidsLimit", weight: u16 = "BlkioWeight", read_bps: Vec<Rate> = "BlkioDeviceReadBps",
    write_bps: Vec<Rate> = "BlkioDeviceWriteBps", read_iops: Vec<Rate> = "BlkioDeviceReadIOps", write_iops: Vec<Rate> = "BlkioDeviceWriteIOps" });
wire!(Rate {
    path: String = "Path",
    rate: u64 = "Rate"
});

/// A list of words, or one string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        }
    }
}

/// Reads the body of a creation.
pub fn spec(body: Value) -> Outcome<ContainerSpec> {
    let resources = resources(&body["HostConfig"])?;
    let mut body: Body = parse(body)?;
    let host = std::mem::take(&mut body.host);
    let mut spec = ContainerSpec {
        resources,
        ..ContainerSpec::default()
    };
    fill_config(&mut spec, body)?;
    fill_host(&mut spec, host)?;
    Ok(spec)
}

fn fill_config(spec: &mut ContainerSpec, body: Body) -> Outcome<()> {
    spec.image = body.image;
    spec.hostname = some(body.hostname);
    spec.domainname = some(body.domainname);
    spec.user = body.user;
    spec.working_dir = body.working_dir;
    spec.entrypoint = body.entrypoint.map(Words::list);
    spec.cmd = body.cmd.map(Words::list);
    spec.env = body.env;
    spec.labels = body.labels;
    spec.tty = body.tty;
    spec.open_stdin = body.open_stdin;
    spec.stdin_once = body.stdin_once;
    spec.attach_stdin = body.attach_stdin;
    spec.attach_stdout = body.attach_stdout;
    spec.attach_stderr = body.attach_stderr;
    spec.exposed_ports = body
        .exposed_ports
        .keys()
        .map(|text| port(text))
        .collect::<Outcome<_>>()?;
    spec.volumes = body.volumes.into_keys().collect();
    spec.stop_signal = some(body.stop_signal);
    spec.stop_timeout_s = body.stop_timeout;
    spec.network_disabled = body.network_disabled;
    spec.mac_address = some(body.mac_address);
    spec.shell = body.shell;
    spec.on_build = body.on_build;
    spec.healthcheck = body.healthcheck.map(|h| Healthcheck {
        test: h.test,
        interval_ns: h.interval,
        timeout_ns: h.timeout,
        start_period_ns: h.start_period,
        start_interval_ns: h.start_interval,
        retries: h.retries,
    });
    for (name, value) in body.networking.endpoints {
        spec.endpoints
            .insert(name, endpoint(value.unwrap_or_default())?);
    }
    Ok(())
}

fn fill_host(spec: &mut ContainerSpec, mut host: Host) -> Outcome<()> {
    fill_isolation(spec, &mut host);
    spec.binds = host.binds;
    spec.mounts = host.mounts.into_iter().map(mount).collect::<Outcome<_>>()?;
    spec.tmpfs = host.tmpfs;
    spec.volumes_from = host.volumes_from;
    spec.volume_driver = host.volume_driver;
    spec.network_mode = host.network_mode;
    spec.links = host.links;
    for (text, bindings) in host.ports {
        for binding in bindings.unwrap_or_else(|| vec![Port::default()]) {
            spec.port_bindings.push(port_binding(&text, &binding)?);
        }
    }
    spec.publish_all = host.publish_all;
    spec.dns = host
        .dns
        .iter()
        .map(|text| address(text))
        .collect::<Outcome<_>>()?;
    spec.dns_search = host.dns_search;
    spec.dns_options = host.dns_options;
    spec.extra_hosts = host.extra_hosts;
    spec.init = host.init;
    spec.runtime = runtime(host.runtime)?;
    if !host.isolation.is_empty() {
        spec.extra
            .insert(ISOLATION.into(), isolation(host.isolation)?.into());
    }
    spec.auto_remove = host.auto_remove;
    spec.restart = restart(&host.restart.name, host.restart.retries)?;
    if !host.log.driver.is_empty() {
        spec.log.driver = host.log.driver;
    }
    spec.log.options = host.log.options;
    spec.container_id_file = host.container_id_file;
    spec.storage_opt = host.storage_opt;
    spec.annotations = host.annotations;
    spec.console_size = host
        .console_size
        .filter(|(height, width)| *height > 0 && *width > 0);
    Ok(())
}

/// There is one runtime, which answers to the name of the one it replaces too.
fn runtime(name: String) -> Outcome<Option<String>> {
    match name.as_str() {
        "" | "wharf" | "runc" | "io.containerd.runc.v2" => Ok(some(name)),
        _ => Err(Refusal::bad(format!(
            "unknown or invalid runtime name: {name}"
        ))),
    }
}

fn isolation(name: String) -> Outcome<String> {
    match name.as_str() {
        "default" => Ok(name),
        _ => Err(Refusal::bad(format!(
            "invalid isolation {name:?} on linux: only \"default\" is known"
        ))),
    }
}

fn port_binding(text: &str, binding: &Port) -> Outcome<PortBinding> {
    let (container_port, protocol) = port(text)?;
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Refusal::bad(format!("invalid IP address: {text}")))?,
        ),
    };
    Ok(PortBinding {
        container_port,
        protocol,
        host_ip,
        host_ports: port_range(&binding.host_port)?,
    })
}

/// Namespaces, capabilities, devices: what a container may see and do.
fn fill_isolation(spec: &mut ContainerSpec, host: &mut Host) {
    use std::mem::take;
    spec.pid_mode = take(&mut host.pid_mode);
    spec.ipc_mode = take(&mut host.ipc_mode);
    spec.uts_mode = take(&mut host.uts_mode);
    spec.userns_mode = take(&mut host.userns_mode);
    spec.cgroupns_mode = take(&mut host.cgroupns_mode);
    spec.cgroup_parent = take(&mut host.cgroup_parent);
    spec.privileged = host.privileged;
    spec.read_only_rootfs = host.read_only;
    spec.cap_add = take(&mut host.cap_add);
    spec.cap_drop = take(&mut host.cap_drop);
    spec.group_add = take(&mut host.group_add);
    spec.security_opt = take(&mut host.security_opt);
    spec.masked_paths = take(&mut host.masked_paths);
    spec.readonly_paths = take(&mut host.readonly_paths);
    spec.sysctls = take(&mut host.sysctls);
    spec.ulimits = take(&mut host.ulimits)
        .into_iter()
        .map(|l| Ulimit {
            name: l.name,
            soft: l.soft,
            hard: l.hard,
        })
        .collect();
    spec.devices = take(&mut host.devices)
        .into_iter()
        .map(|d| DeviceMapping {
            host_path: d.host.into(),
            container_path: d.inside.into(),
            permissions: d.permissions,
        })
        .collect();
    spec.device_cgroup_rules = take(&mut host.device_rules);
    spec.oom_score_adj = host.oom_score_adj;
    spec.oom_kill_disable = host.oom_kill_disable;
    spec.shm_size_bytes = Some(host.shm_size).filter(|size| *size > 0);
}

/// Limits of a HostConfig, or of an update.
pub fn resources(host: &Value) -> Outcome<Resources> {
    let limits: Limits = parse(if host.is_null() {
        Value::Object(Default::default())
    } else {
        host.clone()
    })?;
    let rates = |list: Vec<Rate>| list.into_iter().map(|r| (r.path, r.rate)).collect();
    let number = |n: i64| Some(n).filter(|n| *n != 0);
    Ok(Resources {
        cpu_shares: Some(limits.shares).filter(|n| *n != 0),
        cpu_quota_us: number(limits.quota),
        cpu_period_us: Some(limits.period).filter(|n| *n != 0),
        nano_cpus: number(limits.nano),
        cpu_rt_period_us: Some(limits.rt_period).filter(|n| *n != 0),
        cpu_rt_runtime_us: number(limits.rt_runtime),
        cpuset_cpus: limits.cpus,
        cpuset_mems: limits.mems,
        memory_bytes: number(limits.memory),
        memory_reservation_bytes: number(limits.reservation),
        memory_swap_bytes: number(limits.swap),
        memory_swappiness: limits.swappiness.and_then(|n| u64::try_from(n).ok()),
        kernel_memory_bytes: number(limits.kernel),
        pids_limit: number(limits.pids),
        blkio_weight: Some(limits.weight).filter(|n| *n != 0),
        blkio_weight_device: Vec::new(),
        device_read_bps: rates(limits.read_bps),
        device_write_bps: rates(limits.write_bps),
        device_read_iops: rates(limits.read_iops),
        device_write_iops: rates(limits.write_iops),
    })
}

/// A restart policy by name.
pub fn restart(name: &str, retries: i64) -> Outcome<RestartPolicy> {
    let max_retries = u32::try_from(retries).map_err(|_| {
        Refusal::bad("invalid restart policy: maximum retry count cannot be negative")
    })?;
    match name {
        "on-failure" => Ok(RestartPolicy::OnFailure { max_retries }),
        _ if retries != 0 => Err(Refusal::bad(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        )),
        "" | "no" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        other => Err(Refusal::bad(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

/// Docker's EndpointSettings.
pub fn endpoint(value: Value) -> Outcome<EndpointSpec> {
    let text = |v: &Value| v.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let list = |v: &Value| {
        v.as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let ipam = &value["IPAMConfig"];
    let v4 = text(&ipam["IPv4Address"])
        .map(|t| {
            t.parse()
                .map_err(|_| Refusal::bad(format!("invalid IPv4 address: {t}")))
        })
        .transpose()?;
    let v6 = text(&ipam["IPv6Address"])
        .map(|t| {
            t.parse()
                .map_err(|_| Refusal::bad(format!("invalid IPv6 address: {t}")))
        })
        .transpose()?;
    Ok(EndpointSpec {
        aliases: list(&value["Aliases"]),
        link_local_ips: list(&ipam["LinkLocalIPs"]),
        links: list(&value["Links"]),
        ipv4_address: v4,
        ipv6_address: v6,
        mac_address: text(&value["MacAddress"]),
        driver_opts: serde_json::from_value(value["DriverOpts"].clone()).unwrap_or_default(),
        gw_priority: value["GwPriority"].as_i64().unwrap_or(0),
    })
}

fn mount(mount: Mount) -> Outcome<MountSpec> {
    let kind = match mount.kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        "image" => MountKind::Image,
        other => return Err(Refusal::bad(format!("mount type unknown: {other:?}"))),
    };
    let strings = |v: &Value| serde_json::from_value(v.clone()).unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(MountSpec {
        kind,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        consistency: mount.consistency,
        propagation: mount.bind["Propagation"]
            .as_str()
            .filter(|p| !p.is_empty())
            .map(str::to_owned),
        non_recursive: mount.bind["NonRecursive"].as_bool().unwrap_or(false),
        create_mountpoint: mount.bind["CreateMountpoint"].as_bool().unwrap_or(false),
        no_copy: mount.volume["NoCopy"].as_bool().unwrap_or(false),
        labels: strings(&mount.volume["Labels"]),
        driver: text(&mount.volume["DriverConfig"]["Name"]),
        driver_options: strings(&mount.volume["DriverConfig"]["Options"]),
        subpath: text(&mount.volume["Subpath"]),
        tmpfs_size_bytes: mount.tmpfs["SizeBytes"].as_i64(),
        tmpfs_mode: mount.tmpfs["Mode"]
            .as_u64()
            .and_then(|m| u32::try_from(m).ok())
            .filter(|m| *m != 0),
        tmpfs_options: Vec::new(),
    })
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn address(text: &str) -> Outcome<IpAddr> {
    text.parse()
        .map_err(|_| Refusal::bad(format!("{text} is not an ip address")))
}

/// `80/tcp`.
pub fn port(text: &str) -> Outcome<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => {
            return Err(Refusal::bad(format!(
                "invalid port specification: {text}: unknown protocol {other:?}"
            )));
        }
    };
    let number = number
        .parse()
        .map_err(|_| Refusal::bad(format!("invalid port specification: {text:?}")))?;
    Ok((number, protocol))
}

fn port_range(text: &str) -> Outcome<Option<(u16, u16)>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(Some((first, last))),
        _ => Err(Refusal::bad(format!(
            "invalid port specification: {text:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_of_the_docker_cli() {
        let spec = spec(json!({
            "Image": "nginx", "Cmd": null, "Env": null, "ExposedPorts": {"80/tcp": {}}, "Labels": {}, "Tty": true,
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}, "Memory": 104857600, "MemorySwappiness": -1,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
                "Binds": null, "ConsoleSize": [0, 0], "Init": null, "OomKillDisable": null, "PidsLimit": null},
            "NetworkingConfig": {"EndpointsConfig": {}},
        }))
        .unwrap();
        assert_eq!(spec.port_bindings[0].host_ports, Some((8080, 8080)));
        assert_eq!(spec.resources.memory_bytes, Some(104_857_600));
        assert_eq!(spec.restart, RestartPolicy::OnFailure { max_retries: 3 });
        assert!(spec.tty && spec.cmd.is_none() && spec.console_size.is_none());
        assert!(restart("nonsense", 0).is_err());
        assert!(port("x/tcp").is_err());
    }
}

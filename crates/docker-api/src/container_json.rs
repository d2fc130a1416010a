//! A container as Docker's clients read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wharf_engine::{
    Container, ContainerSpec, EndpointSpec, Engine, MountKind, MountPoint, NetworkAttachment,
    RestartPolicy, State,
};

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Path and arguments in one line, an argument of several words in quotes.
fn command(c: &Container) -> String {
    let mut line = c.path.clone();
    for arg in &c.args {
        let quote = if arg.contains(' ') { "'" } else { "" };
        line.push_str(&format!(" {quote}{arg}{quote}"));
    }
    line
}

/// An entry of the list.
pub fn summary(engine: &Engine, c: &Container) -> Value {
    let mut names = vec![format!("/{}", c.name)];
    names.extend(c.link_names.iter().cloned());
    let shown_image = if engine
        .images()
        .resolve(&c.spec.image)
        .is_ok_and(|i| i.id == c.image_id)
    {
        &c.spec.image
    } else {
        &c.image_id
    };
    json!({
        "Id": c.id, "Names": names, "Image": shown_image, "ImageID": c.image_id, "Command": command(c),
        "Created": c.created.as_second(), "Ports": port_list(c), "Labels": c.spec.labels, "State": c.state.status.as_str(),
        "Status": status(&c.state, Timestamp::now()), "HostConfig": {"NetworkMode": network_mode(&c.spec)},
        "NetworkSettings": {"Networks": networks(engine, c)}, "Mounts": mounts(&c.mounts),
    })
}

/// `Up 5 seconds (healthy)`, `Exited (0) 3 minutes ago`.
fn status(state: &State, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| {
        time.map_or_else(
            || "Less than a second".into(),
            |t| human(now.as_second() - t.as_second()),
        )
    };
    match state.status.as_str() {
        "running" => match &state.health {
            Some(health) if health.status == "starting" => {
                format!("Up {} (health: starting)", since(state.started_at))
            }
            Some(health) => format!("Up {} ({})", since(state.started_at), health.status),
            None => format!("Up {}", since(state.started_at)),
        },
        "paused" => format!("Up {} (Paused)", since(state.started_at)),
        "restarting" => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        "exited" => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        "removing" => "Removal In Progress".into(),
        "dead" => "Dead".into(),
        _ => "Created".into(),
    }
}

fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

fn port_list(c: &Container) -> Vec<Value> {
    let mut list: Vec<Value> = c
        .ports
        .iter()
        .map(|p| json!({"IP": p.host_ip.to_string(), "PrivatePort": p.target_port, "PublicPort": p.host_port, "Type": p.protocol.to_string()}))
        .collect();
    let open = c.state.pid != 0 && !matches!(c.spec.network_mode.as_str(), "host" | "none");
    for (port, protocol) in c.spec.exposed_ports.iter().filter(|_| open) {
        if !c
            .ports
            .iter()
            .any(|p| p.target_port == *port && p.protocol == *protocol)
        {
            list.push(json!({"PrivatePort": port, "Type": protocol.to_string()}));
        }
    }
    list
}

fn port_map(c: &Container) -> Value {
    let mut map: BTreeMap<String, Value> = BTreeMap::new();
    if c.state.pid != 0 {
        for (port, protocol) in &c.spec.exposed_ports {
            map.insert(format!("{port}/{protocol}"), Value::Null);
        }
    }
    for p in &c.ports {
        let entry = map
            .entry(format!("{}/{}", p.target_port, p.protocol))
            .or_insert(Value::Null);
        let binding = json!({"HostIp": p.host_ip.to_string(), "HostPort": p.host_port.to_string()});
        match entry.as_array_mut() {
            Some(list) => list.push(binding),
            None => *entry = json!([binding]),
        }
    }
    json!(map)
}

fn network_mode(spec: &ContainerSpec) -> &str {
    if spec.network_mode == "default" {
        "bridge"
    } else {
        &spec.network_mode
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// What was asked of a network's addresses; nothing: null.
fn ipam(spec: &EndpointSpec) -> Value {
    let mut asked = Map::new();
    if let Some(address) = spec.ipv4_address {
        asked.insert("IPv4Address".into(), json!(address.to_string()));
    }
    if let Some(address) = spec.ipv6_address {
        asked.insert("IPv6Address".into(), json!(address.to_string()));
    }
    if !spec.link_local_ips.is_empty() {
        asked.insert("LinkLocalIPs".into(), json!(spec.link_local_ips));
    }
    if asked.is_empty() {
        Value::Null
    } else {
        Value::Object(asked)
    }
}

fn network(engine: &Engine, a: &NetworkAttachment) -> Value {
    let e = a.endpoint.as_ref();
    let text = |t: Option<String>| t.unwrap_or_default();
    // Only one of a container's networks has its default route; the others have a gateway all the same.
    let gateway = |in_use: Option<String>, v6: bool| {
        in_use.or_else(|| {
            let network = engine.network(&a.network_id).ok().filter(|_| e.is_some())?;
            let mut gateways = network.spec.ipam.into_iter().map(|pool| pool.gateway);
            gateways.find(|gateway| !gateway.is_empty() && gateway.contains(':') == v6)
        })
    };
    let ipam = ipam(&a.spec);
    let list = |names: &[String]| {
        if names.is_empty() {
            Value::Null
        } else {
            json!(names)
        }
    };
    json!({
        "IPAMConfig": ipam, "Links": list(&a.spec.links), "Aliases": list(&a.spec.aliases), "MacAddress": text(e.map(|e| mac(e.mac)).or_else(|| a.spec.mac_address.clone())),
        "DriverOpts": if a.spec.driver_opts.is_empty() { Value::Null } else { json!(a.spec.driver_opts) }, "GwPriority": a.spec.gw_priority, "NetworkID": a.network_id, "EndpointID": a.endpoint_id,
        "Gateway": text(gateway(e.and_then(|e| e.gateway).map(|x| x.to_string()), false)), "IPAddress": text(e.and_then(|e| e.ipv4).map(|x| x.to_string())),
        "IPPrefixLen": e.filter(|e| e.ipv4.is_some()).map_or(0, |e| e.prefix), "IPv6Gateway": text(gateway(e.and_then(|e| e.gateway6).map(|x| x.to_string()), true)),
        "GlobalIPv6Address": text(e.and_then(|e| e.ipv6).map(|x| x.to_string())), "GlobalIPv6PrefixLen": e.filter(|e| e.ipv6.is_some()).map_or(0, |e| e.prefix6),
        "DNSNames": list(&a.dns_names),
    })
}

fn networks(engine: &Engine, c: &Container) -> Value {
    Value::Object(
        c.networks
            .iter()
            .map(|(name, a)| (name.clone(), network(engine, a)))
            .collect::<Map<_, _>>(),
    )
}

fn mounts(points: &[MountPoint]) -> Vec<Value> {
    points
        .iter()
        .map(|m| {
            let mut value = json!({
                "Type": m.kind, "Source": m.source, "Destination": m.destination, "Mode": m.mode, "RW": m.read_write, "Propagation": m.propagation,
            });
            if m.kind == MountKind::Volume {
                value["Name"] = json!(m.name);
                value["Driver"] = json!(m.driver);
            }
            value
        })
        .collect()
}

/// All of it.
pub fn inspect(engine: &Engine, c: &Container) -> Value {
    let driver = c.snapshot.as_ref().map(|s| {
        let lower: Vec<String> = s.lower.iter().map(|p| p.display().to_string()).collect();
        json!({"LowerDir": lower.join(":"), "UpperDir": s.upper, "WorkDir": s.work, "MergedDir": s.upper.with_file_name("merged")})
    });
    json!({
        "Id": c.id, "Created": c.created.to_string(), "Path": c.path, "Args": c.args, "State": state(&c.state), "Image": c.image_id,
        "ResolvConfPath": c.resolv_conf_path, "HostnamePath": c.hostname_path, "HostsPath": c.hosts_path, "LogPath": c.log_path,
        "Name": format!("/{}", c.name), "RestartCount": c.restart_count, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": if c.exec_ids.is_empty() { Value::Null } else { json!(c.exec_ids) },
        "HostConfig": host_config(&c.spec), "GraphDriver": {"Data": driver, "Name": "overlay2"}, "Mounts": mounts(&c.mounts),
        "Config": config(c), "NetworkSettings": network_settings(engine, c),
    })
}

fn state(s: &State) -> Value {
    let time = |t: Option<Timestamp>| t.map_or_else(|| NEVER.to_owned(), |t| t.to_string());
    let status = s.status.as_str();
    let mut value = json!({
        "Status": status, "Running": matches!(status, "running" | "paused"), "Paused": status == "paused", "Restarting": status == "restarting",
        "OOMKilled": s.oom_killed, "Dead": status == "dead", "Pid": s.pid, "ExitCode": s.exit_code, "Error": s.error,
        "StartedAt": time(s.started_at), "FinishedAt": time(s.finished_at),
    });
    if let Some(health) = &s.health {
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|p| json!({"Start": p.start.to_string(), "End": p.end.to_string(), "ExitCode": p.exit_code, "Output": p.output}))
            .collect();
        value["Health"] =
            json!({"Status": health.status, "FailingStreak": health.failing_streak, "Log": log});
    }
    value
}

fn network_settings(engine: &Engine, c: &Container) -> Value {
    let bridge = engine
        .network("bridge")
        .ok()
        .and_then(|n| c.networks.get(&n.spec.name))
        .map(|a| network(engine, a))
        .unwrap_or_default();
    let of = |key: &str| bridge.get(key).cloned().unwrap_or_else(|| json!(""));
    let number = |key: &str| bridge.get(key).cloned().unwrap_or_else(|| json!(0));
    json!({
        "Bridge": "", "SandboxID": c.sandbox_id, "SandboxKey": c.sandbox_key, "Ports": port_map(c), "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
        "EndpointID": of("EndpointID"), "Gateway": of("Gateway"), "GlobalIPv6Address": of("GlobalIPv6Address"),
        "GlobalIPv6PrefixLen": number("GlobalIPv6PrefixLen"), "IPAddress": of("IPAddress"), "IPPrefixLen": number("IPPrefixLen"),
        "IPv6Gateway": of("IPv6Gateway"), "MacAddress": of("MacAddress"), "Networks": networks(engine, c),
    })
}

fn set(keys: impl Iterator<Item = String>) -> Value {
    let map: Map<String, Value> = keys.map(|key| (key, json!({}))).collect();
    if map.is_empty() {
        Value::Null
    } else {
        Value::Object(map)
    }
}

fn config(c: &Container) -> Value {
    let s = &c.spec;
    let hostname = s
        .hostname
        .clone()
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| c.id[..12].to_owned());
    let mut value = json!({
        "Hostname": hostname, "Domainname": s.domainname.clone().unwrap_or_default(), "User": s.user, "AttachStdin": s.attach_stdin,
        "AttachStdout": s.attach_stdout, "AttachStderr": s.attach_stderr, "Tty": s.tty, "OpenStdin": s.open_stdin, "StdinOnce": s.stdin_once,
        "Env": s.env, "Cmd": s.cmd, "Image": s.image, "Volumes": set(s.volumes.iter().cloned()), "WorkingDir": s.working_dir,
        "Entrypoint": s.entrypoint, "OnBuild": if s.on_build.is_empty() { Value::Null } else { json!(s.on_build) }, "Labels": s.labels,
    });
    if !s.exposed_ports.is_empty() {
        value["ExposedPorts"] = set(s
            .exposed_ports
            .iter()
            .map(|(port, protocol)| format!("{port}/{protocol}")));
    }
    if let Some(h) = &s.healthcheck {
        value["Healthcheck"] = json!({"Test": h.test, "Interval": h.interval_ns, "Timeout": h.timeout_ns, "StartPeriod": h.start_period_ns,
            "StartInterval": h.start_interval_ns, "Retries": h.retries});
        // What was not asked for is not shown.
        if let Some(map) = value["Healthcheck"].as_object_mut() {
            map.retain(|_, v| *v != json!(0));
        }
    }
    for (key, field) in [
        ("StopSignal", json!(s.stop_signal)),
        ("StopTimeout", json!(s.stop_timeout_s)),
        ("Shell", json!(s.shell)),
    ] {
        if !field.is_null() {
            value[key] = field;
        }
    }
    value
}

fn host_config(s: &ContainerSpec) -> Value {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for b in &s.port_bindings {
        let ports = b.host_ports.map_or_else(String::new, |(a, z)| {
            if a == z {
                a.to_string()
            } else {
                format!("{a}-{z}")
            }
        });
        let ip = b.host_ip.map_or_else(String::new, |ip| ip.to_string());
        bindings
            .entry(format!("{}/{}", b.container_port, b.protocol))
            .or_default()
            .push(json!({"HostIp": ip, "HostPort": ports}));
    }
    let (policy, retries) = match s.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries),
    };
    let r = &s.resources;
    let or_null = |list: &[String]| {
        if list.is_empty() {
            Value::Null
        } else {
            json!(list)
        }
    };
    let rates = |list: &[(String, u64)]| {
        if list.is_empty() {
            Value::Null
        } else {
            json!(
                list.iter()
                    .map(|(p, r)| json!({"Path": p, "Rate": r}))
                    .collect::<Vec<_>>()
            )
        }
    };
    let mut value = json!({
        "Binds": or_null(&s.binds), "ContainerIDFile": s.container_id_file, "LogConfig": {"Type": s.log.driver, "Config": s.log.options},
        "NetworkMode": network_mode(s), "PortBindings": bindings, "RestartPolicy": {"Name": policy, "MaximumRetryCount": retries},
        "AutoRemove": s.auto_remove, "VolumeDriver": s.volume_driver, "VolumesFrom": or_null(&s.volumes_from),
        "ConsoleSize": s.console_size.map_or([0, 0], |(h, w)| [h, w]), "CapAdd": or_null(&s.cap_add), "CapDrop": or_null(&s.cap_drop),
        "CgroupnsMode": if s.cgroupns_mode.is_empty() { "host" } else { &s.cgroupns_mode }, "Dns": s.dns, "DnsOptions": s.dns_options, "DnsSearch": s.dns_search,
        "ExtraHosts": or_null(&s.extra_hosts), "GroupAdd": or_null(&s.group_add), "IpcMode": if s.ipc_mode.is_empty() { "private" } else { &s.ipc_mode },
        "Cgroup": "", "Links": or_null(&s.links), "OomScoreAdj": s.oom_score_adj, "PidMode": s.pid_mode, "Privileged": s.privileged,
        "PublishAllPorts": s.publish_all, "ReadonlyRootfs": s.read_only_rootfs, "SecurityOpt": or_null(&s.security_opt), "UTSMode": s.uts_mode,
        "UsernsMode": s.userns_mode, "ShmSize": s.shm_size_bytes.unwrap_or(64 * 1024 * 1024), "Runtime": s.runtime.clone().unwrap_or_else(|| "wharf".into()),
        "Isolation": s.extra.get(crate::container_request::ISOLATION).cloned().unwrap_or_else(|| "".into()), "Tmpfs": s.tmpfs, "Sysctls": s.sysctls, "Init": s.init, "CgroupParent": s.cgroup_parent,
    });
    let limits = json!({
        "CpuShares": r.cpu_shares.unwrap_or(0), "Memory": r.memory_bytes.unwrap_or(0), "NanoCpus": r.nano_cpus.unwrap_or(0),
        "BlkioWeight": r.blkio_weight.unwrap_or(0), "BlkioWeightDevice": [], "BlkioDeviceReadBps": rates(&r.device_read_bps),
        "BlkioDeviceWriteBps": rates(&r.device_write_bps), "BlkioDeviceReadIOps": rates(&r.device_read_iops), "BlkioDeviceWriteIOps": rates(&r.device_write_iops),
        "CpuPeriod": r.cpu_period_us.unwrap_or(0), "CpuQuota": r.cpu_quota_us.unwrap_or(0), "CpuRealtimePeriod": r.cpu_rt_period_us.unwrap_or(0),
        "CpuRealtimeRuntime": r.cpu_rt_runtime_us.unwrap_or(0), "CpusetCpus": r.cpuset_cpus, "CpusetMems": r.cpuset_mems,
        "Devices": s.devices.iter().map(|d| json!({"PathOnHost": d.host_path, "PathInContainer": d.container_path, "CgroupPermissions": d.permissions})).collect::<Vec<_>>(),
        "DeviceCgroupRules": or_null(&s.device_cgroup_rules), "DeviceRequests": null, "MemoryReservation": r.memory_reservation_bytes.unwrap_or(0),
        "MemorySwap": r.memory_swap_bytes.or(r.memory_bytes.map(|m| m * 2)).unwrap_or(0), "MemorySwappiness": r.memory_swappiness, "OomKillDisable": s.oom_kill_disable,
        "PidsLimit": r.pids_limit, "Ulimits": s.ulimits.iter().map(|u| json!({"Name": u.name, "Soft": u.soft, "Hard": u.hard})).collect::<Vec<_>>(),
        "MaskedPaths": s.masked_paths, "ReadonlyPaths": s.readonly_paths,
    });
    if let (Some(all), Value::Object(limits)) = (value.as_object_mut(), limits) {
        all.extend(limits);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_by_docker() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }
}

//! The OCI configuration of a container: Docker's defaults and what was asked for.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::index::{Entry, lock};
use crate::record::Record;
use crate::spec::MountKind;
use crate::users::User;
use crate::{Engine, Error, Kind, Labels, Resources, Result, capabilities};

const SHM_DEFAULT_BYTES: u64 = 64 * 1024 * 1024;
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the init lies in a container that runs one.
const INIT: &str = "/sbin/docker-init";

/// An empty file at the root by which programs know that they run in a container.
pub(crate) const MARK: &str = ".dockerenv";

/// Where every container has something mounted: made in its snapshot if its image has no such place.
pub(crate) const MOUNTPOINTS: &[&str] = &[
    MARK,
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
];
const MASKED: &[&str] = &[
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
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Facts that are known only at the start.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub user: User,
    pub hostname: String,
    /// Links' variables.
    pub link_env: Vec<String>,
    /// PIDs of containers whose namespaces are joined, by mode (`pid`, `ipc`, `net`).
    pub joined: std::collections::BTreeMap<&'static str, i32>,
    /// The init's file, when the container runs one.
    pub init: Option<std::path::PathBuf>,
    /// By name of the volume, where it is more than a folder.
    pub volume_options: std::collections::BTreeMap<String, Labels>,
    pub folder: &'a Path,
}

impl Engine {
    /// Puts the configuration together.
    pub(crate) fn bundle(&self, entry: &Entry, facts: &Facts<'_>) -> Result<Spec> {
        let record = entry.record().clone();
        let spec = &record.spec;
        let mut annotations: Labels = spec.annotations.clone();
        annotations.retain(|key, _| !key.is_empty());
        let value = json!({
            "ociVersion": "1.2.0",
            // A pod's own namespaces have their names; the host's are not to be changed.
            "hostname": spec.pod.is_none().then_some(&facts.hostname),
            "domainname": spec.domainname.clone().unwrap_or_default(),
            "annotations": annotations,
            "root": {"path": "rootfs", "readonly": spec.read_only_rootfs},
            "process": process(&record, facts),
            "mounts": mounts(&record, facts),
            "linux": self.linux(&record, facts)?,
        });
        serde_json::from_value(value).map_err(|e| {
            Error::with(
                Kind::Internal,
                format!(
                    "the configuration of container {} is malformed: {e}",
                    record.id
                ),
                e,
            )
        })
    }

    /// Docker's default profile; kept for the next container, which mostly has the same capabilities.
    fn default_seccomp(&self, capabilities: &[String]) -> Result<Value> {
        let mut kept = lock(&self.inner.seccomp);
        if let Some((known, profile)) = kept.as_ref()
            && known == capabilities
        {
            return Ok(profile.clone());
        }
        let profile = serde_json::to_value(wharf_runtime::default_seccomp(capabilities))
            .map_err(|e| Error::with(Kind::Internal, "write the default seccomp profile", e))?;
        *kept = Some((capabilities.to_vec(), profile.clone()));
        Ok(profile)
    }

    fn linux(&self, record: &Record, facts: &Facts<'_>) -> Result<Value> {
        let spec = &record.spec;
        let parent = match spec.cgroup_parent.trim_matches('/') {
            "" => self.inner.config.cgroup_parent.trim_matches('/'),
            parent => parent,
        };
        let unconfined = |option: &str| {
            spec.security_opt
                .iter()
                .any(|o| o.replacen('=', ":", 1) == option)
        };
        let (masked, read_only) = if spec.privileged || unconfined("systempaths:unconfined") {
            (Vec::new(), Vec::new())
        } else {
            (
                spec.masked_paths.clone().unwrap_or_default(),
                spec.readonly_paths.clone().unwrap_or_default(),
            )
        };
        let mut sysctls = spec.sysctls.clone();
        if !matches!(spec.network_mode.as_str(), "host")
            && !spec.network_mode.starts_with("container:")
            && spec.pod.is_none()
        {
            // Any port, and pings, without rights: what Docker gives since 20.10.
            sysctls
                .entry("net.ipv4.ip_unprivileged_port_start".into())
                .or_insert_with(|| "0".into());
            sysctls
                .entry("net.ipv4.ping_group_range".into())
                .or_insert_with(|| "0 2147483647".into());
        }
        let mut linux = json!({
            "cgroupsPath": format!("/{parent}/{}", record.id),
            "namespaces": namespaces(record, facts),
            "resources": resources(spec),
            "maskedPaths": masked,
            "readonlyPaths": read_only,
            "sysctl": sysctls,
            "devices": devices(record)?,
        });
        let profile = spec
            .security_opt
            .iter()
            .find_map(|o| o.strip_prefix("seccomp=").or(o.strip_prefix("seccomp:")));
        match profile {
            _ if spec.privileged => {}
            Some("unconfined") => {}
            Some(custom) if custom != "builtin" => {
                linux["seccomp"] = crate::seccomp_profile::parse(custom, &capabilities::of(spec))?
            }
            _ => linux["seccomp"] = self.default_seccomp(&capabilities::of(spec))?,
        }
        Ok(linux)
    }
}

/// Paths of /proc and /sys that are hidden or read-only unless told otherwise.
pub(crate) fn protect_system_paths(spec: &mut crate::ContainerSpec) {
    if !spec.privileged {
        let list = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
        spec.masked_paths.get_or_insert_with(|| list(MASKED));
        spec.readonly_paths.get_or_insert_with(|| list(READ_ONLY));
    }
}

fn process(record: &Record, facts: &Facts<'_>) -> Value {
    let spec = &record.spec;
    let set = capabilities::of(spec);
    let effective = if facts.user.uid == 0 {
        set.clone()
    } else {
        Vec::new()
    };
    let mut process = json!({
        "terminal": spec.tty,
        "user": {"uid": facts.user.uid, "gid": facts.user.gid, "additionalGids": facts.user.additional_gids},
        "args": args(record, facts),
        "env": env(record, facts),
        "cwd": if spec.working_dir.is_empty() { "/" } else { &spec.working_dir },
        "capabilities": {"bounding": set, "permitted": effective, "effective": effective},
        "noNewPrivileges": spec.security_opt.iter().any(|o| o == "no-new-privileges" || o == "no-new-privileges:true" || o == "no-new-privileges=true"),
        "rlimits": rlimits(spec),
    });
    if let Some(profile) = spec.pod.as_ref().and_then(|pod| pod.apparmor.as_ref()) {
        process["apparmorProfile"] = json!(profile);
    }
    if spec.oom_score_adj != 0 {
        process["oomScoreAdj"] = json!(spec.oom_score_adj);
    }
    process
}

fn args(record: &Record, facts: &Facts<'_>) -> Vec<String> {
    let init = facts.init.iter().flat_map(|_| [INIT, "--"]);
    init.map(str::to_owned)
        .chain(record.argv.iter().cloned())
        .collect()
}

/// Resource limits of the container's processes, execs included.
pub(crate) fn rlimits(spec: &crate::ContainerSpec) -> Vec<Value> {
    let value = |n: i64| if n < 0 { u64::MAX } else { n.unsigned_abs() };
    spec.ulimits
        .iter()
        .map(|limit| {
            json!({"type": format!("RLIMIT_{}", limit.name.to_uppercase()), "soft": value(limit.soft), "hard": value(limit.hard)})
        })
        .collect()
}

fn env(record: &Record, facts: &Facts<'_>) -> Vec<String> {
    let spec = &record.spec;
    let mut env = Vec::new();
    let has = |key: &str| {
        spec.env.iter().any(|entry| {
            entry
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('='))
        })
    };
    if !has("PATH") {
        env.push(PATH_DEFAULT.to_owned());
    }
    if !has("HOSTNAME") {
        env.push(format!("HOSTNAME={}", facts.hostname));
    }
    if spec.tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(facts.link_env.iter().cloned());
    // A bare name only kept the image's variable away.
    env.extend(spec.env.iter().filter(|entry| entry.contains('=')).cloned());
    if !has("HOME") {
        env.push(format!(
            "HOME={}",
            facts.user.home.as_deref().unwrap_or("/")
        ));
    }
    env
}

fn namespaces(record: &Record, facts: &Facts<'_>) -> Vec<Value> {
    let spec = &record.spec;
    let mut list = vec![json!({"type": "mount"})];
    if let Some(pod) = &spec.pod {
        list.extend(pod_namespaces(pod, facts));
        list.extend(wants_cgroup_namespace(spec).then(|| json!({"type": "cgroup"})));
        return list;
    }
    let mut add = |kind: &str, mode: &str, key: &str, file: &str| match facts.joined.get(key) {
        Some(pid) => list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")})),
        None if mode == "host" => {}
        None => list.push(json!({"type": kind})),
    };
    add("pid", &spec.pid_mode, "pid", "pid");
    add("ipc", &spec.ipc_mode, "ipc", "ipc");
    add("network", &spec.network_mode, "net", "net");
    // With the host's network goes its name, unless the container was given one.
    let uts = if spec.network_mode == "host" && spec.hostname.as_ref().is_none_or(String::is_empty)
    {
        "host"
    } else {
        &spec.uts_mode
    };
    add("uts", uts, "uts", "uts");
    if wants_cgroup_namespace(spec) {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

/// Those that the pod has, those of another container of it, and the rest of the container's own.
fn pod_namespaces(pod: &crate::PodPart, facts: &Facts<'_>) -> Vec<Value> {
    let mut list = Vec::new();
    for kind in ["pid", "ipc", "network", "uts"] {
        match (facts.joined.get(kind), pod.namespaces.get(kind)) {
            (Some(pid), _) => {
                list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{kind}")}))
            }
            (None, Some(Some(path))) => list.push(json!({"type": kind, "path": path})),
            (None, Some(None)) => {}
            (None, None) => list.push(json!({"type": kind})),
        }
    }
    list
}

fn wants_cgroup_namespace(spec: &crate::ContainerSpec) -> bool {
    match spec.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => !spec.privileged && matches!(wharf_cgroup::version(), Ok(wharf_cgroup::Version::V2)),
    }
}

/// What the kernel shows of itself.
fn kernel_mounts(read_only: &str) -> Vec<Value> {
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", read_only]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": [read_only, "nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
    ]
}

fn mounts(record: &Record, facts: &Facts<'_>) -> Vec<Value> {
    let spec = &record.spec;
    let mut list = kernel_mounts(if spec.privileged { "rw" } else { "ro" });
    list.push(shm(record, facts));
    let of_pod = spec.pod.as_ref().map_or(&[][..], |pod| &pod.mounts);
    let taken = |target: &str| {
        record.mounts.iter().any(|m| m.destination == target)
            || of_pod
                .iter()
                .any(|m| crate::mounts::clean(&m.target) == target)
    };
    let files = spec.pod.as_ref().map_or(facts.folder, |pod| &pod.files);
    list.retain(|mount| !mount["destination"].as_str().is_some_and(&taken));
    for (name, target) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        if !taken(target) {
            list.push(json!({"destination": target, "type": "bind", "source": files.join(name), "options": ["rbind", "rprivate"]}));
        }
    }
    if let Some(program) = &facts.init {
        list.push(json!({"destination": INIT, "type": "bind", "source": program, "options": ["bind", "ro"]}));
    }
    let mut asked: Vec<Value> = spec
        .tmpfs
        .iter()
        .map(|(target, options)| {
            tmpfs(
                target,
                options
                    .split(',')
                    .filter(|o| !o.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )
        })
        .chain(
            record
                .mounts
                .iter()
                .map(|point| match facts.volume_options.get(&point.name) {
                    Some(options) => volume_mount(point, options),
                    None => mount_point(record, point),
                }),
        )
        .chain(of_pod.iter().map(|mount| {
            json!({"destination": crate::mounts::clean(&mount.target), "type": "bind",
                "source": mount.source, "options": mount.options})
        }))
        .collect();
    // What lies deeper is mounted later, else it would be hidden.
    asked.sort_by_key(|mount| {
        mount["destination"]
            .as_str()
            .map_or(0, |d| d.matches('/').count())
    });
    list.extend(asked);
    list
}

fn shm(record: &Record, facts: &Facts<'_>) -> Value {
    let spec = &record.spec;
    if let Some(pod) = &spec.pod {
        return json!({"destination": "/dev/shm", "type": "bind", "source": pod.shm, "options": ["rbind", "rprivate"]});
    }
    match (facts.joined.get("ipc"), spec.ipc_mode.as_str()) {
        (Some(pid), _) => {
            json!({"destination": "/dev/shm", "type": "bind", "source": format!("/proc/{pid}/root/dev/shm"), "options": ["rbind", "rprivate"]})
        }
        (None, "host") => {
            json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]})
        }
        _ => {
            let size = spec
                .shm_size_bytes
                .filter(|size| *size > 0)
                .unwrap_or(SHM_DEFAULT_BYTES);
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", format!("size={size}")]})
        }
    }
}

fn mount_point(record: &Record, point: &crate::MountPoint) -> Value {
    if point.kind == MountKind::Tmpfs {
        let asked = record
            .spec
            .mounts
            .iter()
            .find(|mount| crate::mounts::clean(&mount.target) == point.destination);
        let mut options = Vec::new();
        if let Some(mount) = asked {
            options.extend(
                mount
                    .tmpfs_size_bytes
                    .filter(|s| *s > 0)
                    .map(|size| format!("size={size}")),
            );
            options.extend(mount.tmpfs_mode.map(|mode| format!("mode={mode:o}")));
        }
        if !point.read_write {
            options.push("ro".into());
        }
        return tmpfs(&point.destination, options);
    }
    let propagation = if point.propagation.is_empty() {
        "rprivate"
    } else {
        &point.propagation
    };
    let access = if point.read_write { "rw" } else { "ro" };
    json!({"destination": point.destination, "type": "bind", "source": point.source, "options": ["rbind", propagation, access]})
}

/// A volume that is not a folder of ours: its options are those of mount(8). Each container mounts it for itself.
fn volume_mount(point: &crate::MountPoint, options: &crate::Labels) -> Value {
    let option = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let mut words: Vec<&str> = option("o").split(',').filter(|o| !o.is_empty()).collect();
    if !point.read_write {
        words.push("ro");
    }
    json!({"destination": point.destination, "type": option("type"), "source": option("device"), "options": words})
}

fn tmpfs(target: &str, asked: Vec<String>) -> Value {
    let mut options: Vec<String> = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    for option in asked {
        // `exec` takes `noexec` back, and so on.
        options.retain(|o| o.strip_prefix("no") != Some(&option));
        options.push(option);
    }
    json!({"destination": crate::mounts::clean(target), "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn resources(spec: &crate::ContainerSpec) -> Value {
    let mut value = limits(&spec.resources);
    if spec.oom_kill_disable {
        value["memory"]["disableOOMKiller"] = json!(true);
    }
    let mut rules = vec![json!({"allow": spec.privileged, "access": "rwm"})];
    for rule in &spec.device_cgroup_rules {
        rules.extend(device_rule(rule));
    }
    for mapping in &spec.devices {
        if let Ok((kind, major, minor, _)) = crate::host_devices::facts(&mapping.host_path) {
            let access = if mapping.permissions.is_empty() {
                "rwm"
            } else {
                &mapping.permissions
            };
            rules.push(json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access}));
        }
    }
    value["devices"] = json!(rules);
    if let Some(pod) = &spec.pod {
        let limit = |(size, limit): &(String, u64)| json!({"pageSize": size, "limit": limit});
        value["hugepageLimits"] = pod.huge_pages.iter().map(limit).collect();
        if !pod.unified.is_empty() {
            value["unified"] = json!(pod.unified);
        }
    }
    value
}

/// Limits as the specification writes them; used for updates too.
pub(crate) fn limits(resources: &Resources) -> Value {
    let positive = |n: Option<i64>| n.filter(|n| *n > 0);
    let memory = positive(resources.memory_bytes);
    // Without a word about swap it may be as large as the memory.
    let swap = match resources.memory_swap_bytes.unwrap_or(0) {
        0 => memory.map(|memory| memory * 2),
        swap => Some(swap),
    };
    let (mut quota, mut period) = (
        resources.cpu_quota_us.filter(|q| *q != 0),
        resources.cpu_period_us.filter(|p| *p != 0),
    );
    if let Some(nano) = positive(resources.nano_cpus) {
        period = Some(100_000);
        quota = Some(nano / 10_000);
    }
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let throttles = |list: &[(String, u64)]| -> Vec<Value> {
        list.iter()
            .filter_map(|(path, rate)| {
                let (_, major, minor, _) = crate::host_devices::facts(Path::new(path)).ok()?;
                Some(json!({"major": major, "minor": minor, "rate": rate}))
            })
            .collect()
    };
    let mut value = json!({
        "memory": drop_null(json!({
            "limit": memory, "swap": swap.filter(|_| memory.is_some()), "reservation": positive(resources.memory_reservation_bytes),
            "swappiness": resources.memory_swappiness,
        })),
        "cpu": drop_null(json!({
            "shares": resources.cpu_shares.filter(|s| *s > 0), "quota": quota, "period": period,
            "realtimeRuntime": positive(resources.cpu_rt_runtime_us), "realtimePeriod": resources.cpu_rt_period_us.filter(|p| *p > 0),
            "cpus": text(&resources.cpuset_cpus), "mems": text(&resources.cpuset_mems),
        })),
    });
    if let Some(limit) = resources.pids_limit.filter(|limit| *limit != 0) {
        value["pids"] = json!({"limit": limit});
    }
    let block = drop_null(json!({
        "weight": resources.blkio_weight.filter(|w| *w > 0),
        "throttleReadBpsDevice": throttles(&resources.device_read_bps),
        "throttleWriteBpsDevice": throttles(&resources.device_write_bps),
        "throttleReadIOPSDevice": throttles(&resources.device_read_iops),
        "throttleWriteIOPSDevice": throttles(&resources.device_write_iops),
    }));
    if block.as_object().is_some_and(|map| {
        map.values()
            .any(|v| !v.as_array().is_some_and(Vec::is_empty))
    }) {
        value["blockIO"] = block;
    }
    value
}

fn drop_null(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, v| !v.is_null());
    }
    value
}

/// `c 1:3 rwm`.
fn device_rule(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next().unwrap_or("rwm"));
    let (major, minor) = numbers.split_once(':')?;
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (key, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[key] = json!(number.parse::<i64>().ok()?);
        }
    }
    Some(rule)
}

fn devices(record: &Record) -> Result<Vec<Value>> {
    let mut list = Vec::new();
    for mapping in &record.spec.devices {
        let (kind, major, minor, mode) = crate::host_devices::facts(&mapping.host_path)?;
        let place = if mapping.container_path.as_os_str().is_empty() {
            &mapping.host_path
        } else {
            &mapping.container_path
        };
        list.push(json!({"path": place, "type": kind, "major": major, "minor": minor, "fileMode": mode, "uid": 0, "gid": 0}));
    }
    if record.spec.privileged {
        list.extend(crate::host_devices::all());
    }
    Ok(list)
}

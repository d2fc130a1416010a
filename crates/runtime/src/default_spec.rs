//! The configuration that `wharf runtime spec` writes: a shell on a terminal, as isolated as a container usually is.

use oci_spec::runtime::Spec;

/// A default configuration, as `wharf runtime spec` writes it.
pub fn default_spec() -> Spec {
    let mut template = template();
    if matches!(wharf_cgroup::version(), Ok(wharf_cgroup::Version::V2))
        && let Some(namespaces) = template["linux"]["namespaces"].as_array_mut()
    {
        // On version 1 the mounts of the hierarchies show the host's paths, with or without it.
        namespaces.push(serde_json::json!({"type": "cgroup"}));
    }
    match serde_json::from_value(template) {
        Ok(spec) => spec,
        Err(error) => unreachable!("the template is a valid configuration: {error}"),
    }
}

/// The same for a container of the calling user, who is its root: what needs rights over the machine is left out.
pub fn rootless_spec() -> Spec {
    let mut template = template();
    let linux = &mut template["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        // The host's network: a namespace of one's own would have no way out.
        namespaces.retain(|entry| entry["type"] != "network");
        namespaces.push(serde_json::json!({"type": "user"}));
    }
    let map = |id: u32| serde_json::json!([{"containerID": 0, "hostID": id, "size": 1}]);
    linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    linux["resources"] = serde_json::Value::Null;
    for mount in template["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            // A sysfs belongs to a network namespace.
            *mount = serde_json::json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        }
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
    if let Some(mounts) = template["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
    match serde_json::from_value(template) {
        Ok(spec) => spec,
        Err(error) => unreachable!("the template is a valid configuration: {error}"),
    }
}

fn template() -> serde_json::Value {
    let capabilities = serde_json::json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "wharf",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts() -> serde_json::Value {
    serde_json::json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

//! Facts about the machine and this engine.

use std::fs;
use std::path::Path;

use crate::{Engine, Info, Status};

/// What is found out once, when the engine opens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub swap_limit: bool,
    pub cgroup_version: String,
    pub controllers: Vec<String>,
}

impl Machine {
    /// Looks around.
    pub fn explore() -> Machine {
        let version = match wharf_cgroup::version() {
            Ok(wharf_cgroup::Version::V1) => "1",
            Ok(wharf_cgroup::Version::V2) => "2",
            Err(_) => "",
        };
        let swap_file = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
        Machine {
            swap_limit: version == "2" || Path::new(swap_file).exists(),
            cgroup_version: version.into(),
            controllers: wharf_cgroup::controllers().unwrap_or_default(),
        }
    }

    /// What containers can't have here.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (controller, what) in [
            ("memory", "memory limit"),
            ("pids", "pids limit"),
            ("cpuset", "cpuset"),
        ] {
            if !self.controllers.iter().any(|c| c == controller) {
                warnings.push(format!("WARNING: No {what} support"));
            }
        }
        if !self.swap_limit {
            warnings.push("WARNING: No swap limit support".into());
        }
        if !is_one("/proc/sys/net/ipv4/ip_forward") {
            warnings.push("WARNING: IPv4 forwarding is disabled".into());
        }
        warnings
    }
}

impl Engine {
    /// Facts about the machine and this engine.
    pub async fn info(&self) -> Info {
        let system = rustix::system::uname();
        let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
        let count = |wanted: &[Status]| {
            self.inner
                .containers
                .all()
                .iter()
                .filter(|e| wanted.contains(&e.record().state.status))
                .count()
        };
        let (name, version) = operating_system();
        let machine = &self.inner.machine;
        Info {
            id: self.inner.id.clone(),
            running: count(&[Status::Running]),
            paused: count(&[Status::Paused]),
            stopped: count(&[
                Status::Created,
                Status::Exited,
                Status::Dead,
                Status::Restarting,
                Status::Removing,
            ]),
            images: self
                .inner
                .images
                .list(true)
                .map_or(0, |images| images.len()),
            data_root: self.inner.config.data_root.clone(),
            kernel_version: text(system.release()),
            operating_system: name,
            os_version: version,
            architecture: text(system.machine()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(),
            hostname: text(system.nodename()),
            cgroup_version: machine.cgroup_version.clone(),
            cgroup_driver: "cgroupfs".into(),
            controllers: machine.controllers.clone(),
            swap_limit: machine.swap_limit,
            bridge_nf_iptables: is_one("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            bridge_nf_ip6tables: is_one("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
            ipv4_forwarding: is_one("/proc/sys/net/ipv4/ip_forward"),
            security_options: security_options(&machine.cgroup_version),
            warnings: machine.warnings(),
            backing_filesystem: backing_filesystem(&self.inner.config.data_root),
        }
    }
}

fn security_options(cgroup_version: &str) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    if cgroup_version == "2" {
        options.push("name=cgroupns".into());
    }
    options
}

fn is_one(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// Name and version of os-release(5).
fn operating_system() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

fn backing_filesystem(path: &Path) -> String {
    match rustix::fs::statfs(path).map(|facts| facts.f_type as u64) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x2fc1_2fc1) => "zfs",
        _ => "unknown",
    }
    .to_owned()
}

//! Usage figures of containers.

use std::fs;

use crate::error_from::{blocking, io};
use crate::{ContainerStats, Engine, Result};

/// Ticks of /proc/stat a second.
const TICK_NS: u64 = 10_000_000;

impl Engine {
    /// One reading of the usage figures; zeroes for a container that does not run.
    pub async fn stats(&self, container: &str) -> Result<ContainerStats> {
        let entry = self.inner.containers.find(container)?;
        let (name, pid, live, own_network) = {
            let record = entry.record();
            let own = record.spec.network_mode != "host";
            (record.name.clone(), record.state.pid, record.is_live(), own)
        };
        let mut stats = ContainerStats {
            id: entry.id.clone(),
            name,
            running: live,
            ..ContainerStats::default()
        };
        if !live {
            return Ok(stats);
        }
        let path = self.cgroup_path(&entry);
        stats.cgroup = blocking(move || Ok(wharf_cgroup::open(&path)?.stats()?)).await?;
        (stats.system_cpu_ns, stats.online_cpus) = machine_cpu();
        if own_network {
            let path = format!("/proc/{pid}/ns/net");
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let namespace = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
                .map_err(io(format!("open {path}")))?;
            stats.networks = self
                .inner
                .net
                .counters(std::os::fd::AsFd::as_fd(&namespace))
                .await?;
        }
        Ok(stats)
    }
}

/// CPU time of the whole machine, and how many CPUs it has.
fn machine_cpu() -> (u64, u32) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut sum = 0;
    let mut cpus = 0;
    for line in text.lines().filter(|line| line.starts_with("cpu")) {
        match line.strip_prefix("cpu ") {
            // User, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
            Some(rest) => {
                sum = rest
                    .split_whitespace()
                    .take(8)
                    .filter_map(|w| w.parse::<u64>().ok())
                    .sum::<u64>()
                    * TICK_NS
            }
            None => cpus += 1,
        }
    }
    (sum, cpus)
}

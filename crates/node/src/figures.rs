//! Figures of the node and its pods, as `kubectl top` and the metrics server read them.

use serde_json::{Value, json};
use wharf_cri::v1;

use crate::Node;
use crate::seen::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::status::now;

async fn stats(node: &Node) -> Result<Vec<v1::PodSandboxStats>, String> {
    let request = v1::ListPodSandboxStatsRequest::default();
    let answer = node.cri.list_pod_sandbox_stats(request).await;
    answer
        .map(|answer| answer.stats)
        .map_err(|status| status.message().to_owned())
}

fn value(number: &Option<v1::UInt64Value>) -> u64 {
    number
        .as_ref()
        .map(|number| number.value)
        .unwrap_or_default()
}

fn cpu(usage: Option<&v1::CpuUsage>) -> Value {
    let total = usage
        .map(|usage| value(&usage.usage_core_nano_seconds))
        .unwrap_or_default();
    json!({"time": now().to_string(), "usageNanoCores": 0, "usageCoreNanoSeconds": total})
}

fn memory(usage: Option<&v1::MemoryUsage>) -> Value {
    let of = |pick: fn(&v1::MemoryUsage) -> &Option<v1::UInt64Value>| {
        usage.map(|usage| value(pick(usage))).unwrap_or_default()
    };
    json!({"time": now().to_string(), "usageBytes": of(|u| &u.usage_bytes), "workingSetBytes": of(|u| &u.working_set_bytes),
        "rssBytes": of(|u| &u.rss_bytes), "pageFaults": of(|u| &u.page_faults), "majorPageFaults": of(|u| &u.major_page_faults)})
}

/// The body of `/stats/summary`.
pub(crate) async fn summary(node: &Node) -> Result<Value, String> {
    let pods: Vec<Value> = stats(node).await?.iter().map(pod).collect();
    let (cpu_ns, used) = machine();
    Ok(json!({
        "node": {"nodeName": node.options.name, "startTime": now().to_string(),
            "cpu": {"time": now().to_string(), "usageCoreNanoSeconds": cpu_ns},
            "memory": {"time": now().to_string(), "usageBytes": used, "workingSetBytes": used,
                "availableBytes": node.machine.memory_bytes.saturating_sub(used)}},
        "pods": pods,
    }))
}

fn pod(stats: &v1::PodSandboxStats) -> Value {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let label = |name: &str| attributes.labels.get(name).cloned().unwrap_or_default();
    let linux = stats.linux.clone().unwrap_or_default();
    let containers: Vec<Value> = linux
        .containers
        .iter()
        .map(|one| {
            let attributes = one.attributes.clone().unwrap_or_default();
            json!({"name": attributes.labels.get(CONTAINER_NAME), "startTime": now().to_string(),
                "cpu": cpu(one.cpu.as_ref()), "memory": memory(one.memory.as_ref()),
                "rootfs": {"time": now().to_string(), "usedBytes": one.writable_layer.as_ref().map(|l| value(&l.used_bytes))}})
        })
        .collect();
    let network = linux
        .network
        .as_ref()
        .and_then(|network| network.default_interface.as_ref());
    json!({
        "podRef": {"name": label(POD_NAME), "namespace": label(POD_NAMESPACE), "uid": label(POD_UID)},
        "startTime": now().to_string(), "containers": containers,
        "cpu": cpu(linux.cpu.as_ref()), "memory": memory(linux.memory.as_ref()),
        "network": network.map(|link| json!({"time": now().to_string(), "name": link.name,
            "rxBytes": value(&link.rx_bytes), "txBytes": value(&link.tx_bytes)})),
    })
}

/// CPU time and memory in use of the whole machine.
fn machine() -> (u64, u64) {
    /// Nanoseconds of a tick of /proc/stat.
    const TICK_NS: u64 = 10_000_000;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/stat");
    let numbers = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let numbers: Vec<u64> = numbers.filter_map(|word| word.parse().ok()).collect();
    let busy: u64 = numbers
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4) && *at < 8)
        .map(|(_, n)| n)
        .sum();
    let meminfo = read("/proc/meminfo");
    let of = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    (
        busy * TICK_NS,
        of("MemTotal").saturating_sub(of("MemAvailable")),
    )
}

/// The body of `/metrics/resource`.
pub(crate) async fn resource(node: &Node) -> Result<String, String> {
    let pods = stats(node).await?;
    let (cpu_ns, used) = machine();
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut lines = format!(
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {used}\n",
        seconds(cpu_ns)
    );
    for (name, kind) in [
        ("container_cpu_usage_seconds_total", "counter"),
        ("container_memory_working_set_bytes", "gauge"),
        ("pod_cpu_usage_seconds_total", "counter"),
        ("pod_memory_working_set_bytes", "gauge"),
    ] {
        lines.push_str(&format!("# TYPE {name} {kind}\n"));
        for stats in &pods {
            lines_of(name, stats, &mut lines);
        }
    }
    lines.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    Ok(lines)
}

fn lines_of(name: &str, stats: &v1::PodSandboxStats, lines: &mut String) {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let label = |name: &str| attributes.labels.get(name).cloned().unwrap_or_default();
    let linux = stats.linux.clone().unwrap_or_default();
    let figure =
        |cpu: Option<&v1::CpuUsage>, memory: Option<&v1::MemoryUsage>| match name.contains("cpu") {
            true => {
                let ns = cpu
                    .map(|cpu| value(&cpu.usage_core_nano_seconds))
                    .unwrap_or_default();
                (ns as f64 / 1e9).to_string()
            }
            false => memory
                .map(|memory| value(&memory.working_set_bytes))
                .unwrap_or_default()
                .to_string(),
        };
    let place = format!(
        "namespace={:?},pod={:?}",
        label(POD_NAMESPACE),
        label(POD_NAME)
    );
    if name.starts_with("pod_") {
        let figure = figure(linux.cpu.as_ref(), linux.memory.as_ref());
        lines.push_str(&format!("{name}{{{place}}} {figure}\n"));
        return;
    }
    for one in &linux.containers {
        let attributes = one.attributes.clone().unwrap_or_default();
        let container = attributes
            .labels
            .get(CONTAINER_NAME)
            .cloned()
            .unwrap_or_default();
        let figure = figure(one.cpu.as_ref(), one.memory.as_ref());
        lines.push_str(&format!(
            "{name}{{container={container:?},{place}}} {figure}\n"
        ));
    }
}

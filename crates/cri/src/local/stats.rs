//! Usage of containers and pods.

use futures_util::future::join_all;
use tonic::Status;
use wharf_engine::Container;

use super::container_status::{config, sandbox};
use super::record::{Phase, Pod};
use super::sandbox_status::has_labels;
use super::{Local, blocking, events, failed, failed_net, once};
use crate::{Answers, v1};

fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(stats: &wharf_cgroup::Stats, timestamp: i64) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: number(stats.cpu_usage_ns),
        usage_nano_cores: None,
        psi: None,
    }
}

/// What counts as used: without the pages of files that nobody touched lately.
fn memory(stats: &wharf_cgroup::Stats, timestamp: i64) -> v1::MemoryUsage {
    let of = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| stats.memory_stat.get(*name));
        found.copied().unwrap_or_default()
    };
    let inactive = of(["total_inactive_file", "inactive_file"]);
    let working_set = stats.memory_usage_bytes.saturating_sub(inactive);
    let available = match stats.memory_limit_bytes {
        // No limit: the kernel of version 1 says so by a number near the largest.
        limit if limit >= 1 << 60 => None,
        limit => number(limit.saturating_sub(working_set)),
    };
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: number(working_set),
        available_bytes: available,
        usage_bytes: number(stats.memory_usage_bytes),
        rss_bytes: number(of(["total_rss", "anon"])),
        page_faults: number(of(["total_pgfault", "pgfault"])),
        major_page_faults: number(of(["total_pgmajfault", "pgmajfault"])),
        psi: None,
    }
}

fn network(counters: &[wharf_net::LinkCounters], timestamp: i64) -> v1::NetworkUsage {
    let all: Vec<v1::NetworkInterfaceUsage> = counters
        .iter()
        .map(|link| v1::NetworkInterfaceUsage {
            name: link.interface.clone(),
            rx_bytes: number(link.rx_bytes),
            rx_errors: number(link.rx_errors),
            tx_bytes: number(link.tx_bytes),
            tx_errors: number(link.tx_errors),
        })
        .collect();
    let (default, others) = all.into_iter().partition(|link| link.name == "eth0");
    let mut default: Vec<_> = default;
    v1::NetworkUsage {
        timestamp,
        default_interface: default.pop(),
        interfaces: others,
    }
}

impl Local {
    async fn stats_of(&self, container: &Container) -> Result<v1::ContainerStats, Status> {
        let stats = self
            .inner
            .engine
            .stats(&container.id)
            .await
            .map_err(failed)?;
        let written = self
            .inner
            .engine
            .size_rw(&container.id)
            .await
            .unwrap_or_default();
        let timestamp = events::now_ns();
        let config = config(container);
        Ok(v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            }),
            cpu: stats.running.then(|| cpu(&stats.cgroup, timestamp)),
            memory: stats.running.then(|| memory(&stats.cgroup, timestamp)),
            writable_layer: Some(v1::FilesystemUsage {
                timestamp,
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: self
                        .inner
                        .options
                        .data_root
                        .join("image")
                        .to_string_lossy()
                        .into_owned(),
                }),
                used_bytes: number(written),
                inodes_used: number(0),
            }),
            swap: stats.running.then(|| v1::SwapUsage {
                timestamp,
                swap_available_bytes: None,
                swap_usage_bytes: number(stats.cgroup.swap_usage_bytes),
            }),
            io: None,
        })
    }

    pub(super) async fn container_stats(
        &self,
        request: v1::ContainerStatsRequest,
    ) -> Result<v1::ContainerStatsResponse, Status> {
        let container = self.find_container(&request.container_id)?;
        Ok(v1::ContainerStatsResponse {
            stats: Some(self.stats_of(&container).await?),
        })
    }

    async fn listed_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let filter = filter.unwrap_or_default();
        let all = self.inner.engine.pod_containers();
        let wanted = all.iter().filter(|container| {
            container.id.starts_with(&filter.id)
                && sandbox(container).starts_with(&filter.pod_sandbox_id)
                && has_labels(&config(container).labels, &filter.label_selector)
        });
        let stats = join_all(wanted.map(|container| self.stats_of(container))).await;
        // One that went meanwhile has none.
        stats.into_iter().flatten().collect()
    }

    pub(super) async fn list_container_stats(
        &self,
        request: v1::ListContainerStatsRequest,
    ) -> Result<v1::ListContainerStatsResponse, Status> {
        Ok(v1::ListContainerStatsResponse {
            stats: self.listed_stats(request.filter).await,
        })
    }

    pub(super) async fn stream_container_stats(
        &self,
        request: v1::StreamContainerStatsRequest,
    ) -> Result<Answers<v1::StreamContainerStatsResponse>, Status> {
        let container_stats = self.listed_stats(request.filter).await;
        Ok(once(v1::StreamContainerStatsResponse { container_stats }))
    }

    async fn stats_of_pod(&self, pod: &Pod) -> Result<v1::PodSandboxStats, Status> {
        let timestamp = events::now_ns();
        let group = Self::group_of(pod);
        let usage = blocking(move || {
            let group = wharf_cgroup::open(&group);
            Ok(group.and_then(|group| group.stats()).unwrap_or_default())
        });
        let (usage, containers) = tokio::join!(
            usage,
            self.listed_stats(Some(v1::ContainerStatsFilter {
                pod_sandbox_id: pod.id.clone(),
                ..Default::default()
            }))
        );
        let usage = usage?;
        let namespace = self.inner.store.folder(&pod.id).join("net");
        let counters = match std::fs::File::open(&namespace) {
            Ok(file) if !pod.host_network() => {
                let namespace = std::os::fd::AsFd::as_fd(&file);
                self.inner
                    .net
                    .counters(namespace)
                    .await
                    .map_err(failed_net)?
            }
            _ => Vec::new(),
        };
        Ok(v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: pod.id.clone(),
                metadata: pod.config.metadata.clone(),
                labels: pod.config.labels.clone(),
                annotations: pod.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(&usage, timestamp)),
                memory: Some(memory(&usage, timestamp)),
                network: Some(network(&counters, timestamp)),
                process: Some(v1::ProcessUsage {
                    timestamp,
                    process_count: number(usage.pids_current),
                }),
                containers,
                io: None,
            }),
            windows: None,
        })
    }

    pub(super) async fn pod_sandbox_stats(
        &self,
        request: v1::PodSandboxStatsRequest,
    ) -> Result<v1::PodSandboxStatsResponse, Status> {
        let pod = self.find_pod(&request.pod_sandbox_id)?;
        Ok(v1::PodSandboxStatsResponse {
            stats: Some(self.stats_of_pod(&pod).await?),
        })
    }

    async fn listed_pod_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let filter = filter.unwrap_or_default();
        let pods = self.pods();
        let wanted = pods.iter().filter(|pod| {
            pod.record().phase == Phase::Ready
                && pod.id.starts_with(&filter.id)
                && has_labels(&pod.config.labels, &filter.label_selector)
        });
        let stats = join_all(wanted.map(|pod| self.stats_of_pod(pod))).await;
        stats.into_iter().flatten().collect()
    }

    pub(super) async fn list_pod_sandbox_stats(
        &self,
        request: v1::ListPodSandboxStatsRequest,
    ) -> Result<v1::ListPodSandboxStatsResponse, Status> {
        Ok(v1::ListPodSandboxStatsResponse {
            stats: self.listed_pod_stats(request.filter).await,
        })
    }

    pub(super) async fn stream_pod_sandbox_stats(
        &self,
        request: v1::StreamPodSandboxStatsRequest,
    ) -> Result<Answers<v1::StreamPodSandboxStatsResponse>, Status> {
        let pod_sandbox_stats = self.listed_pod_stats(request.filter).await;
        Ok(once(v1::StreamPodSandboxStatsResponse {
            pod_sandbox_stats,
        }))
    }

    pub(super) async fn list_metric_descriptors(
        &self,
        _request: v1::ListMetricDescriptorsRequest,
    ) -> Result<v1::ListMetricDescriptorsResponse, Status> {
        Ok(v1::ListMetricDescriptorsResponse::default())
    }

    pub(super) async fn list_pod_sandbox_metrics(
        &self,
        _request: v1::ListPodSandboxMetricsRequest,
    ) -> Result<v1::ListPodSandboxMetricsResponse, Status> {
        Ok(v1::ListPodSandboxMetricsResponse::default())
    }

    pub(super) async fn stream_pod_sandbox_metrics(
        &self,
        _request: v1::StreamPodSandboxMetricsRequest,
    ) -> Result<Answers<v1::StreamPodSandboxMetricsResponse>, Status> {
        Ok(once(v1::StreamPodSandboxMetricsResponse::default()))
    }

    pub(super) async fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Result<v1::ReopenContainerLogResponse, Status> {
        let id = self.running(&request.container_id)?;
        self.inner.engine.reopen_log(&id).await.map_err(failed)?;
        Ok(v1::ReopenContainerLogResponse {})
    }
}

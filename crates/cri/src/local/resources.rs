//! Limits of containers: from the interface's to the engine's, and back.

use tonic::Status;
use wharf_engine::{Container, Resources, Update};

use super::{Local, failed};
use crate::v1;

/// Bit of CAP_SYS_RESOURCE in a set of capabilities.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Nothing, where the interface says zero.
fn set(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}

/// The engine's limits.
pub(super) fn limits(asked: &v1::LinuxContainerResources) -> Resources {
    let unsigned = |value: i64| set(value).and_then(|value| u64::try_from(value).ok());
    Resources {
        cpu_shares: unsigned(asked.cpu_shares),
        cpu_quota_us: set(asked.cpu_quota),
        cpu_period_us: unsigned(asked.cpu_period),
        cpuset_cpus: asked.cpuset_cpus.clone(),
        cpuset_mems: asked.cpuset_mems.clone(),
        memory_bytes: set(asked.memory_limit_in_bytes),
        // Without a word on swap a container gets none.
        memory_swap_bytes: set(asked.memory_swap_limit_in_bytes)
            .or(set(asked.memory_limit_in_bytes)),
        ..Resources::default()
    }
}

/// The score, as far down as this process may set it: below its own only with CAP_SYS_RESOURCE.
pub(super) fn oom_score_adj(asked: Option<&v1::LinuxContainerResources>) -> i64 {
    let asked = asked.map(|asked| asked.oom_score_adj).unwrap_or_default();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let own: i64 = read("/proc/self/oom_score_adj")
        .trim()
        .parse()
        .unwrap_or_default();
    if asked >= own || may_lower(&read("/proc/self/status")) {
        return asked;
    }
    own
}

fn may_lower(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    set.is_some_and(|set| set & CAP_SYS_RESOURCE != 0)
}

/// What is in force, in the interface's words.
pub(super) fn of(
    container: &Container,
    config: &v1::ContainerConfig,
) -> v1::LinuxContainerResources {
    let asked = config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone());
    let limits = &container.spec.resources;
    let signed = |value: Option<u64>| {
        value
            .and_then(|v| i64::try_from(v).ok())
            .unwrap_or_default()
    };
    v1::LinuxContainerResources {
        cpu_period: signed(limits.cpu_period_us),
        cpu_quota: limits.cpu_quota_us.unwrap_or_default(),
        cpu_shares: signed(limits.cpu_shares),
        memory_limit_in_bytes: limits.memory_bytes.unwrap_or_default(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        memory_swap_limit_in_bytes: limits.memory_swap_bytes.unwrap_or_default(),
        ..asked.unwrap_or_default()
    }
}

impl Local {
    pub(super) async fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<v1::UpdateContainerResourcesResponse, Status> {
        let container = self.find_container(&request.container_id)?;
        let Some(asked) = &request.linux else {
            return Ok(v1::UpdateContainerResourcesResponse {});
        };
        let update = Update {
            resources: limits(asked),
            restart: None,
        };
        let changed = self.inner.engine.update(&container.id, update).await;
        changed.map_err(failed)?;
        Ok(v1::UpdateContainerResourcesResponse {})
    }

    /// The limits of a pod are those of its control group, which the kubelet sets itself.
    pub(super) async fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
        self.find_pod(&request.pod_sandbox_id)?;
        Ok(v1::UpdatePodSandboxResourcesResponse {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(
            limits(&v1::LinuxContainerResources::default()),
            Resources::default()
        );
        let some = limits(&v1::LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: 1 << 20,
            ..Default::default()
        });
        assert_eq!(some.cpu_quota_us, Some(-1));
        assert_eq!(
            (some.memory_bytes, some.memory_swap_bytes),
            (Some(1 << 20), Some(1 << 20))
        );
    }

    #[test]
    fn rights_are_read_from_the_effective_set() {
        assert!(may_lower("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lower("CapEff:\t000001fffeffffff\n"));
        assert!(!may_lower(""));
    }
}

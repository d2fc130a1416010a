//! Requests and limits in the kernel's numbers, and the class of service they make.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use wharf_cri::v1;

use crate::part::{Role, parts};

/// Length of the period in which a quota is spent, in microseconds.
const PERIOD_US: i64 = 100_000;
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;

/// Class of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Quality {}

type Amounts = BTreeMap<String, Quantity>;

/// Thousandths of an amount; nothing when it is absent or no number.
pub(crate) fn millis(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    parse(amounts?.get(name)?).map(wharf_kube_types::Quantity::milli_value)
}

/// A whole amount, rounded up.
pub(crate) fn whole(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    parse(amounts?.get(name)?).map(wharf_kube_types::Quantity::value)
}

fn parse(quantity: &Quantity) -> Option<wharf_kube_types::Quantity> {
    wharf_kube_types::Quantity::parse(&quantity.0).ok()
}

pub(crate) fn requests(container: &Container) -> Option<&Amounts> {
    container.resources.as_ref()?.requests.as_ref()
}

pub(crate) fn limits(container: &Container) -> Option<&Amounts> {
    container.resources.as_ref()?.limits.as_ref()
}

/// The class of a pod: guaranteed if every container has limits of CPU and memory that equal its requests.
pub(crate) fn quality(pod: &Pod) -> Quality {
    let mut any = false;
    let mut guaranteed = true;
    for part in parts(pod) {
        if part.role == Role::Ephemeral {
            continue;
        }
        for name in ["cpu", "memory"] {
            let asked = millis(requests(&part.container), name).filter(|amount| *amount > 0);
            let limit = millis(limits(&part.container), name).filter(|amount| *amount > 0);
            any |= asked.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && asked.is_none_or(|asked| Some(asked) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Quality::BestEffort,
        (true, true) => Quality::Guaranteed,
        (true, false) => Quality::Burstable,
    }
}

/// The control group of a pod.
pub(crate) fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let uid = crate::part::uid(pod);
    match quality(pod) {
        Quality::Guaranteed => format!("{root}/pod{uid}"),
        Quality::Burstable => format!("{root}/burstable/pod{uid}"),
        Quality::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

pub(crate) fn shares(cpu_millis: i64) -> i64 {
    if cpu_millis == 0 {
        return SHARES_MIN;
    }
    (cpu_millis.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// Microseconds of a period; the kernel takes no fewer than 1,000.
pub(crate) fn quota(cpu_millis: i64) -> i64 {
    match cpu_millis {
        0 => 0,
        millis => (millis.saturating_mul(PERIOD_US) / 1000).max(1000),
    }
}

/// Who is killed first when memory runs out.
fn oom_score(pod: &Pod, container: &Container, memory_bytes: i64) -> i64 {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    if priority.is_some_and(|priority| priority >= 2_000_000_000) {
        return -997;
    }
    match quality(pod) {
        Quality::Guaranteed => -997,
        Quality::BestEffort => 1000,
        Quality::Burstable => {
            let asked = whole(requests(container), "memory").unwrap_or(0);
            let share = asked.saturating_mul(1000) / memory_bytes.max(1);
            (1000 - share).clamp(3, 999)
        }
    }
}

/// What the runtime is told of a container's resources.
pub(crate) fn linux(
    pod: &Pod,
    container: &Container,
    node_memory_bytes: i64,
) -> v1::LinuxContainerResources {
    let limit = millis(limits(container), "cpu");
    let asked = millis(requests(container), "cpu").or(limit).unwrap_or(0);
    v1::LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: quota(limit.unwrap_or(0)),
        cpu_shares: shares(asked),
        memory_limit_in_bytes: whole(limits(container), "memory").unwrap_or(0),
        oom_score_adj: oom_score(pod, container, node_memory_bytes),
        ..Default::default()
    }
}

/// The sum over a pod's regular containers and sidecars.
pub(crate) fn pod_total(pod: &Pod) -> v1::LinuxContainerResources {
    let (mut cpu, mut limit, mut memory) = (0_i64, Some(0_i64), Some(0_i64));
    for part in parts(pod) {
        if !matches!(part.role, Role::Regular | Role::Sidecar) {
            continue;
        }
        let container = &part.container;
        let cpu_limit = millis(limits(container), "cpu").filter(|n| *n > 0);
        cpu = cpu.saturating_add(
            millis(requests(container), "cpu")
                .or(cpu_limit)
                .unwrap_or(0),
        );
        limit = limit
            .zip(cpu_limit)
            .map(|(sum, one)| sum.saturating_add(one));
        let bytes = whole(limits(container), "memory").filter(|n| *n > 0);
        memory = memory.zip(bytes).map(|(sum, one)| sum.saturating_add(one));
    }
    v1::LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: quota(limit.unwrap_or(0)),
        cpu_shares: shares(cpu),
        memory_limit_in_bytes: memory.unwrap_or(0),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "a", "resources": resources}]}}))
        .unwrap()
    }

    #[test]
    fn classes() {
        let check = |resources, class, group: &str| {
            let pod = pod(resources);
            assert_eq!(quality(&pod), class);
            assert_eq!(cgroup_parent("/kubepods", &pod), group);
        };
        check(json!({}), Quality::BestEffort, "/kubepods/besteffort/podu");
        check(
            json!({"requests": {"cpu": "1"}}),
            Quality::Burstable,
            "/kubepods/burstable/podu",
        );
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
            Quality::Guaranteed,
            "/kubepods/podu",
        );
        check(
            json!({"limits": {"cpu": "1"}}),
            Quality::Burstable,
            "/kubepods/burstable/podu",
        );
    }

    #[test]
    fn numbers_of_the_kernel() {
        assert_eq!(
            [shares(0), shares(1), shares(250), shares(1000)],
            [2, 2, 256, 1024]
        );
        assert_eq!(
            [quota(0), quota(1), quota(500), quota(2000)],
            [0, 1000, 50_000, 200_000]
        );
        let pod = pod(json!({"limits": {"cpu": "500m", "memory": "64Mi"}}));
        let linux = linux(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!((linux.cpu_shares, linux.cpu_quota), (512, 50_000));
        assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
    }
}

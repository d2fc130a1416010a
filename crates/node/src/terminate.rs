//! The end of containers and of pods.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tonic::Status;
use wharf_cri::v1;

use crate::Node;
use crate::handlers::{self, Place};
use crate::part::{self, Part, Role};
use crate::seen::{Attempt, Seen};

/// What a hook leaves at least to the program's own end.
const GRACE_MIN: Duration = Duration::from_secs(2);
const GRACE_DEFAULT: i64 = 30;

/// How long a container may take to end.
pub(crate) fn grace(pod: &Pod, part: Option<&Part>) -> Duration {
    let of_deletion = pod.metadata.deletion_grace_period_seconds;
    let of_probe = part
        .filter(|_| of_deletion.is_none())
        .and_then(|part| part.container.liveness_probe.as_ref())
        .and_then(|probe| probe.termination_grace_period_seconds);
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    let seconds = of_deletion.or(of_probe).or(of_pod).unwrap_or(GRACE_DEFAULT);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Runs the hook before the stop, then stops.
pub(crate) async fn stop(
    node: &Node,
    pod: &Pod,
    part: Option<&Part>,
    attempt: &Attempt,
    ip: &str,
    grace: Duration,
    reason: &str,
) {
    let words = match reason {
        "" => format!("Stopping container {}", attempt.name()),
        reason => reason.to_owned(),
    };
    node.recorder
        .normal(pod, Some(attempt.name()), "Killing", words);
    let begun = Instant::now();
    let hook = part.and_then(|part| part.container.lifecycle.as_ref()?.pre_stop.as_ref());
    if let (Some(part), Some(hook), false) = (part, hook, grace.is_zero()) {
        let place = Place {
            container: part.container.clone(),
            id: attempt.id().to_owned(),
            ip: ip.to_owned(),
        };
        if let Err(words) = handlers::hook(node, &place, hook, grace).await {
            let message = format!("PreStopHook failed: {words}");
            node.recorder
                .warning(pod, Some(attempt.name()), "FailedPreStopHook", message);
        }
    }
    let left = match grace.is_zero() {
        true => grace,
        false => grace
            .saturating_sub(begun.elapsed())
            .max(GRACE_MIN.min(grace)),
    };
    let request = v1::StopContainerRequest {
        container_id: attempt.id().to_owned(),
        timeout: i64::try_from(left.as_secs()).unwrap_or(GRACE_DEFAULT),
    };
    if let Err(status) = node.cri.stop_container(request).await {
        tracing::warn!(
            container = attempt.id(),
            error = status.message(),
            "stop a container"
        );
    }
}

/// Ends every container of a pod: regular ones at once, then sidecars in the reverse of their order.
pub(crate) async fn containers(
    node: &Arc<Node>,
    pod: &Pod,
    parts: &[Part],
    seen: &Seen,
    grace: Duration,
) {
    let begun = Instant::now();
    let ip = crate::probes::address(node, pod, seen);
    let part_of = |attempt: &Attempt| parts.iter().find(|part| part.name() == attempt.name());
    let is_sidecar =
        |attempt: &&Attempt| part_of(attempt).is_some_and(|part| part.role == Role::Sidecar);
    let (sidecars, others): (Vec<&Attempt>, Vec<&Attempt>) = seen.running().partition(is_sidecar);
    let stops = others
        .iter()
        .map(|attempt| stop(node, pod, part_of(attempt), attempt, &ip, grace, ""));
    join_all(stops).await;
    let place = |attempt: &&Attempt| parts.iter().position(|part| part.name() == attempt.name());
    let mut sidecars = sidecars;
    sidecars.sort_by_key(|attempt| std::cmp::Reverse(place(attempt)));
    for attempt in sidecars {
        let left = grace.saturating_sub(begun.elapsed());
        stop(node, pod, part_of(attempt), attempt, &ip, left, "").await;
    }
}

/// Stops the sandboxes; the containers' remains stay to be asked about.
pub(crate) async fn sandboxes(node: &Node, seen: &Seen) -> Result<(), Status> {
    for sandbox in &seen.sandboxes {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: sandbox.id.clone(),
        };
        node.cri.stop_pod_sandbox(request).await?;
    }
    Ok(())
}

/// Takes away all that is left of a pod: sandboxes, containers, volumes, files, logs.
pub(crate) async fn remains(
    node: &Arc<Node>,
    uid: &str,
    logs: Option<std::path::PathBuf>,
) -> Result<(), Status> {
    let seen = crate::seen::look(&*node.cri, uid).await?;
    for sandbox in &seen.sandboxes {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.id.clone(),
        };
        node.cri.remove_pod_sandbox(request).await?;
    }
    let (shared, uid) = (node.clone(), uid.to_owned());
    let removed = tokio::task::spawn_blocking(move || {
        if let Some(logs) = logs {
            // What is not there is fine.
            let _ = std::fs::remove_dir_all(logs);
        }
        shared.volumes.remove(&uid)
    });
    match removed.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Status::internal(format!(
            "remove the pod's folder: {error}"
        ))),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

/// The name of a pod's log folder from what the runtime remembers.
pub(crate) fn logs_of(node: &Node, sandbox: &v1::PodSandbox) -> Option<std::path::PathBuf> {
    let meta = sandbox.metadata.as_ref()?;
    let name = format!("{}_{}_{}", meta.namespace, meta.name, meta.uid);
    Some(node.options.logs.join(name))
}

/// Ends a pod that the API does not know any more.
pub(crate) async fn orphan(node: &Arc<Node>, uid: &str) {
    let pod = Pod::default();
    let seen = match crate::seen::look(&*node.cri, uid).await {
        Ok(seen) => seen,
        Err(status) => {
            tracing::warn!(
                uid,
                error = status.message(),
                "look at a pod that nobody knows"
            );
            return;
        }
    };
    let grace = Duration::from_secs(GRACE_DEFAULT.unsigned_abs());
    containers(node, &pod, &part::parts(&pod), &seen, grace).await;
    let logs = seen.sandbox().and_then(|sandbox| logs_of(node, sandbox));
    if let Err(status) = remains(node, uid, logs).await {
        tracing::warn!(
            uid,
            error = status.message(),
            "remove a pod that nobody knows"
        );
    }
}

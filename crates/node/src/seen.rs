//! What the runtime has of a pod.

use std::collections::HashMap;

use tonic::Status;
use wharf_cri::{Cri, v1};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Sandboxes and containers of one pod, the newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub sandboxes: Vec<v1::PodSandbox>,
    pub containers: Vec<Attempt>,
    /// Addresses of the newest sandbox.
    pub ips: Vec<String>,
}

/// One run of a container.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub sandbox: String,
    pub status: v1::ContainerStatus,
}

impl Attempt {
    pub fn name(&self) -> &str {
        self.status
            .metadata
            .as_ref()
            .map_or("", |meta| meta.name.as_str())
    }

    pub fn number(&self) -> u32 {
        self.status.metadata.as_ref().map_or(0, |meta| meta.attempt)
    }

    pub fn id(&self) -> &str {
        &self.status.id
    }

    pub fn is_running(&self) -> bool {
        self.status.state() == v1::ContainerState::ContainerRunning
    }

    /// It ran, and does not any more; or nobody knows.
    pub fn is_over(&self) -> bool {
        matches!(
            self.status.state(),
            v1::ContainerState::ContainerExited | v1::ContainerState::ContainerUnknown
        )
    }

    pub fn succeeded(&self) -> bool {
        self.status.state() == v1::ContainerState::ContainerExited && self.status.exit_code == 0
    }
}

impl Seen {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&v1::PodSandbox> {
        self.sandboxes.first()
    }

    /// The newest sandbox, if it can hold containers.
    pub fn ready_sandbox(&self) -> Option<&v1::PodSandbox> {
        self.sandbox()
            .filter(|sandbox| sandbox.state() == v1::PodSandboxState::SandboxReady)
    }

    /// The newest run of a container, in whatever sandbox.
    pub fn latest(&self, name: &str) -> Option<&Attempt> {
        self.containers
            .iter()
            .find(|attempt| attempt.name() == name)
    }

    /// The newest run of a container in the newest sandbox.
    pub fn current(&self, name: &str) -> Option<&Attempt> {
        let sandbox = self.sandbox()?;
        self.latest(name)
            .filter(|attempt| attempt.sandbox == sandbox.id)
    }

    /// The run before the newest.
    pub fn previous(&self, name: &str) -> Option<&Attempt> {
        self.containers
            .iter()
            .filter(|attempt| attempt.name() == name)
            .nth(1)
    }

    pub fn running(&self) -> impl Iterator<Item = &Attempt> {
        self.containers
            .iter()
            .filter(|attempt| attempt.is_running())
    }
}

/// Asks the runtime.
pub(crate) async fn look(cri: &dyn Cri, uid: &str) -> Result<Seen, Status> {
    let label_selector = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes = v1::ListPodSandboxRequest {
        filter: Some(v1::PodSandboxFilter {
            label_selector: label_selector.clone(),
            ..Default::default()
        }),
    };
    let containers = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            label_selector,
            ..Default::default()
        }),
    };
    let mut sandboxes = cri.list_pod_sandbox(sandboxes).await?.items;
    sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
    let mut seen = Seen {
        sandboxes,
        ..Default::default()
    };
    for container in cri.list_containers(containers).await?.containers {
        let request = v1::ContainerStatusRequest {
            container_id: container.id,
            verbose: false,
        };
        match cri.container_status(request).await {
            Ok(answer) => seen.containers.extend(answer.status.map(|status| Attempt {
                sandbox: container.pod_sandbox_id,
                status,
            })),
            // Removed meanwhile.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    let age = |attempt: &Attempt| std::cmp::Reverse((attempt.number(), attempt.status.created_at));
    seen.containers.sort_by_key(age);
    if let Some(sandbox) = seen.ready_sandbox() {
        seen.ips = addresses(cri, &sandbox.id).await?;
    }
    Ok(seen)
}

/// The addresses of a sandbox; none when it uses the node's.
pub(crate) async fn addresses(cri: &dyn Cri, sandbox: &str) -> Result<Vec<String>, Status> {
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.to_owned(),
        verbose: false,
    };
    let answer = match cri.pod_sandbox_status(request).await {
        Ok(answer) => answer,
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(Vec::new()),
        Err(status) => return Err(status),
    };
    let Some(network) = answer.status.and_then(|status| status.network) else {
        return Ok(Vec::new());
    };
    let first = Some(network.ip).filter(|ip| !ip.is_empty());
    let others = network.additional_ips.into_iter().map(|other| other.ip);
    Ok(first.into_iter().chain(others).collect())
}

//! What sandboxes look like from outside.

use std::collections::HashMap;

use tonic::Status;

use super::record::{Phase, Pod};
use super::{Local, events, once};
use crate::{Answers, v1};

fn state(pod: &Pod) -> v1::PodSandboxState {
    match pod.record().phase {
        Phase::Ready => v1::PodSandboxState::SandboxReady,
        Phase::Making | Phase::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

impl Local {
    pub(super) fn status_of_pod(&self, pod: &Pod) -> v1::PodSandboxStatus {
        let record = pod.record().clone();
        let address = record.endpoint.as_ref().and_then(|endpoint| endpoint.ipv4);
        v1::PodSandboxStatus {
            id: pod.id.clone(),
            metadata: pod.config.metadata.clone(),
            state: state(pod).into(),
            created_at: record.created_ns,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: address.map(|ip| ip.to_string()).unwrap_or_default(),
                additional_ips: Vec::new(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace {
                    options: Some(pod.namespace_options()),
                }),
            }),
            labels: pod.config.labels.clone(),
            annotations: pod.config.annotations.clone(),
            runtime_handler: record.runtime_handler,
        }
    }

    pub(super) async fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, Status> {
        let pod = self.find_pod(&request.pod_sandbox_id)?;
        let containers = self.containers_of(&pod.id);
        let mut info = HashMap::new();
        if request.verbose {
            let folder = self.inner.store.folder(&pod.id);
            let text = serde_json::json!({"folder": folder, "netns": folder.join("net")});
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(v1::PodSandboxStatusResponse {
            status: Some(self.status_of_pod(&pod)),
            info,
            containers_statuses: containers.iter().map(|c| self.status_of(c)).collect(),
            timestamp: events::now_ns(),
        })
    }

    pub(super) async fn list_pod_sandbox(
        &self,
        request: v1::ListPodSandboxRequest,
    ) -> Result<v1::ListPodSandboxResponse, Status> {
        Ok(v1::ListPodSandboxResponse {
            items: self.listed_pods(request.filter.as_ref()),
        })
    }

    pub(super) async fn stream_pod_sandboxes(
        &self,
        request: v1::StreamPodSandboxesRequest,
    ) -> Result<Answers<v1::StreamPodSandboxesResponse>, Status> {
        Ok(once(v1::StreamPodSandboxesResponse {
            pod_sandboxes: self.listed_pods(request.filter.as_ref()),
        }))
    }

    fn listed_pods(&self, filter: Option<&v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let pods = self.pods().into_iter();
        // One in the making is nobody's yet.
        let told = pods.filter(|pod| pod.record().phase != Phase::Making);
        told.filter(|pod| filter.is_none_or(|filter| fits(pod, filter)))
            .map(|pod| {
                // One guard at a time: those of one expression are held to its end.
                let (created_at, runtime_handler) = {
                    let record = pod.record();
                    (record.created_ns, record.runtime_handler.clone())
                };
                v1::PodSandbox {
                    id: pod.id.clone(),
                    metadata: pod.config.metadata.clone(),
                    state: state(&pod).into(),
                    created_at,
                    labels: pod.config.labels.clone(),
                    annotations: pod.config.annotations.clone(),
                    runtime_handler,
                }
            })
            .collect()
    }
}

fn fits(pod: &Pod, filter: &v1::PodSandboxFilter) -> bool {
    pod.id.starts_with(&filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state() == state(pod))
        && has_labels(&pod.config.labels, &filter.label_selector)
}

/// Every label of the selector, with its value.
pub(super) fn has_labels(
    labels: &HashMap<String, String>,
    selector: &HashMap<String, String>,
) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

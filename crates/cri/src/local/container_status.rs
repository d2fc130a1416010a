//! What containers of pods look like from outside.

use std::collections::HashMap;

use jiff::Timestamp;
use tonic::Status;
use wharf_engine::{Container, Status as Engine};

use super::image::full_name;
use super::record::decode;
use super::{Local, resources};
use crate::v1;

/// What the original's runtimes say of a container that could not be started.
const START_FAILED: i32 = 128;

/// The configuration as it came.
pub(super) fn config(container: &Container) -> v1::ContainerConfig {
    let pod = container.spec.pod.as_ref();
    pod.and_then(|pod| decode(&pod.adapter)).unwrap_or_default()
}

pub(super) fn state(container: &Container) -> v1::ContainerState {
    match container.state.status {
        Engine::Created if could_not_start(container) => v1::ContainerState::ContainerExited,
        Engine::Created => v1::ContainerState::ContainerCreated,
        Engine::Running | Engine::Paused => v1::ContainerState::ContainerRunning,
        Engine::Restarting | Engine::Removing | Engine::Exited | Engine::Dead => {
            v1::ContainerState::ContainerExited
        }
    }
}

/// It was tried, and never ran.
fn could_not_start(container: &Container) -> bool {
    container.state.started_at.is_none() && !container.state.error.is_empty()
}

pub(super) fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// As it stands in a list.
pub(super) fn entry(container: &Container) -> v1::Container {
    let config = config(container);
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: sandbox(container),
        metadata: config.metadata,
        image: config.image,
        image_ref: container.image_id.clone(),
        state: state(container).into(),
        created_at: ns(container.created),
        labels: config.labels,
        annotations: config.annotations,
        image_id: container.image_id.clone(),
    }
}

pub(super) fn sandbox(container: &Container) -> String {
    let pod = container.spec.pod.as_ref();
    pod.map(|pod| pod.sandbox.clone()).unwrap_or_default()
}

fn reason(container: &Container, exit_code: i32) -> &'static str {
    match exit_code {
        _ if state(container) != v1::ContainerState::ContainerExited => "",
        _ if could_not_start(container) => "StartError",
        _ if container.state.oom_killed => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    }
}

impl Local {
    pub(super) fn status_of(&self, container: &Container) -> v1::ContainerStatus {
        let config = config(container);
        let has_ended = state(container) == v1::ContainerState::ContainerExited;
        let exit_code = match (could_not_start(container), has_ended) {
            (true, _) => START_FAILED,
            (false, true) => container.state.exit_code,
            (false, false) => 0,
        };
        let finished = container
            .state
            .finished_at
            .or(has_ended.then_some(container.created));
        let image_name = config.image.clone().map(|image| v1::ImageSpec {
            image: match image.user_specified_image.as_str() {
                "" => self.image_name(container, &image.image),
                _ => self.image_name(container, &image.user_specified_image),
            },
            ..image
        });
        v1::ContainerStatus {
            id: container.id.clone(),
            state: state(container).into(),
            created_at: ns(container.created),
            started_at: container.state.started_at.map(ns).unwrap_or_default(),
            finished_at: finished.filter(|_| has_ended).map(ns).unwrap_or_default(),
            exit_code,
            image: image_name,
            image_ref: self.image_ref(&container.image_id),
            reason: reason(container, exit_code).to_owned(),
            message: match has_ended {
                true => container.state.error.clone(),
                false => String::new(),
            },
            log_path: container
                .spec
                .pod
                .as_ref()
                .and_then(|pod| pod.log.as_ref())
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            resources: Some(v1::ContainerResources {
                linux: Some(resources::of(container, &config)),
                windows: None,
            }),
            image_id: container.image_id.clone(),
            user: None,
            stop_signal: config.stop_signal,
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
        }
    }

    /// A name that a person knows; not the ID that a client asked by.
    fn image_name(&self, container: &Container, asked: &str) -> String {
        if !asked.starts_with("sha256:") && asked != container.image_id {
            return asked.to_owned();
        }
        let image = self.inner.engine.images().resolve(&container.image_id);
        let named = image
            .ok()
            .and_then(|image| image.tags.first().map(|tag| full_name(tag)));
        named.unwrap_or_else(|| asked.to_owned())
    }

    pub(super) async fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Status> {
        let container = self.find_container(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let text =
                serde_json::json!({"pid": container.state.pid, "sandboxID": sandbox(&container)});
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(v1::ContainerStatusResponse {
            status: Some(self.status_of(&container)),
            info,
        })
    }
}

//! The containers of a pod in one list, whatever their role.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Must end well before the next one.
    Init,
    /// Among the init containers, but stays.
    Sidecar,
    Regular,
    /// For a person who looks into the pod.
    Ephemeral,
}

/// One container of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub role: Role,
    pub container: Container,
    /// Whose processes an ephemeral container sees.
    pub target: Option<String>,
}

impl Part {
    pub fn name(&self) -> &str {
        &self.container.name
    }
}

/// All of them: init containers in their order, regular ones, ephemeral ones.
pub(crate) fn parts(pod: &Pod) -> Vec<Part> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let mut all = Vec::with_capacity(spec.containers.len());
    for container in spec.init_containers.iter().flatten() {
        let stays = container.restart_policy.as_deref() == Some("Always");
        all.push(Part {
            role: if stays { Role::Sidecar } else { Role::Init },
            container: container.clone(),
            target: None,
        });
    }
    for container in &spec.containers {
        all.push(Part {
            role: Role::Regular,
            container: container.clone(),
            target: None,
        });
    }
    all.extend(ephemeral(spec));
    all
}

fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = Part> {
    spec.ephemeral_containers
        .iter()
        .flatten()
        .filter_map(|one| {
            // The same fields, and one more.
            let value = serde_json::to_value(one).ok()?;
            Some(Part {
                role: Role::Ephemeral,
                container: serde_json::from_value(value).ok()?,
                target: one.target_container_name.clone(),
            })
        })
}

/// `name_namespace(uid)`, as in messages.
pub(crate) fn long_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

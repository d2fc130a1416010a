//! Images of containers: whether to pull, and the back-off when it fails.

use k8s_openapi::api::core::v1::{Container, Pod};
use wharf_cri::v1;

use crate::Node;
use crate::backoff::{Backoff, text};

/// Why a container has no image: the reason it waits, and the words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Missing {
    pub reason: &'static str,
    pub message: String,
    /// When it is worth trying again by itself.
    pub until: Option<jiff::Timestamp>,
}

/// The policy, by the tag where it is not said.
fn policy(container: &Container) -> &str {
    if let Some(policy) = container.image_pull_policy.as_deref() {
        return policy;
    }
    let image = container.image.as_deref().unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default();
    match tag.contains(['@', ':']) && !tag.ends_with(":latest") {
        true => "IfNotPresent",
        false => "Always",
    }
}

fn spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

async fn local(node: &Node, image: &str) -> Result<Option<String>, Missing> {
    let request = v1::ImageStatusRequest {
        image: Some(spec(image)),
        verbose: false,
    };
    match node.cri.image_status(request).await {
        Ok(answer) => Ok(answer.image.map(|image| image.id)),
        Err(status) => Err(Missing {
            reason: match status.code() {
                tonic::Code::InvalidArgument => "InvalidImageName",
                _ => "ImageInspectError",
            },
            message: format!("Failed to inspect image {image:?}: {}", status.message()),
            until: None,
        }),
    }
}

/// The reference to create the container with. Pulls where the policy says so.
pub(crate) async fn ensure(
    node: &Node,
    pod: &Pod,
    container: &Container,
    secrets: &[v1::AuthConfig],
    backoff: &mut Backoff,
) -> Result<String, Missing> {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = policy(container);
    let present = local(node, image).await?;
    match (policy, present) {
        ("IfNotPresent" | "Never", Some(id)) => {
            let message = format!("Container image {image:?} already present on machine");
            node.recorder
                .normal(pod, Some(&container.name), "Pulled", message);
            return Ok(id);
        }
        ("Never", None) => {
            return Err(Missing {
                reason: "ErrImageNeverPull",
                message: format!(
                    "Container image {image:?} is not present with pull policy of Never"
                ),
                until: None,
            });
        }
        _ => {}
    }
    let key = format!("pull {image}");
    let now = jiff::Timestamp::now();
    if let Some((until, wait)) = held(backoff, &key, now) {
        return Err(Missing {
            reason: "ImagePullBackOff",
            message: format!("Back-off pulling image {image:?}: back-off {}", text(wait)),
            until: Some(until),
        });
    }
    pull_for(node, pod, container, secrets, backoff, &key).await
}

async fn pull_for(
    node: &Node,
    pod: &Pod,
    container: &Container,
    secrets: &[v1::AuthConfig],
    backoff: &mut Backoff,
    key: &str,
) -> Result<String, Missing> {
    let image = container.image.as_deref().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let message = format!("Pulling image {image:?}");
    node.recorder
        .normal(pod, Some(&container.name), "Pulling", message);
    let begun = std::time::Instant::now();
    match pull(node, image, secrets).await {
        Ok(id) => {
            backoff.forget(key);
            let message = format!(
                "Successfully pulled image {image:?} in {}ms",
                begun.elapsed().as_millis()
            );
            node.recorder
                .normal(pod, Some(&container.name), "Pulled", message);
            Ok(id)
        }
        Err(words) => {
            backoff.next(key, now, now);
            let message = format!("Failed to pull image {image:?}: {words}");
            node.recorder
                .warning(pod, Some(&container.name), "Failed", message.clone());
            node.recorder.warning(
                pod,
                Some(&container.name),
                "Failed",
                "Error: ErrImagePull".to_owned(),
            );
            Err(Missing {
                reason: "ErrImagePull",
                message: format!("failed to pull image {image:?}: {words}"),
                until: held(backoff, key, now).map(|(until, _)| until),
            })
        }
    }
}

/// A wait that began when the pull failed.
fn held(
    backoff: &Backoff,
    key: &str,
    now: jiff::Timestamp,
) -> Option<(jiff::Timestamp, std::time::Duration)> {
    let since = backoff.since(key)?;
    backoff.holds(key, since, now)
}

/// With each of the credentials, then without any.
async fn pull(node: &Node, image: &str, secrets: &[v1::AuthConfig]) -> Result<String, String> {
    let mut words = String::new();
    let attempts = secrets.iter().cloned().map(Some);
    let attempts: Vec<_> = if secrets.is_empty() {
        vec![None]
    } else {
        attempts.collect()
    };
    for auth in attempts {
        let request = v1::PullImageRequest {
            image: Some(spec(image)),
            auth,
            sandbox_config: None,
        };
        match node.cri.pull_image(request).await {
            Ok(answer) => return Ok(answer.image_ref),
            Err(status) => words = status.message().to_owned(),
        }
    }
    Err(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_where_nothing_is_said() {
        let of = |image: &str| Container {
            image: Some(image.to_owned()),
            ..Container::default()
        };
        assert_eq!(policy(&of("redis")), "Always");
        assert_eq!(policy(&of("localhost:5000/redis")), "Always");
        assert_eq!(policy(&of("redis:latest")), "Always");
        assert_eq!(policy(&of("redis:7")), "IfNotPresent");
        assert_eq!(policy(&of("redis@sha256:1")), "IfNotPresent");
    }
}

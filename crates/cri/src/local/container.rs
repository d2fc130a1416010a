//! The life of a pod's container, and how its configuration becomes the engine's.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::Status;
use wharf_engine::{
    Container, ContainerSpec, DeviceMapping, Kind, PodMount, PodPart, RemoveOptions,
};

use super::container_status::state;
use super::record::{Phase, Pod, encode};
use super::sandbox_status::has_labels;
use super::{Local, failed, once, resources, security};
use crate::{Answers, v1};

impl Local {
    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<Container> {
        let all = self.inner.engine.pod_containers().into_iter();
        all.filter(|c| {
            c.spec
                .pod
                .as_ref()
                .is_some_and(|pod| pod.sandbox == sandbox)
        })
        .collect()
    }

    /// By full ID or unique prefix; only those of pods.
    pub(super) fn find_container(&self, id: &str) -> Result<Container, Status> {
        let missing = || Status::not_found(format!("no container {id:?}"));
        if id.is_empty() {
            return Err(missing());
        }
        let found = self.inner.engine.container(id).map_err(failed)?;
        match found.spec.pod.is_some() && found.id.starts_with(id) {
            true => Ok(found),
            false => Err(missing()),
        }
    }

    pub(super) async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<v1::CreateContainerResponse, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("the request lacks the container's config"))?;
        let pod = self.find_pod(&request.pod_sandbox_id)?;
        let _gate = pod.gate.lock().await;
        if pod.record().phase != Phase::Ready {
            return Err(Status::failed_precondition(format!(
                "sandbox {} is not running",
                pod.id
            )));
        }
        self.refuse_taken_name(&pod, &config)?;
        let spec = self.spec(&pod, &config).await?;
        let engine = self.inner.engine.clone();
        // On its own, so that a client that hangs up leaves a whole container or none.
        let created = tokio::spawn(async move { engine.create(None, spec).await });
        let created = created
            .await
            .map_err(|error| Status::internal(format!("the container's making ended: {error}")))?;
        Ok(v1::CreateContainerResponse {
            container_id: created.map_err(failed)?.id,
        })
    }

    fn refuse_taken_name(&self, pod: &Pod, config: &v1::ContainerConfig) -> Result<(), Status> {
        let wanted = config.metadata.clone().unwrap_or_default();
        if wanted.name.is_empty() {
            return Err(Status::invalid_argument(
                "the container's config lacks metadata with a name",
            ));
        }
        let containers = self.containers_of(&pod.id);
        let other = containers
            .iter()
            .find(|c| super::container_status::config(c).metadata.as_ref() == Some(&wanted));
        match other {
            Some(other) => Err(Status::already_exists(format!(
                "container {} of the sandbox has this name and attempt already",
                other.id
            ))),
            None => Ok(()),
        }
    }

    async fn spec(
        &self,
        pod: &Arc<Pod>,
        config: &v1::ContainerConfig,
    ) -> Result<ContainerSpec, Status> {
        let image = config.image.as_ref().map(|image| image.image.as_str());
        let image = image.filter(|image| !image.is_empty()).ok_or_else(|| {
            Status::invalid_argument("the container's config does not name an image")
        })?;
        let linux = config.linux.clone().unwrap_or_default();
        let mut spec = ContainerSpec {
            image: image.to_owned(),
            entrypoint: some(&config.command),
            cmd: some(&config.args),
            working_dir: config.working_dir.clone(),
            env: env(config)?,
            labels: sorted(&config.labels),
            annotations: sorted(&config.annotations),
            tty: config.tty,
            open_stdin: config.stdin,
            stdin_once: config.stdin_once,
            attach_stdin: config.stdin,
            stop_signal: stop_signal(config),
            network_mode: match pod.host_network() {
                true => "host".to_owned(),
                false => "none".to_owned(),
            },
            cgroup_parent: Self::group_of(pod),
            devices: config.devices.iter().map(device).collect(),
            resources: resources::limits(&linux.resources.clone().unwrap_or_default()),
            oom_score_adj: resources::oom_score_adj(linux.resources.as_ref()),
            ..ContainerSpec::default()
        };
        let mut part = PodPart {
            sandbox: pod.id.clone(),
            namespaces: self.namespaces(pod),
            shm: match pod.namespace_options().ipc() {
                v1::NamespaceMode::Node => PathBuf::from("/dev/shm"),
                _ => self.inner.store.folder(&pod.id).join("shm"),
            },
            files: self.inner.store.folder(&pod.id),
            log: log_path(pod, config)?,
            mounts: self.mounts(pod, config).await?,
            adapter: encode(config),
            ..PodPart::default()
        };
        if let Some(asked) = &linux.resources {
            part.unified = sorted(&asked.unified);
            let pages = asked.hugepage_limits.iter();
            part.huge_pages = pages.map(|p| (p.page_size.clone(), p.limit)).collect();
        }
        let context = linux.security_context.unwrap_or_default();
        self.choose_process_namespace(pod, &context, &mut spec, &mut part)?;
        security::apply(&context, &mut spec, &mut part)?;
        spec.pod = Some(Box::new(part));
        spec.hostname = Some(pod.config.hostname.clone());
        Ok(spec)
    }

    /// The sandbox's namespaces; the host's where the sandbox has none.
    fn namespaces(&self, pod: &Pod) -> BTreeMap<String, Option<PathBuf>> {
        let folder = self.inner.store.folder(&pod.id);
        let own = |file: &str, host: bool| (!host).then(|| folder.join(file));
        let host_ipc = pod.namespace_options().ipc() == v1::NamespaceMode::Node;
        BTreeMap::from([
            ("network".to_owned(), own("net", pod.host_network())),
            ("uts".to_owned(), own("uts", pod.host_network())),
            ("ipc".to_owned(), own("ipc", host_ipc)),
        ])
    }

    fn choose_process_namespace(
        &self,
        pod: &Pod,
        context: &v1::LinuxContainerSecurityContext,
        spec: &mut ContainerSpec,
        part: &mut PodPart,
    ) -> Result<(), Status> {
        let asked = context.namespace_options.clone();
        let options = asked.unwrap_or_else(|| pod.namespace_options());
        match options.pid() {
            v1::NamespaceMode::Container => {}
            v1::NamespaceMode::Node => {
                part.namespaces.insert("pid".to_owned(), None);
            }
            v1::NamespaceMode::Pod => {
                let file = self.inner.store.folder(&pod.id).join("pid");
                let file = file.exists().then_some(file).ok_or_else(|| {
                    Status::invalid_argument("the sandbox has no process namespace to share")
                })?;
                part.namespaces.insert("pid".to_owned(), Some(file));
            }
            v1::NamespaceMode::Target => {
                let target = self.find_container(&options.target_id)?;
                if target
                    .spec
                    .pod
                    .as_ref()
                    .is_none_or(|of| of.sandbox != pod.id)
                {
                    return Err(Status::invalid_argument(format!(
                        "container {} is not one of the sandbox",
                        target.id
                    )));
                }
                spec.pid_mode = format!("container:{}", target.id);
            }
        }
        Ok(())
    }

    async fn mounts(
        &self,
        pod: &Pod,
        config: &v1::ContainerConfig,
    ) -> Result<Vec<PodMount>, Status> {
        let mut mounts = Vec::new();
        for mount in &config.mounts {
            let source = match mount.image.as_ref().filter(|i| !i.image.is_empty()) {
                Some(image) => self.image_mount(pod, image, &mount.image_sub_path).await?,
                None => host_source(mount)?,
            };
            mounts.push(PodMount {
                source,
                target: target(mount)?,
                options: options(mount),
            });
        }
        Ok(mounts)
    }

    pub(super) async fn start_container(
        &self,
        request: v1::StartContainerRequest,
    ) -> Result<v1::StartContainerResponse, Status> {
        let container = self.find_container(&request.container_id)?;
        let state = state(&container);
        if state != v1::ContainerState::ContainerCreated {
            return Err(Status::failed_precondition(format!(
                "container {} is in state {}",
                container.id,
                state.as_str_name()
            )));
        }
        let (engine, id) = (self.inner.engine.clone(), container.id.clone());
        let started = tokio::spawn(async move { engine.start(&id).await });
        let started = started
            .await
            .map_err(|error| Status::internal(format!("the container's start ended: {error}")))?;
        started.map_err(failed)?;
        Ok(v1::StartContainerResponse {})
    }

    pub(super) async fn stop_container(
        &self,
        request: v1::StopContainerRequest,
    ) -> Result<v1::StopContainerResponse, Status> {
        // One that is not there is stopped.
        if let Ok(container) = self.find_container(&request.container_id) {
            self.stop_engine(&container.id, request.timeout).await?;
        }
        Ok(v1::StopContainerResponse {})
    }

    /// Stops, with so many seconds of grace; one that does not run is fine.
    pub(super) async fn stop_engine(&self, id: &str, grace_s: i64) -> Result<(), Status> {
        let (engine, id) = (self.inner.engine.clone(), id.to_owned());
        // Whoever asked may hang up: what has to end ends.
        let stopped =
            tokio::spawn(async move { engine.stop(&id, None, Some(grace_s.max(0))).await });
        let stopped = stopped
            .await
            .map_err(|error| Status::internal(format!("the container's stop ended: {error}")))?;
        match stopped {
            Err(error) if !matches!(error.kind, Kind::NotModified | Kind::NotFound) => {
                Err(failed(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
    ) -> Result<v1::RemoveContainerResponse, Status> {
        if let Ok(container) = self.find_container(&request.container_id) {
            self.remove_engine(&container.id).await?;
        }
        Ok(v1::RemoveContainerResponse {})
    }

    /// Removes, whatever its state; one that is not there is fine.
    pub(super) async fn remove_engine(&self, id: &str) -> Result<(), Status> {
        let options = RemoveOptions {
            force: true,
            volumes: true,
            link: false,
        };
        match self.inner.engine.remove(id, options).await {
            Err(error) if error.kind != Kind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn list_containers(
        &self,
        request: v1::ListContainersRequest,
    ) -> Result<v1::ListContainersResponse, Status> {
        Ok(v1::ListContainersResponse {
            containers: self.listed_containers(request.filter.as_ref()),
        })
    }

    pub(super) async fn stream_containers(
        &self,
        request: v1::StreamContainersRequest,
    ) -> Result<Answers<v1::StreamContainersResponse>, Status> {
        Ok(once(v1::StreamContainersResponse {
            containers: self.listed_containers(request.filter.as_ref()),
        }))
    }

    fn listed_containers(&self, filter: Option<&v1::ContainerFilter>) -> Vec<v1::Container> {
        let all = self.inner.engine.pod_containers();
        all.iter()
            .filter(|container| filter.is_none_or(|filter| fits(container, filter)))
            .map(super::container_status::entry)
            .collect()
    }
}

fn fits(container: &Container, filter: &v1::ContainerFilter) -> bool {
    let sandbox = container.spec.pod.as_ref().map(|pod| pod.sandbox.as_str());
    container.id.starts_with(&filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state() == state(container))
        && sandbox.is_some_and(|sandbox| sandbox.starts_with(&filter.pod_sandbox_id))
        && has_labels(
            &super::container_status::config(container).labels,
            &filter.label_selector,
        )
}

fn some(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

pub(super) fn sorted(map: &HashMap<String, String>) -> BTreeMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn env(config: &v1::ContainerConfig) -> Result<Vec<String>, Status> {
    let line = |one: &v1::KeyValue| match std::str::from_utf8(&one.value) {
        Ok(value) => Ok(format!("{}={value}", one.key)),
        Err(_) => Err(Status::invalid_argument(format!(
            "the value of the variable {} is not UTF-8",
            one.key
        ))),
    };
    config.envs.iter().map(line).collect()
}

fn stop_signal(config: &v1::ContainerConfig) -> Option<String> {
    match config.stop_signal() {
        v1::Signal::RuntimeDefault => None,
        signal => signal
            .as_str_name()
            .strip_prefix("SIGNAL_")
            .map(str::to_owned),
    }
}

fn device(device: &v1::Device) -> DeviceMapping {
    DeviceMapping {
        host_path: device.host_path.clone().into(),
        container_path: device.container_path.clone().into(),
        permissions: device.permissions.clone(),
    }
}

/// Where the log goes; the kubelet made the folder.
fn log_path(pod: &Pod, config: &v1::ContainerConfig) -> Result<Option<PathBuf>, Status> {
    if pod.config.log_directory.is_empty() || config.log_path.is_empty() {
        return Ok(None);
    }
    let inside = Path::new(&config.log_path);
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    match inside.components().all(plain) {
        true => Ok(Some(Path::new(&pod.config.log_directory).join(inside))),
        false => Err(Status::invalid_argument(format!(
            "log path {:?} does not stay in the log directory",
            config.log_path
        ))),
    }
}

fn target(mount: &v1::Mount) -> Result<String, Status> {
    match mount.container_path.as_str() {
        "" => Err(Status::invalid_argument("a mount does not say where to")),
        path if path.starts_with('/') => Ok(path.to_owned()),
        path => Ok(format!("/{path}")),
    }
}

/// A file or folder of the host, links followed; a folder is made where nothing is.
fn host_source(mount: &v1::Mount) -> Result<PathBuf, Status> {
    let path = Path::new(&mount.host_path);
    if !path.is_absolute() {
        return Err(Status::invalid_argument(format!(
            "{:?} is not an absolute path of the host",
            mount.host_path
        )));
    }
    // A descriptor that a caller holds open names the file itself: following the link would name it by a path again.
    if path.starts_with("/proc/self/fd") {
        return Ok(path.to_owned());
    }
    if !path.exists() {
        std::fs::create_dir_all(path).map_err(super::io(format!("make {}", path.display())))?;
    }
    std::fs::canonicalize(path).map_err(super::io(format!("resolve {}", path.display())))
}

/// In the words of the runtime specification.
fn options(mount: &v1::Mount) -> Vec<String> {
    let mut options = vec![
        "rbind".to_owned(),
        match mount.propagation() {
            v1::MountPropagation::PropagationPrivate => "rprivate",
            v1::MountPropagation::PropagationHostToContainer => "rslave",
            v1::MountPropagation::PropagationBidirectional => "rshared",
        }
        .to_owned(),
    ];
    options.push(
        match (
            mount.readonly || mount.image.is_some(),
            mount.recursive_read_only,
        ) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        }
        .to_owned(),
    );
    options.extend(mount.mount_options.iter().cloned());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_speak_the_runtimes_words() {
        let mount = v1::Mount {
            readonly: true,
            propagation: v1::MountPropagation::PropagationHostToContainer.into(),
            ..Default::default()
        };
        assert_eq!(options(&mount), ["rbind", "rslave", "ro"]);
        let recursive = v1::Mount {
            readonly: true,
            recursive_read_only: true,
            ..Default::default()
        };
        assert_eq!(options(&recursive), ["rbind", "rprivate", "rro"]);
    }

    #[test]
    fn logs_stay_in_their_folder() {
        let pod = Pod::new(super::super::record::Record::new(
            "x".into(),
            0,
            String::new(),
            &v1::PodSandboxConfig {
                log_directory: "/var/log/pods/a".into(),
                ..Default::default()
            },
        ));
        let config = |path: &str| v1::ContainerConfig {
            log_path: path.into(),
            ..Default::default()
        };
        let path = log_path(&pod, &config("c/0.log")).unwrap().unwrap();
        assert_eq!(path, Path::new("/var/log/pods/a/c/0.log"));
        assert!(log_path(&pod, &config("../0.log")).is_err());
        assert!(log_path(&pod, &config("/etc/passwd")).is_err());
        assert!(log_path(&pod, &config("")).unwrap().is_none());
    }
}

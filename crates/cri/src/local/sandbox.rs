//! The life of a sandbox: run, stop, remove, and what an interrupted run of this program left of it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tonic::Status;

use super::namespaces::{self, Plan};
use super::record::{Phase, Pod, Record};
use super::{Local, blocking, events, holder, lock};
use crate::v1;

/// Handlers that a client may name; the second is for those that write out the default.
pub(super) const HANDLERS: [&str; 2] = ["", "wharf"];
/// Parent group of pods whose client names none.
const CGROUP_PARENT: &str = "wharf-pods";

impl Local {
    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        lock(&self.inner.pods).values().cloned().collect()
    }

    /// By full ID or unique prefix.
    pub(super) fn find_pod(&self, id: &str) -> Result<Arc<Pod>, Status> {
        let pods = lock(&self.inner.pods);
        if let Some(pod) = pods.get(id) {
            return Ok(pod.clone());
        }
        let mut fitting = pods.values().filter(|pod| pod.id.starts_with(id));
        match (id.is_empty(), fitting.next(), fitting.next()) {
            (false, Some(pod), None) => Ok(pod.clone()),
            _ => Err(Status::not_found(format!("no sandbox {id:?}"))),
        }
    }

    /// The control group that a pod's containers are below.
    pub(super) fn group_of(pod: &Pod) -> String {
        let linux = pod.config.linux.as_ref();
        let parent = linux.map(|linux| linux.cgroup_parent.trim_matches('/'));
        let parent = parent.filter(|parent| !parent.is_empty());
        format!("/{}", parent.unwrap_or(CGROUP_PARENT))
    }

    pub(super) async fn run_pod_sandbox(
        &self,
        request: v1::RunPodSandboxRequest,
    ) -> Result<v1::RunPodSandboxResponse, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("the request lacks the sandbox's config"))?;
        check(&config, &request.runtime_handler)?;
        let pod = self.reserve(config, request.runtime_handler)?;
        let _gate = pod.gate.lock().await;
        // On its own, so that a client that hangs up leaves a whole sandbox or none.
        let (local, made) = (self.clone(), pod.clone());
        let outcome = tokio::spawn(async move {
            let outcome = local.make_sandbox(&made).await;
            if outcome.is_err() {
                local.take_down(&made).await;
                local.forget(&made);
            }
            outcome
        });
        outcome
            .await
            .map_err(|error| Status::internal(format!("the sandbox's making ended: {error}")))??;
        events::tell(&self.inner.engine, "create", &pod.id, &pod.id);
        events::tell(&self.inner.engine, "start", &pod.id, &pod.id);
        Ok(v1::RunPodSandboxResponse {
            pod_sandbox_id: pod.id.clone(),
        })
    }

    /// Takes the pod's name, then writes its record: from here on nothing made for it is lost.
    fn reserve(&self, config: v1::PodSandboxConfig, handler: String) -> Result<Arc<Pod>, Status> {
        let id = new_id()?;
        let record = Record::new(id, events::now_ns(), handler, &config);
        let pod = Pod::new(record);
        {
            let mut pods = lock(&self.inner.pods);
            if let Some(other) = pods.values().find(|p| p.config.metadata == config.metadata) {
                return Err(Status::already_exists(format!(
                    "sandbox {} has this name, namespace, uid and attempt already",
                    other.id
                )));
            }
            pods.insert(pod.id.clone(), pod.clone());
        }
        let saved = self.inner.store.save(&pod.record());
        match saved {
            Ok(()) => Ok(pod),
            Err(error) => {
                lock(&self.inner.pods).remove(&pod.id);
                Err(error)
            }
        }
    }

    async fn make_sandbox(&self, pod: &Arc<Pod>) -> Result<(), Status> {
        let network = self.connect(pod).await?;
        self.publish(pod).await?;
        let plan = self.plan(pod, network);
        let (folder, id) = (plan.folder.clone(), pod.id.clone());
        let shared = pod.namespace_options().pid() == v1::NamespaceMode::Pod;
        let init = self.inner.options.run_root.join("pod-init");
        let group = Self::group_of(pod);
        blocking(move || {
            namespaces::hold(plan)?;
            match shared {
                true => holder::start(&id, &folder, &init, &group),
                false => Ok(()),
            }
        })
        .await?;
        let mut record = pod.record();
        record.phase = Phase::Ready;
        self.inner.store.save(&record)
    }

    fn plan(&self, pod: &Pod, network: Option<OwnedFd>) -> Plan {
        let host_network = pod.host_network();
        let linux = pod.config.linux.as_ref();
        let node = || {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        };
        Plan {
            folder: self.inner.store.folder(&pod.id),
            hostname: match (host_network, pod.config.hostname.as_str()) {
                (true, _) => node(),
                (false, "") => pod.id[..12].to_owned(),
                (false, name) => name.to_owned(),
            },
            network,
            host_network,
            host_ipc: pod.namespace_options().ipc() == v1::NamespaceMode::Node,
            sysctls: linux
                .map(|l| l.sysctls.clone().into_iter().collect())
                .unwrap_or_default(),
            dns: pod.config.dns_config.clone(),
        }
    }

    /// Takes away all that was made, as far as it got. Only what can't be is told of.
    async fn take_down(&self, pod: &Pod) {
        self.disconnect(pod).await;
        let folder = self.inner.store.folder(&pod.id);
        let released = blocking(move || {
            holder::stop(&folder)?;
            namespaces::release(&folder)
        });
        if let Err(error) = released.await {
            tracing::warn!(
                sandbox = pod.id,
                error = error.message(),
                "left until the next start"
            );
        }
    }

    fn forget(&self, pod: &Pod) {
        if let Err(error) = self.inner.store.remove(&pod.id) {
            tracing::warn!(
                sandbox = pod.id,
                error = error.message(),
                "its record is left"
            );
        }
        lock(&self.inner.pods).remove(&pod.id);
    }

    pub(super) async fn stop_pod_sandbox(
        &self,
        request: v1::StopPodSandboxRequest,
    ) -> Result<v1::StopPodSandboxResponse, Status> {
        // One that is not there is stopped.
        if let Ok(pod) = self.find_pod(&request.pod_sandbox_id) {
            let _gate = pod.gate.lock().await;
            self.stop_locked(&pod).await?;
        }
        Ok(v1::StopPodSandboxResponse {})
    }

    async fn stop_locked(&self, pod: &Arc<Pod>) -> Result<(), Status> {
        let containers = self.containers_of(&pod.id);
        let stops = containers
            .iter()
            .map(|container| self.stop_engine(&container.id, 0));
        for outcome in futures_util::future::join_all(stops).await {
            outcome?;
        }
        if pod.record().phase != Phase::Ready {
            return Ok(());
        }
        self.take_down(pod).await;
        {
            let mut record = pod.record();
            record.phase = Phase::NotReady;
            self.inner.store.save(&record)?;
        }
        events::tell(&self.inner.engine, "die", &pod.id, &pod.id);
        Ok(())
    }

    pub(super) async fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Result<v1::RemovePodSandboxResponse, Status> {
        if let Ok(pod) = self.find_pod(&request.pod_sandbox_id) {
            let _gate = pod.gate.lock().await;
            self.stop_locked(&pod).await?;
            for container in self.containers_of(&pod.id) {
                self.remove_engine(&container.id).await?;
            }
            self.forget(&pod);
            events::tell(&self.inner.engine, "destroy", &pod.id, &pod.id);
        }
        Ok(v1::RemovePodSandboxResponse {})
    }

    /// Brings what is there into agreement with the records.
    pub(super) async fn recover(&self) {
        for pod in self.pods() {
            let phase = pod.record().phase;
            let folder = self.inner.store.folder(&pod.id);
            let held = namespaces::is_held(&folder, pod.host_network());
            match phase {
                Phase::Making => {
                    self.take_down(&pod).await;
                    self.forget(&pod);
                }
                Phase::Ready if held => {
                    if let Err(error) = self.publish(&pod).await {
                        tracing::warn!(
                            sandbox = pod.id,
                            error = error.message(),
                            "its ports are not published again"
                        );
                    }
                }
                Phase::Ready | Phase::NotReady => {
                    self.take_down(&pod).await;
                    let mut record = pod.record();
                    record.phase = Phase::NotReady;
                    if let Err(error) = self.inner.store.save(&record) {
                        tracing::warn!(
                            sandbox = pod.id,
                            error = error.message(),
                            "its end is not written down"
                        );
                    }
                }
            }
        }
        self.remove_strays().await;
    }

    /// Folders and containers of sandboxes that nobody knows.
    async fn remove_strays(&self) {
        let known: Vec<String> = self.pods().iter().map(|pod| pod.id.clone()).collect();
        for name in self.inner.store.folders() {
            if !known.contains(&name) {
                let folder = self.inner.store.folder(&name);
                let released = blocking(move || {
                    holder::stop(&folder)?;
                    namespaces::release(&folder)
                });
                if let Err(error) = released.await {
                    tracing::warn!(
                        folder = name,
                        error = error.message(),
                        "left until the next start"
                    );
                }
            }
        }
        for container in self.inner.engine.pod_containers() {
            let pod = container.spec.pod.as_ref();
            if pod.is_some_and(|pod| !known.contains(&pod.sandbox))
                && let Err(error) = self.remove_engine(&container.id).await
            {
                tracing::warn!(
                    container = container.id,
                    error = error.message(),
                    "a container without a sandbox is left"
                );
            }
        }
    }
}

/// What can't be meant, refused before anything is made.
fn check(config: &v1::PodSandboxConfig, handler: &str) -> Result<(), Status> {
    let invalid = |text: String| Err(Status::invalid_argument(text));
    if !HANDLERS.contains(&handler) {
        return invalid(format!("no runtime handler {handler:?} is configured"));
    }
    if config
        .metadata
        .as_ref()
        .is_none_or(|metadata| metadata.name.is_empty())
    {
        return invalid("the sandbox's config lacks metadata with a name".into());
    }
    if config.hostname.len() > 64 || config.hostname.contains(['/', '\0', '\n']) {
        return invalid(format!("{:?} is not a host name", config.hostname));
    }
    if config.log_directory.contains('\0') {
        return invalid("the log directory's name has a zero byte in it".into());
    }
    let Some(linux) = &config.linux else {
        return Ok(());
    };
    if linux.cgroup_parent.split('/').any(|part| part == "..") {
        return invalid(format!("{:?} is not a control group", linux.cgroup_parent));
    }
    let namespaces = linux
        .security_context
        .as_ref()
        .and_then(|security| security.namespace_options.clone())
        .unwrap_or_default();
    if namespaces
        .userns_options
        .as_ref()
        .is_some_and(|u| u.mode() == v1::NamespaceMode::Pod)
    {
        return invalid(
            "pods with a user namespace of their own are not offered by this handler".into(),
        );
    }
    let sysctls: BTreeMap<_, _> = linux.sysctls.iter().collect();
    let host = |mode| mode == v1::NamespaceMode::Node;
    for name in sysctls.keys() {
        namespaces::check_sysctl(name, host(namespaces.network()), host(namespaces.ipc()))?;
    }
    Ok(())
}

/// 64 random hex digits.
pub(super) fn new_id() -> Result<String, Status> {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(super::io("read random bytes"))?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

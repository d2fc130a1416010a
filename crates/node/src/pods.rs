//! The node's pods: a worker for each, woken by the API and by the runtime.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use wharf_client::{Event, Informer, Query, Resource};
use wharf_cri::v1;

use crate::Node;
use crate::part;
use crate::seen::POD_UID;
use crate::terminate;
use crate::worker::{self, Input};

const PODS: Resource = Resource::new("", "v1", "pods");
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// All pods of the node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pods {
    node: Arc<Node>,
    workers: Arc<Mutex<HashMap<String, Worker>>>,
}

struct Worker {
    input: watch::Sender<Input>,
    wake: Arc<Notify>,
}

impl Pods {
    pub fn new(node: Arc<Node>) -> Pods {
        Pods {
            node,
            workers: Arc::default(),
        }
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pod that has a worker.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.workers()
            .values()
            .map(|worker| worker.input.borrow().pod.clone())
            .collect()
    }

    /// A pod by namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let fits = |pod: &Arc<Pod>| part::namespace(pod) == namespace && part::name(pod) == name;
        self.all().into_iter().find(fits)
    }

    /// Follows API and runtime for ever.
    pub async fn run(&self) {
        let query = Query {
            field_selector: format!("spec.nodeName={}", self.node.options.name),
            ..Query::all(PODS)
        };
        let (sender, mut changes) = mpsc::unbounded_channel();
        let informer: Informer<Pod> = Informer::start(self.node.api.clone(), query, Vec::new());
        informer.listen(move |event| {
            // Nobody listens any more once the node stops.
            let _ = match event {
                Event::Applied { old, new } => sender.send((old.clone(), Some(new.clone()))),
                Event::Deleted(old) => sender.send((Some(old.clone()), None)),
            };
        });
        informer.synced().await;
        let mut living = JoinSet::new();
        let known = informer.cache().all();
        let orphans = self.orphans(&known);
        let runtime = self.follow_runtime();
        tokio::pin!(orphans, runtime);
        let mut has_orphans = true;
        loop {
            tokio::select! {
                Some((old, new)) = changes.recv() => self.apply(old, new, &mut living),
                Some(ended) = living.join_next() => self.forget(ended),
                () = &mut orphans, if has_orphans => has_orphans = false,
                () = &mut runtime => {}
            }
        }
    }

    fn apply(&self, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>, living: &mut JoinSet<String>) {
        if let Some(old) = old
            && new
                .as_ref()
                .is_none_or(|new| part::uid(new) != part::uid(&old))
            && let Some(worker) = self.workers().get(part::uid(&old))
        {
            worker.input.send_modify(|input| input.is_gone = true);
        }
        let Some(pod) = new else { return };
        let uid = part::uid(&pod).to_owned();
        let mut workers = self.workers();
        if let Some(worker) = workers.get(&uid) {
            worker.input.send_modify(|input| input.pod = pod);
            return;
        }
        let wake = Arc::new(Notify::new());
        let (input, receiver) = watch::channel(Input {
            pod,
            is_gone: false,
        });
        let life = worker::live(self.node.clone(), receiver, wake.clone());
        workers.insert(uid.clone(), Worker { input, wake });
        living.spawn(async move {
            life.await;
            uid
        });
    }

    fn forget(&self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => drop(self.workers().remove(&uid)),
            Err(error) => tracing::error!(%error, "a pod's worker ended"),
        }
    }

    /// Wakes the workers of pods that something happened to.
    async fn follow_runtime(&self) {
        loop {
            match self
                .node
                .cri
                .get_container_events(v1::GetEventsRequest {})
                .await
            {
                Ok(mut events) => {
                    // What happened before is looked at once more.
                    self.wake_all();
                    while let Some(Ok(event)) = events.next().await {
                        self.wake(&event);
                    }
                }
                Err(status) => {
                    tracing::warn!(error = status.message(), "follow the runtime's events");
                }
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    fn wake(&self, event: &v1::ContainerEventResponse) {
        let status = event.pod_sandbox_status.as_ref();
        let uid = status.and_then(|status| status.labels.get(POD_UID));
        if let Some(worker) = uid.and_then(|uid| self.workers().get(uid).map(|w| w.wake.clone())) {
            worker.notify_one();
        }
    }

    fn wake_all(&self) {
        for worker in self.workers().values() {
            worker.wake.notify_one();
        }
    }

    /// Ends what an earlier run left of pods that are gone since.
    async fn orphans(&self, known: &[Arc<Pod>]) {
        let known: HashSet<&str> = known.iter().map(|pod| part::uid(pod)).collect();
        let listed = self
            .node
            .cri
            .list_pod_sandbox(v1::ListPodSandboxRequest::default())
            .await;
        let sandboxes = match listed {
            Ok(answer) => answer.items,
            Err(status) => {
                tracing::warn!(error = status.message(), "look for pods that are gone");
                return;
            }
        };
        let of_sandboxes = sandboxes
            .iter()
            .filter_map(|sandbox| sandbox.labels.get(POD_UID).cloned());
        let mut uids: HashSet<String> = of_sandboxes.collect();
        uids.extend(self.node.volumes.known());
        let orphans = uids.iter().filter(|uid| !known.contains(uid.as_str()));
        let ends = orphans.map(|uid| terminate::orphan(&self.node, uid));
        futures_util::future::join_all(ends).await;
    }
}

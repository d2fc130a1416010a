//! For tests: a whole API server in a temporary folder, and a node that only says what its pods are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharf_apiserver::{Config, Datastore, Server};
use wharf_client::{
    Api, Deletion, Http, HttpConfig, Informer, Key, Object, Patch, Query, Queue, Target,
};

use crate::writes::{Kind, Writes, resource};
use crate::{Options, pod_state};

/// How long something may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// Nobody cares for it; when it is deleted, it stays until its fate is another.
    Held,
    /// It runs and is ready.
    Ready,
    /// It runs, no more.
    Running,
    /// It failed.
    Failed,
    /// It ended well.
    Succeeded,
}

type Decide = Box<dyn Fn(&Pod) -> Fate + Send>;

/// A server and the node.
pub(crate) struct Cluster {
    pub(crate) api: Arc<dyn Api>,
    pub(crate) writes: Writes,
    fates: Arc<Mutex<Decide>>,
    pods: Arc<Informer<Pod>>,
    queue: Queue<Key>,
    tasks: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Controllers that run until this is dropped: at once, whatever they were about to do.
pub(crate) struct Running(JoinHandle<()>, CancellationToken);

impl Running {
    /// Ends them and waits until nothing of them is left.
    pub(crate) async fn stop(self) {
        self.1.cancel();
        let mut this = self;
        let _ = (&mut this.0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cluster {
    /// A cluster whose pods get ready at once.
    pub(crate) async fn open() -> Cluster {
        // Each process has one; the second test finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(Config {
            data_root: folder.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            datastore: Datastore::Embedded,
            kubeconfig_out: None,
        })
        .await
        .unwrap();
        let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
        let serving = tokio::spawn(server.serve(std::future::pending()));
        let api: Arc<dyn Api> = Arc::new(client(&text));
        let pods = Informer::start(api.clone(), Query::all(resource::<Pod>()), Vec::new());
        let fates: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(|_| Fate::Ready)));
        let queue = Queue::default();
        crate::work::feed_own(&pods, &queue);
        let pods = Arc::new(pods);
        let node = tokio::spawn(node(
            api.clone(),
            pods.clone(),
            queue.clone(),
            fates.clone(),
        ));
        let cluster = Cluster {
            writes: Writes::new(api.clone()),
            api,
            fates,
            pods,
            queue,
            tasks: vec![serving, node],
            _folder: folder,
        };
        // Pods are refused until then.
        cluster
            .until::<ServiceAccount>("the default account", |all| {
                all.iter()
                    .any(|one| one.key() == Key::new("default", "default"))
            })
            .await;
        cluster
    }

    /// Starts the controllers.
    pub(crate) fn controllers(&self) -> Running {
        let stop = CancellationToken::new();
        let run = crate::run(self.api.clone(), Options::default(), stop.clone());
        Running(tokio::spawn(run), stop)
    }

    /// Says what becomes of pods from now on, those that are there included.
    pub(crate) fn fate(&self, decide: impl Fn(&Pod) -> Fate + Send + 'static) {
        *self.fates.lock().unwrap() = Box::new(decide);
        for pod in self.pods.cache().all() {
            self.queue.add(pod.key());
        }
    }

    /// Makes an object.
    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let mut object = object;
        object["apiVersion"] = K::API_VERSION.into();
        object["kind"] = K::KIND.into();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let at = Target::new(resource::<K>(), namespace, "");
        let made = self.api.create(at, object).await.unwrap();
        serde_json::from_value(made).unwrap()
    }

    /// Changes an object of the namespace `default`.
    pub(crate) async fn patch<K: Kind>(&self, name: &str, change: Value) -> K {
        let patch = Patch::Merge(change);
        let key = Key::new("default", name);
        self.writes.patch(&key, patch).await.unwrap()
    }

    /// An object of the namespace `default`.
    pub(crate) async fn get<K: Kind>(&self, name: &str) -> K {
        self.writes.get(&Key::new("default", name)).await.unwrap()
    }

    /// Deletes an object.
    pub(crate) async fn delete<K: Kind>(&self, object: &K, propagation: &'static str) {
        let deletion = Deletion {
            propagation: Some(propagation),
            ..Deletion::default()
        };
        self.writes.delete_so(object, deletion).await.unwrap();
    }

    /// Waits until the objects of a kind are so, and returns them.
    pub(crate) async fn until<K: Kind + std::fmt::Debug>(
        &self,
        what: &str,
        is: impl Fn(&[Arc<K>]) -> bool,
    ) -> Vec<Arc<K>> {
        let informer =
            Informer::<K>::start(self.api.clone(), Query::all(resource::<K>()), Vec::new());
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        informer.listen(move |_| notify.notify_one());
        let cache = informer.cache();
        let wait = async {
            informer.synced().await;
            loop {
                let all = cache.all();
                if is(&all) {
                    return all;
                }
                changed.notified().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(all) => all,
            Err(_) => panic!(
                "not in time: {what}; there is {}",
                json!(
                    cache
                        .all()
                        .iter()
                        .map(|one| json!(**one))
                        .collect::<Vec<_>>()
                )
            ),
        }
    }

    /// Waits until one object of the namespace `default` is so.
    pub(crate) async fn until_one<K: Kind + std::fmt::Debug>(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&K) -> bool,
    ) -> Arc<K> {
        let named = |one: &Arc<K>| one.meta().name.as_deref() == Some(name);
        let all = self
            .until::<K>(what, |all| all.iter().any(|one| named(one) && is(one)))
            .await;
        all.into_iter().find(named).unwrap()
    }

    /// Everything that ever happens to objects of a kind, for as long as the informer lives.
    pub(crate) async fn follow<K: Kind>(&self) -> Informer<K> {
        let informer = Informer::start(self.api.clone(), Query::all(resource::<K>()), Vec::new());
        informer.synced().await;
        informer
    }
}

fn client(kubeconfig: &str) -> Http {
    let field = |name: &str| {
        let line = kubeconfig
            .lines()
            .find_map(|line| line.trim().strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim().to_owned()
    };
    let decode = |name: &str| {
        let text = field(name);
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let mut identity = decode("client-key-data");
    identity.extend(decode("client-certificate-data"));
    Http::new(HttpConfig {
        server: field("server"),
        authorities: decode("certificate-authority-data"),
        identity: Some(identity),
        token: None,
        user_agent: "test".to_owned(),
    })
    .unwrap()
}

/// Brings pods to their fates.
async fn node(
    api: Arc<dyn Api>,
    pods: Arc<Informer<Pod>>,
    queue: Queue<Key>,
    fates: Arc<Mutex<Decide>>,
) {
    let writes = Writes::new(api.clone());
    while let Some(taken) = queue.next().await {
        let Some(pod) = pods.cache().get(taken.key()) else {
            continue;
        };
        let fate = fates.lock().unwrap()(&pod);
        if fate == Fate::Held {
            continue;
        }
        if let Err(error) = settle(&api, &writes, &pod, fate).await
            && !error.is_not_found()
        {
            queue.retry(taken.key().clone());
        }
    }
}

async fn settle(
    api: &Arc<dyn Api>,
    writes: &Writes,
    pod: &Pod,
    fate: Fate,
) -> Result<(), crate::writes::Error> {
    let key = pod.key();
    if pod_state::is_deleted(pod) {
        let now = Deletion {
            grace_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            propagation: None,
        };
        return writes.delete_so(pod, now).await;
    }
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.node_name.is_none() {
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": place(&spec)}});
        let at = Target::new(resource::<Pod>(), &key.namespace, &key.name);
        // What matters is told by the next write.
        let _ = api.create(at.with_subresource("binding"), binding).await;
    }
    let (phase, ready) = match fate {
        Fate::Ready => ("Running", true),
        Fate::Running | Fate::Held => ("Running", false),
        Fate::Failed => ("Failed", false),
        Fate::Succeeded => ("Succeeded", false),
    };
    if pod_state::phase(pod) == phase && pod_state::is_ready(pod) == ready {
        return Ok(());
    }
    let status = if ready { "True" } else { "False" };
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
    let change = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": phase, "conditions": [
        {"type": "Ready", "status": status, "lastTransitionTime": now.to_string()}]}});
    writes
        .patch_status::<Pod>(&key, Patch::Strategic(change))
        .await
        .map(|_| ())
}

/// The node that a pod is pinned to.
fn place(spec: &k8s_openapi::api::core::v1::PodSpec) -> String {
    let spec = json!(spec);
    let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let pinned = &terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0];
    pinned.as_str().unwrap_or("node-1").to_owned()
}

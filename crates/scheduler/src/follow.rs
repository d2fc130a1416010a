//! The scheduler's senses: informers whose events become changes, in their order.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::mpsc::UnboundedSender;
use wharf_client::{Api, Event, Informer, Object, Query, Resource};

use crate::core::Change;
use crate::selector::Selector;
use crate::write::PODS;

const NODES: Resource = Resource::new("", "v1", "nodes");

/// Everything that is followed.
pub(crate) struct Senses {
    pods: Informer<core::Pod>,
    nodes: Informer<core::Node>,
    namespaces: Informer<core::Namespace>,
    claims: Informer<core::PersistentVolumeClaim>,
    volumes: Informer<core::PersistentVolume>,
    classes: Informer<StorageClass>,
    services: Informer<core::Service>,
    replica_sets: Informer<ReplicaSet>,
    controllers: Informer<core::ReplicationController>,
    stateful_sets: Informer<StatefulSet>,
    budgets: Informer<PodDisruptionBudget>,
}

type Sender = UnboundedSender<Change>;

fn start<K: Object>(
    api: &Arc<dyn Api>,
    query: Query,
    sender: &Sender,
    change: impl Fn(Arc<K>, bool) -> Change + Send + Sync + 'static,
) -> Informer<K> {
    let informer: Informer<K> = Informer::start(api.clone(), query, Vec::new());
    let sender = sender.clone();
    informer.listen(move |event| {
        let change = match event {
            Event::Applied { new, .. } => change(new.clone(), true),
            Event::Deleted(old) => change(old.clone(), false),
        };
        // Nobody listens any more once the scheduler stops.
        let _ = sender.send(change);
    });
    informer
}

fn replica_set(one: Arc<ReplicaSet>, is_there: bool) -> Change {
    let selector = is_there.then(|| Selector::read(Some(&one.spec.selector)));
    Change::Owner("ReplicaSet", one.key(), selector)
}

fn controller(one: Arc<core::ReplicationController>, is_there: bool) -> Change {
    let labels = one.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = labels.map(Selector::labels).filter(|_| is_there);
    Change::Owner("ReplicationController", one.key(), selector)
}

fn stateful_set(one: Arc<StatefulSet>, is_there: bool) -> Change {
    let selector = is_there.then(|| Selector::read(Some(&one.spec.selector)));
    Change::Owner("StatefulSet", one.key(), selector)
}

impl Senses {
    /// Begins to follow; changes go to `sender`.
    pub(crate) fn start(api: &Arc<dyn Api>, sender: &Sender) -> Senses {
        let all = |group, plural| Query::all(Resource::new(group, "v1", plural));
        let pods = Query {
            // What ran to its end holds nothing.
            field_selector: "status.phase!=Succeeded,status.phase!=Failed".to_owned(),
            ..Query::all(PODS)
        };
        Senses {
            pods: start(api, pods, sender, |pod, is_there| match is_there {
                true => Change::Pod(pod),
                false => Change::PodGone(pod),
            }),
            nodes: start(
                api,
                Query::all(NODES),
                sender,
                |node, is_there| match is_there {
                    true => Change::Node(node),
                    false => Change::NodeGone(node),
                },
            ),
            namespaces: start(api, all("", "namespaces"), sender, Change::Namespace),
            claims: start(
                api,
                all("", "persistentvolumeclaims"),
                sender,
                Change::Claim,
            ),
            volumes: start(api, all("", "persistentvolumes"), sender, Change::Volume),
            classes: start(
                api,
                all("storage.k8s.io", "storageclasses"),
                sender,
                Change::Class,
            ),
            services: start(api, all("", "services"), sender, Change::Service),
            replica_sets: start(api, all("apps", "replicasets"), sender, replica_set),
            controllers: start(api, all("", "replicationcontrollers"), sender, controller),
            stateful_sets: start(api, all("apps", "statefulsets"), sender, stateful_set),
            budgets: start(
                api,
                all("policy", "poddisruptionbudgets"),
                sender,
                Change::Budget,
            ),
        }
    }

    /// Waits until everything that was there was told.
    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.namespaces.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.services.synced(),
            self.replica_sets.synced(),
            self.controllers.synced(),
            self.stateful_sets.synced(),
            self.budgets.synced(),
        );
    }
}

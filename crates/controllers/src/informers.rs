//! One informer for each resource that controllers read, with the indexes that they look things up by.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Endpoints, Node, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use wharf_client::{Api, Index, Informer, Object, Query};

use crate::ownership::controller_of;
use crate::writes::resource;

/// By the uid of the controlling owner.
pub(crate) const OWNER: &str = "owner";
/// Objects that nothing controls, by namespace.
pub(crate) const ORPHANS: &str = "orphans";
/// Pods by the name of their node; the empty name: those without.
pub(crate) const NODE: &str = "node";

/// The caches of a cluster.
pub(crate) struct Informers {
    pub(crate) pods: Informer<Pod>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) replication_controllers: Informer<ReplicationController>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) stateful_sets: Informer<StatefulSet>,
    pub(crate) daemon_sets: Informer<DaemonSet>,
    pub(crate) revisions: Informer<ControllerRevision>,
    pub(crate) claims: Informer<PersistentVolumeClaim>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) jobs: Informer<Job>,
    pub(crate) cron_jobs: Informer<CronJob>,
    pub(crate) services: Informer<Service>,
    pub(crate) endpoints: Informer<Endpoints>,
    pub(crate) endpoint_slices: Informer<EndpointSlice>,
    pub(crate) disruption_budgets: Informer<PodDisruptionBudget>,
}

impl Informers {
    /// Begins to follow. Wants a tokio runtime.
    pub(crate) fn start(api: &Arc<dyn Api>) -> Informers {
        let node: Index<Pod> = Box::new(|pod: &Pod| {
            let spec = pod.spec.as_ref();
            vec![
                spec.and_then(|spec| spec.node_name.clone())
                    .unwrap_or_default(),
            ]
        });
        let mut of_pods = owned();
        of_pods.push((NODE, node));
        Informers {
            pods: follow(api, of_pods),
            replica_sets: follow(api, owned()),
            replication_controllers: follow(api, Vec::new()),
            deployments: follow(api, Vec::new()),
            stateful_sets: follow(api, Vec::new()),
            daemon_sets: follow(api, Vec::new()),
            revisions: follow(api, owned()),
            claims: follow(api, Vec::new()),
            nodes: follow(api, Vec::new()),
            jobs: follow(api, owned()),
            cron_jobs: follow(api, Vec::new()),
            services: follow(api, Vec::new()),
            endpoints: follow(api, Vec::new()),
            endpoint_slices: follow(api, owned()),
            disruption_budgets: follow(api, Vec::new()),
        }
    }

    /// Waits until every cache shows all that was there at the beginning.
    pub(crate) async fn synced(&self) {
        self.pods.synced().await;
        self.replica_sets.synced().await;
        self.replication_controllers.synced().await;
        self.deployments.synced().await;
        self.stateful_sets.synced().await;
        self.daemon_sets.synced().await;
        self.revisions.synced().await;
        self.claims.synced().await;
        self.nodes.synced().await;
        self.jobs.synced().await;
        self.cron_jobs.synced().await;
        self.services.synced().await;
        self.endpoints.synced().await;
        self.endpoint_slices.synced().await;
        self.disruption_budgets.synced().await;
    }
}

fn follow<K: Object + k8s_openapi::Resource>(
    api: &Arc<dyn Api>,
    indexes: Vec<(&'static str, Index<K>)>,
) -> Informer<K> {
    Informer::start(api.clone(), Query::all(resource::<K>()), indexes)
}

/// The indexes of a kind that controllers own.
fn owned<K: Object>() -> Vec<(&'static str, Index<K>)> {
    let owner: Index<K> = Box::new(|object: &K| {
        let owner = controller_of(object.meta());
        owner.map(|owner| owner.uid.clone()).into_iter().collect()
    });
    let orphans: Index<K> = Box::new(|object: &K| match controller_of(object.meta()) {
        Some(_) => Vec::new(),
        None => vec![object.key().namespace],
    });
    vec![(OWNER, owner), (ORPHANS, orphans)]
}

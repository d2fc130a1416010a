//! ReplicaSets on a real server.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Event, Pod, ReplicationController};
use serde_json::{Value, json};
use wharf_client::{Key, Patch};

use crate::harness::{Cluster, Fate};
use crate::ownership::controller_of;
use crate::pod_state::is_active;

pub(crate) fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn set(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name)}})
}

fn pod(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn active(pods: &[Arc<Pod>]) -> usize {
    pods.iter().filter(|pod| is_active(pod)).count()
}

fn ready(set: &ReplicaSet) -> i32 {
    let status = set.status.clone().unwrap_or_default();
    status.ready_replicas.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_made_replaced_and_given_up() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    cluster.create::<ReplicaSet>(set("web", 5)).await;
    let settled = |count: i32| {
        move |set: &ReplicaSet| {
            let status = set.status.clone().unwrap_or_default();
            status.replicas == count
                && ready(set) == count
                && status.available_replicas.unwrap_or(0) == count
                && status.fully_labeled_replicas.unwrap_or(0) == count
                && status.terminating_replicas == Some(0)
                && status.observed_generation == set.metadata.generation
        }
    };
    cluster.until_one("web", "five", settled(5)).await;
    let pods = cluster
        .until::<Pod>("five pods", |pods| active(pods) == 5)
        .await;
    assert_eq!(pods.len(), 5);
    let first = &pods[0];
    assert_eq!(first.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(controller_of(&first.metadata).unwrap().kind, "ReplicaSet");
    cluster.delete(&**first, "Background").await;
    let gone = first.metadata.uid.clone();
    cluster
        .until::<Pod>("another instead", |pods| {
            active(pods) == 5 && pods.iter().all(|pod| pod.metadata.uid != gone)
        })
        .await;
    cluster
        .patch::<ReplicaSet>("web", json!({"spec": {"replicas": 2}}))
        .await;
    cluster.until_one("web", "two", settled(2)).await;
    cluster
        .until::<Event>("events", |events| {
            let has = |reason: &str| events.iter().any(|e| e.reason.as_deref() == Some(reason));
            has("SuccessfulCreate") && has("SuccessfulDelete")
        })
        .await;
    cluster.fate(|_| Fate::Failed);
    cluster
        .until::<Pod>("failed ones are replaced", |pods| pods.len() > 4)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_adopted_and_released_by_their_labels() {
    let cluster = Cluster::open().await;
    let orphan: Pod = cluster.create(pod("orphan", "web")).await;
    cluster.create::<Pod>(pod("stranger", "other")).await;
    let _running = cluster.controllers();
    let set: ReplicaSet = cluster.create(set("web", 2)).await;
    cluster.until_one("web", "two", |set| ready(set) == 2).await;
    let orphan = cluster
        .get::<Pod>(orphan.metadata.name.as_deref().unwrap())
        .await;
    let owner = controller_of(&orphan.metadata).unwrap();
    assert_eq!(Some(&owner.uid), set.metadata.uid.as_ref());
    let stranger = cluster.get::<Pod>("stranger").await;
    assert!(controller_of(&stranger.metadata).is_none());
    let change = json!({"metadata": {"labels": {"app": "else"}}});
    cluster.patch::<Pod>("orphan", change).await;
    cluster
        .until_one::<Pod>("orphan", "released", |pod| {
            controller_of(&pod.metadata).is_none()
        })
        .await;
    cluster
        .until::<Pod>("one instead of it", |pods| active(pods) == 4)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cheap_to_delete_goes_first() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    cluster.create::<ReplicaSet>(set("web", 4)).await;
    cluster
        .until_one("web", "four", |set| ready(set) == 4)
        .await;
    let pods = cluster.until::<Pod>("pods", |pods| active(pods) == 4).await;
    let dear = pods[2].metadata.name.clone().unwrap();
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap();
        let cost = if name == dear { "100" } else { "1" };
        let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}});
        cluster.patch::<Pod>(name, cost).await;
    }
    // The set must have seen the last of these: its next status is of a sync after it.
    let last = json!({"metadata": {"labels": {"app": "web", "seen": "yes"}}});
    cluster.patch::<Pod>(&dear, last).await;
    let change = json!({"spec": {"replicas": 1}});
    cluster.patch::<ReplicaSet>("web", change).await;
    let left = cluster.until::<Pod>("one", |pods| pods.len() == 1).await;
    assert_eq!(left[0].metadata.name.as_ref(), Some(&dear));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn available_means_ready_for_long_enough() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let mut wanted = set("slow", 1);
    wanted["spec"]["minReadySeconds"] = json!(2);
    cluster.create::<ReplicaSet>(wanted).await;
    let available = |set: &ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        status.available_replicas.unwrap_or(0)
    };
    let at_first = cluster
        .until_one("slow", "ready", |set| ready(set) == 1)
        .await;
    assert_eq!(available(&at_first), 0);
    cluster
        .until_one("slow", "available", |set| available(set) == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_a_condition_until_it_is_over() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let quota = json!({"metadata": {"name": "few", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}});
    cluster
        .create::<k8s_openapi::api::core::v1::ResourceQuota>(quota)
        .await;
    cluster
        .until_one::<k8s_openapi::api::core::v1::ResourceQuota>("few", "counted", |quota| {
            quota
                .status
                .as_ref()
                .is_some_and(|status| status.used.is_some())
        })
        .await;
    cluster.create::<ReplicaSet>(set("web", 3)).await;
    let failure = |set: &ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        let mut all = status.conditions.into_iter().flatten();
        all.find(|one| one.type_.as_deref() == Some("ReplicaFailure"))
    };
    let failed = cluster
        .until_one("web", "failure", |set| failure(set).is_some())
        .await;
    let failure_then = failure(&failed).unwrap();
    assert_eq!(failure_then.reason.as_deref(), Some("FailedCreate"));
    assert!(failure_then.message.unwrap().contains("exceeded quota"));
    cluster
        .patch::<ReplicaSet>("web", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until_one("web", "over", |set| {
            failure(set).is_none() && ready(set) == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_controllers_do_the_same() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let wanted = json!({"metadata": {"name": "old", "namespace": "default"}, "spec": {
        "replicas": 3, "selector": {"app": "old"}, "template": template("old")}});
    cluster.create::<ReplicationController>(wanted).await;
    let settled = |count: i32| {
        move |one: &ReplicationController| {
            let status = one.status.clone().unwrap_or_default();
            status.replicas == count && status.available_replicas.unwrap_or(0) == count
        }
    };
    cluster.until_one("old", "three", settled(3)).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let key = Key::new("default", "old");
    let _: ReplicationController = cluster.writes.patch(&key, scale).await.unwrap();
    cluster.until_one("old", "none", settled(0)).await;
    cluster.until::<Pod>("no pods", <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_there_are_never_too_many() {
    let cluster = Cluster::open().await;
    let pods = cluster.follow::<Pod>().await;
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (seen, cache) = (most.clone(), pods.cache());
    pods.listen(move |_| {
        seen.fetch_max(cache.len(), std::sync::atomic::Ordering::SeqCst);
    });
    cluster.create::<ReplicaSet>(set("web", 40)).await;
    for pause_ms in [1, 3, 9, 2, 20, 5] {
        let running = cluster.controllers();
        // The moment of a kill is chance; that it is an early one is all that these are for.
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms * 10)).await;
        running.stop().await;
    }
    let _running = cluster.controllers();
    cluster
        .until_one("web", "all", |set| ready(set) == 40)
        .await;
    assert_eq!(pods.cache().len(), 40);
    // A write that was under way when its controller was killed may come through later: once a kill, at most.
    assert!(most.load(std::sync::atomic::Ordering::SeqCst) <= 40);
}

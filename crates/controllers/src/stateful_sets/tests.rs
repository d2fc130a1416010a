//! StatefulSets on a real server.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::harness::{Cluster, Fate};
use crate::pod_state::is_ready;

fn set(replicas: i32, more: Value) -> Value {
    let mut set = json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {
        "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "one"}]}}}});
    for (field, value) in more.as_object().unwrap() {
        set["spec"][field] = value.clone();
    }
    set
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn has_image(pod: &Pod, image: &str) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].image.as_deref() == Some(image)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| name(pod)).collect()
}

fn status(set: &StatefulSet) -> StatefulSetStatus {
    set.status.clone().unwrap_or_default()
}

/// All pods are ready, and of the newest version.
fn is_done(set: &StatefulSet) -> bool {
    let status = status(set);
    let wanted = set.spec.replicas;
    status.observed_generation == set.metadata.generation
        && Some(status.replicas) == wanted
        && status.ready_replicas == wanted.filter(|n| *n > 0)
        && status.updated_replicas == wanted.filter(|n| *n > 0)
        && status.current_revision == status.update_revision
}

/// What happened to pods, as `+db-0`, `-db-0`; fails where there were too many that are not ready.
async fn record(cluster: &Cluster) -> (Arc<Mutex<Vec<String>>>, impl Sized) {
    let pods = cluster.follow::<Pod>().await;
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = log.clone();
    let known = pods.cache().len();
    let skip = Mutex::new(known);
    pods.listen(move |event| {
        let mut skip = skip.lock().unwrap();
        let line = match event {
            wharf_client::Event::Applied { old: None, new } => {
                if *skip > 0 {
                    *skip -= 1;
                    return;
                }
                format!("+{}", name(new))
            }
            wharf_client::Event::Applied { .. } => return,
            wharf_client::Event::Deleted(pod) => format!("-{}", name(pod)),
        };
        seen.lock().unwrap().push(line);
    });
    (log, pods)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_and_go_in_order_with_their_names() {
    let cluster = Cluster::open().await;
    let (log, _pods) = record(&cluster).await;
    let first_ready = Arc::new(Mutex::new(true));
    let cache = cluster.follow::<Pod>().await;
    let (seen, all) = (first_ready.clone(), cache.cache());
    cache.listen(move |event| {
        if let wharf_client::Event::Applied { old: None, new } = event
            && name(new) != "db-3"
        {
            let before = all.all();
            let mut others = before.iter().filter(|pod| name(pod) < name(new));
            *seen.lock().unwrap() &= others.all(|pod| is_ready(pod));
        }
    });
    let _running = cluster.controllers();
    let more = json!({"ordinals": {"start": 3}});
    cluster.create::<StatefulSet>(set(3, more)).await;
    cluster.until_one("db", "done", is_done).await;
    assert!(
        *first_ready.lock().unwrap(),
        "one is made before the other is ready"
    );
    let pods = cluster.until::<Pod>("pods", |pods| pods.len() == 3).await;
    assert_eq!(names(&pods), ["db-3", "db-4", "db-5"]);
    let pod = &pods[1];
    let labels = pod.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-4");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "4");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("db-4"));
    assert_eq!(spec.subdomain.as_deref(), Some("db"));
    let less = json!({"spec": {"replicas": 1}});
    cluster.patch::<StatefulSet>("db", less).await;
    cluster.until::<Pod>("one", |pods| pods.len() == 1).await;
    cluster.until_one("db", "done", is_done).await;
    let log = log.lock().unwrap().clone();
    assert_eq!(log, ["+db-3", "+db-4", "+db-5", "-db-5", "-db-4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_goes_from_the_last_to_the_partition() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let more =
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    cluster.create::<StatefulSet>(set(3, more)).await;
    cluster.until_one("db", "done", is_done).await;
    let (log, _pods) = record(&cluster).await;
    cluster.patch::<StatefulSet>("db", image("two")).await;
    cluster
        .until_one::<StatefulSet>("db", "partly", |set| {
            let status = status(set);
            status.updated_replicas == Some(2)
                && status.ready_replicas == Some(3)
                && status.current_replicas == Some(1)
        })
        .await;
    let pods = cluster.until::<Pod>("pods", |_| true).await;
    let new: Vec<bool> = pods.iter().map(|pod| has_image(pod, "two")).collect();
    assert_eq!(new, [false, true, true]);
    let order = log.lock().unwrap().clone();
    assert_eq!(order, ["-db-2", "+db-2", "-db-1", "+db-1"]);
    // One below the partition comes back as it was.
    cluster.delete(&*pods[0], "Background").await;
    let gone = pods[0].metadata.uid.clone();
    let back = cluster
        .until_one::<Pod>("db-0", "is back", |pod| {
            pod.metadata.uid != gone && is_ready(pod)
        })
        .await;
    assert!(has_image(&back, "one"));
    let all = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
    cluster.patch::<StatefulSet>("db", all).await;
    cluster.until_one("db", "done", is_done).await;
    let revisions = cluster
        .until::<ControllerRevision>("revisions", |_| true)
        .await;
    assert_eq!(revisions.len(), 2);
    // As `kubectl rollout undo` does it.
    cluster.patch::<StatefulSet>("db", image("one")).await;
    cluster.until_one("db", "undone", is_done).await;
    let revisions = cluster
        .until::<ControllerRevision>("revisions", |_| true)
        .await;
    let mut numbers: Vec<_> = revisions.iter().filter_map(|one| one.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_parallel_nobody_waits_and_several_may_be_unavailable() {
    let cluster = Cluster::open().await;
    cluster.fate(|_| Fate::Running);
    let _running = cluster.controllers();
    let more = json!({"podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}});
    cluster.create::<StatefulSet>(set(4, more)).await;
    cluster.until::<Pod>("four", |pods| pods.len() == 4).await;
    cluster.fate(|_| Fate::Ready);
    cluster.until_one("db", "done", is_done).await;
    cluster.fate(|pod| match has_image(pod, "two") {
        true => Fate::Running,
        false => Fate::Ready,
    });
    cluster.patch::<StatefulSet>("db", image("two")).await;
    cluster
        .until::<Pod>("two at once", |pods| {
            pods.iter().filter(|pod| has_image(pod, "two")).count() == 2
        })
        .await;
    let pods = cluster.until::<Pod>("four", |pods| pods.len() == 4).await;
    assert!(has_image(&pods[0], "one") && has_image(&pods[1], "one"));
    cluster.fate(|_| Fate::Ready);
    cluster.until_one("db", "done", is_done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_delete_waits_for_somebody_to_delete() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let more = json!({"updateStrategy": {"type": "OnDelete"}});
    cluster.create::<StatefulSet>(set(2, more)).await;
    cluster
        .until_one::<StatefulSet>("db", "two", |set| status(set).ready_replicas == Some(2))
        .await;
    let changed: StatefulSet = cluster.patch("db", image("two")).await;
    cluster
        .until_one::<StatefulSet>("db", "seen", |set| {
            status(set).observed_generation == changed.metadata.generation
                && status(set).updated_replicas.is_none()
        })
        .await;
    let pod: Pod = cluster.get("db-0").await;
    assert!(has_image(&pod, "one"));
    cluster.delete(&pod, "Background").await;
    cluster
        .until_one::<Pod>("db-0", "the new version", |pod| has_image(pod, "two"))
        .await;
    assert!(has_image(&cluster.get::<Pod>("db-1").await, "one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_made_kept_and_given_up() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let more = json!({
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]});
    cluster.create::<StatefulSet>(set(2, more)).await;
    cluster.until_one("db", "done", is_done).await;
    let claims = cluster
        .until::<PersistentVolumeClaim>("two", |claims| claims.len() == 2)
        .await;
    assert_eq!(claims[1].metadata.name.as_deref(), Some("data-db-1"));
    assert_eq!(claims[0].metadata.labels.as_ref().unwrap()["app"], "db");
    let pod: Pod = cluster.get("db-1").await;
    let volumes = pod.spec.unwrap().volumes.unwrap_or_default();
    let claim = volumes.iter().find(|volume| volume.name == "data").unwrap();
    let claim = claim.persistent_volume_claim.as_ref().unwrap();
    assert_eq!(claim.claim_name, "data-db-1");
    let less = json!({"spec": {"replicas": 1}});
    cluster.patch::<StatefulSet>("db", less).await;
    cluster
        .until::<PersistentVolumeClaim>("owned by its pod, or gone with it", |claims| {
            let claim = claims
                .iter()
                .find(|claim| claim.metadata.name.as_deref() == Some("data-db-1"));
            claim.is_none_or(|claim| {
                let owners = claim.metadata.owner_references.iter().flatten();
                owners.into_iter().any(|owner| owner.kind == "Pod")
            })
        })
        .await;
    cluster.until::<Pod>("one", |pods| pods.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_pods_are_replaced_and_a_kill_harms_nobody() {
    let cluster = Cluster::open().await;
    cluster.create::<StatefulSet>(set(4, json!({}))).await;
    for pause_ms in [10, 50, 20, 80, 120] {
        let running = cluster.controllers();
        // When a kill comes is chance.
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        running.stop().await;
    }
    let _running = cluster.controllers();
    cluster.until_one("db", "done", is_done).await;
    let pods = cluster.until::<Pod>("four", |pods| pods.len() == 4).await;
    let failed = pods[2].metadata.uid.clone();
    let which = failed.clone();
    cluster.fate(move |pod| match pod.metadata.uid == which {
        true => Fate::Failed,
        false => Fate::Ready,
    });
    cluster
        .until_one::<Pod>("db-2", "another", |pod| {
            pod.metadata.uid != failed && is_ready(pod)
        })
        .await;
    cluster.until_one("db", "done", is_done).await;
}

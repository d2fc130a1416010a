//! Deployments on a real server.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use wharf_client::{Cache, Informer};

use super::condition;
use super::revision::REVISION;
use crate::harness::{Cluster, Fate};
use crate::pod_state::{is_active, is_ready};

fn deployment(name: &str, replicas: i32, strategy: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "strategy": strategy,
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "one"}]}}}})
}

fn rolling(surge: &str, unavailable: &str) -> Value {
    let part = |text: &str| text.parse::<i32>().map_or(json!(text), |n| json!(n));
    json!({"type": "RollingUpdate", "rollingUpdate": {
        "maxSurge": part(surge), "maxUnavailable": part(unavailable)}})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn has_image(pod: &Pod, image: &str) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].image.as_deref() == Some(image)
}

fn status(deployment: &Deployment) -> DeploymentStatus {
    deployment.status.clone().unwrap_or_default()
}

/// As `kubectl rollout status` judges.
fn is_done(deployment: &Deployment) -> bool {
    super::status::is_complete(deployment, &status(deployment))
        && condition::reason(&status(deployment), condition::PROGRESSING) == condition::COMPLETE
        && status(deployment).unavailable_replicas.is_none()
}

fn number(deployment: &Deployment) -> String {
    let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.get(REVISION).cloned().unwrap_or_default()
}

/// The worst that was ever seen.
struct Bounds {
    most: Arc<AtomicI32>,
    fewest: Arc<AtomicI32>,
    _pods: Informer<Pod>,
    cache: Arc<Cache<Pod>>,
}

impl Bounds {
    async fn watch(cluster: &Cluster) -> Bounds {
        let pods = cluster.follow::<Pod>().await;
        let (most, fewest) = (
            Arc::new(AtomicI32::new(0)),
            Arc::new(AtomicI32::new(i32::MAX)),
        );
        let (cache, m, f) = (pods.cache(), most.clone(), fewest.clone());
        let seen = cache.clone();
        pods.listen(move |_| {
            let pods = cache.all();
            let active = pods.iter().filter(|pod| is_active(pod));
            let (mut all, mut ready) = (0, 0);
            for pod in active {
                all += 1;
                ready += i32::from(is_ready(pod));
            }
            m.fetch_max(all, Ordering::SeqCst);
            f.fetch_min(ready, Ordering::SeqCst);
        });
        Bounds {
            most,
            fewest,
            _pods: pods,
            cache: seen,
        }
    }

    fn seen(&self) -> (i32, i32) {
        (
            self.most.load(Ordering::SeqCst),
            self.fewest.load(Ordering::SeqCst),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_rolled_out_within_the_bounds() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let wanted = deployment("web", 6, rolling("2", "1"));
    cluster.create::<Deployment>(wanted).await;
    let first = cluster.until_one("web", "done", is_done).await;
    assert_eq!(number(&first), "1");
    let s = status(&first);
    assert_eq!((s.replicas, s.updated_replicas), (Some(6), Some(6)));
    assert_eq!(s.terminating_replicas, Some(0));
    let available = condition::get(&s, condition::AVAILABLE).unwrap();
    assert_eq!(available.status.as_deref(), Some("True"));
    let pod = &cluster.until::<Pod>("pods", |pods| pods.len() == 6).await[0];
    let hash = &pod.metadata.labels.as_ref().unwrap()[super::revision::HASH];
    assert!(
        pod.metadata
            .name
            .as_ref()
            .unwrap()
            .starts_with(&format!("web-{hash}-"))
    );

    let bounds = Bounds::watch(&cluster).await;
    cluster.patch::<Deployment>("web", image("two")).await;
    let second = cluster
        .until_one("web", "two is done", |d| number(d) == "2" && is_done(d))
        .await;
    assert_eq!(
        second.metadata.generation,
        status(&second).observed_generation
    );
    cluster
        .until::<Pod>("only new ones", |pods| {
            pods.len() == 6 && pods.iter().all(|pod| has_image(pod, "two"))
        })
        .await;
    let (most, fewest) = bounds.seen();
    assert!(most <= 8, "{most} pods");
    assert!(fewest >= 5, "{fewest} available");
    cluster
        .until::<Event>("events", |events| {
            events.iter().any(|event| {
                event.reason.as_deref() == Some("ScalingReplicaSet")
                    && event.involved_object.kind.as_deref() == Some("Deployment")
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_gets_ready_is_late_and_can_be_undone() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let mut wanted = deployment("web", 3, rolling("1", "0"));
    wanted["spec"]["progressDeadlineSeconds"] = json!(2);
    cluster.create::<Deployment>(wanted).await;
    cluster.until_one("web", "done", is_done).await;
    let good = cluster.get::<Deployment>("web").await.spec.template;
    cluster.fate(|pod| match has_image(pod, "bad") {
        true => Fate::Running,
        false => Fate::Ready,
    });
    cluster.patch::<Deployment>("web", image("bad")).await;
    let late = cluster
        .until_one("web", "late", |d| {
            condition::reason(&status(d), condition::PROGRESSING) == condition::TIMED_OUT
        })
        .await;
    let progress = condition::get(&status(&late), condition::PROGRESSING)
        .unwrap()
        .clone();
    assert_eq!(progress.status.as_deref(), Some("False"));
    assert!(
        progress
            .message
            .unwrap()
            .ends_with("has timed out progressing.")
    );
    assert_eq!(status(&late).available_replicas, Some(3), "nothing is lost");
    // As `kubectl rollout undo` does it.
    let change = json!({"spec": {"template": {"spec": good.spec}}});
    cluster.patch::<Deployment>("web", change).await;
    cluster
        .until_one("web", "undone", |d| number(d) == "3" && is_done(d))
        .await;
    let sets = cluster.until::<ReplicaSet>("sets", |_| true).await;
    let history: Vec<_> = sets
        .iter()
        .filter_map(|set| {
            let annotations = set.metadata.annotations.as_ref()?;
            annotations.get("deployment.kubernetes.io/revision-history")
        })
        .collect();
    assert_eq!(history, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreation_has_no_two_versions_at_once() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let wanted = deployment("web", 3, json!({"type": "Recreate"}));
    cluster.create::<Deployment>(wanted).await;
    cluster.until_one("web", "done", is_done).await;
    let pods = cluster.follow::<Pod>().await;
    let both = Arc::new(Mutex::new(false));
    let (cache, seen) = (pods.cache(), both.clone());
    pods.listen(move |_| {
        let pods = cache.all();
        let has = |image: &str| pods.iter().any(|pod| has_image(pod, image));
        *seen.lock().unwrap() |= has("one") && has("two");
    });
    cluster.patch::<Deployment>("web", image("two")).await;
    cluster
        .until_one("web", "done", |d| number(d) == "2" && is_done(d))
        .await;
    assert!(!*both.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_one_waits_and_scales() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    cluster
        .create::<Deployment>(deployment("web", 2, rolling("1", "0")))
        .await;
    cluster.until_one("web", "done", is_done).await;
    let pause = json!({"spec": {"paused": true}});
    cluster.patch::<Deployment>("web", pause).await;
    let reason = |d: &Deployment| condition::reason(&status(d), condition::PROGRESSING).to_owned();
    cluster
        .until_one("web", "paused", |d| reason(d) == condition::PAUSED)
        .await;
    let mut change = image("two");
    change["spec"]["replicas"] = json!(4);
    cluster.patch::<Deployment>("web", change).await;
    cluster
        .until_one("web", "scaled", |d| status(d).available_replicas == Some(4))
        .await;
    let pods = cluster.until::<Pod>("pods", |pods| pods.len() == 4).await;
    assert!(pods.iter().all(|pod| has_image(pod, "one")));
    let resume = json!({"spec": {"paused": false}});
    cluster.patch::<Deployment>("web", resume).await;
    cluster
        .until_one("web", "done", |d| number(d) == "2" && is_done(d))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_amid_a_rollout_is_shared_out() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    cluster
        .create::<Deployment>(deployment("web", 10, rolling("3", "2")))
        .await;
    cluster.until_one("web", "done", is_done).await;
    cluster.fate(|pod| match has_image(pod, "two") {
        true => Fate::Running,
        false => Fate::Ready,
    });
    cluster.patch::<Deployment>("web", image("two")).await;
    let sizes = |sets: &[Arc<ReplicaSet>]| {
        let mut sizes: Vec<i32> = sets.iter().filter_map(|set| set.spec.replicas).collect();
        sizes.sort_unstable();
        sizes
    };
    cluster
        .until::<ReplicaSet>("stuck", |sets| sizes(sets) == [5, 8])
        .await;
    cluster
        .until_one("web", "counted", |d| {
            status(d).available_replicas == Some(8) && status(d).updated_replicas == Some(5)
        })
        .await;
    let grow = json!({"spec": {"replicas": 15}});
    cluster.patch::<Deployment>("web", grow).await;
    cluster
        .until::<ReplicaSet>("shared out", |sets| sizes(sets) == [7, 11])
        .await;
    cluster.fate(|_| Fate::Ready);
    cluster
        .until_one("web", "done", |d| {
            is_done(d) && status(d).replicas == Some(15)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_has_its_limit() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    let mut wanted = deployment("web", 1, rolling("1", "0"));
    wanted["spec"]["revisionHistoryLimit"] = json!(1);
    cluster.create::<Deployment>(wanted).await;
    cluster.until_one("web", "one", is_done).await;
    for (revision, name) in [("2", "two"), ("3", "three"), ("4", "four")] {
        cluster.patch::<Deployment>("web", image(name)).await;
        cluster
            .until_one("web", name, |d| number(d) == revision && is_done(d))
            .await;
    }
    cluster
        .until::<ReplicaSet>("the one before is kept", |sets| sets.len() == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_amid_a_rollout_it_arrives_within_the_bounds() {
    let cluster = Cluster::open().await;
    {
        let _running = cluster.controllers();
        let wanted = deployment("web", 8, rolling("25%", "25%"));
        cluster.create::<Deployment>(wanted).await;
        cluster.until_one("web", "done", is_done).await;
    }
    let bounds = Bounds::watch(&cluster).await;
    cluster.patch::<Deployment>("web", image("two")).await;
    for pause_ms in [15, 40, 5, 60, 25, 90, 10, 30] {
        let running = cluster.controllers();
        // When a kill comes is chance.
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        running.stop().await;
    }
    let _running = cluster.controllers();
    cluster
        .until_one("web", "done", |d| number(d) == "2" && is_done(d))
        .await;
    cluster
        .until::<Pod>("no surplus", |pods| {
            pods.len() == 8 && pods.iter().all(|pod| has_image(pod, "two"))
        })
        .await;
    let (most, fewest) = bounds.seen();
    assert!(most <= 10, "{most} pods");
    assert!(fewest >= 6, "{fewest} available");
    let sets = cluster.until::<ReplicaSet>("sets", |_| true).await;
    assert_eq!(sets.len(), 2);
    assert_eq!(bounds.cache.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_are_there_at_once() {
    let cluster = Cluster::open().await;
    let _running = cluster.controllers();
    cluster
        .create::<Deployment>(deployment("first", 1, rolling("1", "0")))
        .await;
    cluster.until_one("first", "done", is_done).await;
    let pods = cluster.follow::<Pod>().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    pods.listen(move |event| {
        let wharf_client::Event::Applied { old: None, new } = event else {
            return;
        };
        let is_it = new.metadata.name.as_ref().unwrap().starts_with("second");
        if is_it && let Some(tell) = tell.lock().unwrap().take() {
            let _ = tell.send(std::time::Instant::now());
        }
    });
    let start = std::time::Instant::now();
    cluster
        .create::<Deployment>(deployment("second", 1, rolling("1", "0")))
        .await;
    let took = told.await.unwrap().duration_since(start);
    println!("from the Deployment to its pod: {took:?}");
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}

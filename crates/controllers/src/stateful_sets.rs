//! StatefulSets: pods with names of their own, one after the other, each with its claims.

mod claims;
mod identity;
mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use wharf_client::{Cache, Key, Object, Patch, Queue};

use crate::context::Context;
use crate::events::{NORMAL, Recorder, WARNING};
use crate::history::{self, History};
use crate::informers::{ORPHANS, OWNER};
use crate::ownership::{Claims, controller_of, owner_key};
use crate::selector::{is_empty, selects};
use crate::work::{Outcome, Task, feed, feed_own, work};
use crate::writes::Error;
use crate::{pod_state, pods};

use plan::{Action, View};

/// In whose name events are recorded.
const COMPONENT: &str = "statefulset-controller";

/// Keeps the pods of StatefulSets.
pub(crate) fn stateful_set(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    let informers = &context.informers;
    let all = informers.stateful_sets.cache();
    feed(&informers.pods, &queue, move |pod| keepers(&all, pod));
    feed(&informers.claims, &queue, users);
    feed_own(&informers.stateful_sets, &queue);
    let recorder = context.recorder(COMPONENT);
    let workers = context.options.workers;
    work(COMPONENT, queue, workers, move |key| {
        let (context, recorder) = (context.clone(), recorder.clone());
        async move { sync(&context, &recorder, key).await }
    })
}

fn keepers(all: &Cache<StatefulSet>, pod: &Pod) -> Vec<Key> {
    if controller_of(&pod.metadata).is_some() {
        return owner_key::<StatefulSet>(&pod.metadata)
            .into_iter()
            .collect();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let candidates = all.in_namespace(namespace);
    let candidates = candidates.iter().filter(|set| is_mine(set, pod));
    candidates.map(|set| set.key()).collect()
}

/// The sets that may wait for something to happen to a claim.
fn users(claim: &PersistentVolumeClaim) -> Vec<Key> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let owners = claim.metadata.owner_references.iter().flatten();
    owners
        .filter_map(|owner| match owner.kind.as_str() {
            "StatefulSet" => Some(Key::new(namespace, &owner.name)),
            "Pod" => identity::parent(&owner.name).map(|(set, _)| Key::new(namespace, set)),
            _ => None,
        })
        .collect()
}

fn is_mine(set: &StatefulSet, pod: &Pod) -> bool {
    let selector = &set.spec.selector;
    !is_empty(selector)
        && selects(selector, pod.metadata.labels.as_ref())
        && identity::ordinal(set, pod).is_some()
}

async fn sync(context: &Context, recorder: &Recorder, key: Key) -> Outcome {
    let Some(set) = context.informers.stateful_sets.cache().get(&key) else {
        return Ok(None);
    };
    let uid = set.metadata.uid.clone().unwrap_or_default();
    if is_empty(&set.spec.selector) || !context.expectations.are_met(&uid) {
        return Ok(None);
    }
    let pods = claim(context, &set, &uid).await?;
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let history = history::settle(
        context,
        &*set,
        &set.spec.selector,
        &set.spec.template,
        collisions.unwrap_or(0),
    )
    .await?;
    let view = View::new(&set, &pods, &history, context.now())?;
    let outcome = act(context, recorder, &view).await;
    status::write(context, &view, &history).await?;
    outcome?;
    tidy(context, &view, &history).await?;
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let pods = pods.iter().map(|pod| &**pod);
    Ok(pod_state::next_available(pods, min_ready, view.now))
}

async fn claim(context: &Context, set: &StatefulSet, uid: &str) -> Result<Vec<Arc<Pod>>, Error> {
    let cache = context.informers.pods.cache();
    let mut candidates = cache.by(OWNER, uid);
    candidates.extend(cache.by(ORPHANS, &set.key().namespace));
    let claims = Claims::new(&context.writes, set);
    claims.claim(candidates, |pod| is_mine(set, pod)).await
}

async fn act(context: &Context, recorder: &Recorder, view: &View<'_>) -> Result<(), Error> {
    if view.set.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    claims::keep_owners(context, view).await?;
    let actions = view.plan();
    let actions: Vec<&Action> = actions.iter().collect();
    pods::slow_start(actions.len(), |at| {
        take(context, recorder, view, actions[at])
    })
    .await
    .1
}

async fn take(
    context: &Context,
    recorder: &Recorder,
    view: &View<'_>,
    action: &Action,
) -> Result<(), Error> {
    match action {
        Action::Create(ordinal) => create(context, recorder, view, *ordinal).await,
        Action::Claims(ordinal) => claims::create(context, recorder, view.set, *ordinal).await,
        Action::Identify(pod) => identify(context, view.set, pod).await,
        Action::Replace(pod) => {
            let meta = &view.set.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            let (kind, reason, word) = match pod_state::phase(pod) {
                "Failed" => (WARNING, "RecreatingFailedPod", "failed"),
                _ => (NORMAL, "RecreatingTerminatedPod", "terminated"),
            };
            let message = format!(
                "StatefulSet {}/{} is recreating {word} Pod {}",
                namespace.unwrap_or_default(),
                name.unwrap_or_default(),
                pod.metadata.name.as_deref().unwrap_or_default()
            );
            recorder.event(view.set, kind, reason, message);
            delete(context, recorder, view.set, pod).await
        }
        Action::Delete(pod) => delete(context, recorder, view.set, pod).await,
    }
}

async fn create(
    context: &Context,
    recorder: &Recorder,
    view: &View<'_>,
    ordinal: i32,
) -> Result<(), Error> {
    let set = view.set;
    claims::create(context, recorder, set, ordinal).await?;
    let pod = identity::pod(set, view.version(ordinal), ordinal);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let of = set.metadata.name.as_deref().unwrap_or_default();
    match context.writes.create(&pod).await {
        Ok(made) => {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            context.expectations.created(uid, &made);
            let message = format!("create Pod {name} in StatefulSet {of} successful");
            recorder.event(set, NORMAL, "SuccessfulCreate", message);
            Ok(())
        }
        Err(error) if error.already_exists() || error.namespace_is_terminating() => Err(error),
        Err(error) => {
            let words = error.message();
            let message = format!("create Pod {name} in StatefulSet {of} failed error: {words}");
            recorder.event(set, WARNING, "FailedCreate", message);
            Err(error)
        }
    }
}

async fn delete(
    context: &Context,
    recorder: &Recorder,
    set: &StatefulSet,
    pod: &Pod,
) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let of = set.metadata.name.as_deref().unwrap_or_default();
    match context.writes.delete(pod).await {
        Ok(()) => {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            context.expectations.deleted(uid, pod);
            let message = format!("delete Pod {name} in StatefulSet {of} successful");
            recorder.event(set, NORMAL, "SuccessfulDelete", message);
            Ok(())
        }
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => {
            let words = error.message();
            let message = format!("delete Pod {name} in StatefulSet {of} failed error: {words}");
            recorder.event(set, WARNING, "FailedDelete", message);
            Err(error)
        }
    }
}

/// An adopted pod gets the labels that tell who it is.
async fn identify(context: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    let labels = identity::labels(set, pod);
    let uid = &pod.metadata.uid;
    let patch = serde_json::json!({"metadata": {"uid": uid, "labels": labels}});
    let key = pod.key();
    let _: Pod = context.writes.patch(&key, Patch::Merge(patch)).await?;
    Ok(())
}

/// Old revisions go, but none that a pod is of.
async fn tidy(context: &Context, view: &View<'_>, history: &History) -> Result<(), Error> {
    let used = history::of_pods(view.pods.iter().map(|pod| &**pod));
    let current = &view.current.name;
    let in_use = |one: &_| {
        let name = history::name(one);
        used.contains(name) || name == current || name == history::name(&history.newest)
    };
    let limit = view.set.spec.revision_history_limit;
    history::truncate(context, &history.all, in_use, limit).await
}

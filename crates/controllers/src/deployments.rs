//! Deployments: from one template to the next, through ReplicaSets.

mod bounds;
mod condition;
mod recreate;
mod revision;
mod rolling;
mod rollout;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use wharf_client::{Cache, Event, Key, Object, Queue};

use crate::context::Context;
use crate::events::{Recorder, WARNING};
use crate::informers::{ORPHANS, OWNER};
use crate::ownership::{Claims, controller_of, owner_key};
use crate::pod_state;
use crate::selector::{is_empty, selects};
use crate::work::{Outcome, Task, feed, feed_own, work};
use crate::writes::Error;

use rollout::Rollout;

/// In whose name events are recorded.
const COMPONENT: &str = "deployment-controller";

/// Rolls Deployments out.
pub(crate) fn deployment(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    let informers = &context.informers;
    let all = informers.deployments.cache();
    feed(&informers.replica_sets, &queue, move |set| {
        keepers(&all, set)
    });
    feed_own(&informers.deployments, &queue);
    listen_to_ends(&context, &queue);
    let recorder = context.recorder(COMPONENT);
    let workers = context.options.workers;
    work(COMPONENT, queue, workers, move |key| {
        let (context, recorder) = (context.clone(), recorder.clone());
        async move { sync(&context, &recorder, key).await }
    })
}

/// Who may have to do with a set.
fn keepers(all: &Cache<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    if controller_of(&set.metadata).is_some() {
        return owner_key::<Deployment>(&set.metadata).into_iter().collect();
    }
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let labels = set.metadata.labels.as_ref();
    let candidates = all.in_namespace(namespace);
    let candidates = candidates
        .iter()
        .filter(|one| !is_empty(&one.spec.selector) && selects(&one.spec.selector, labels));
    candidates.map(|one| one.key()).collect()
}

/// A Deployment that recreates waits for the end of its old pods, which no set tells of.
fn listen_to_ends(context: &Context, queue: &Queue<Key>) {
    let (sets, all) = (
        context.informers.replica_sets.cache(),
        context.informers.deployments.cache(),
    );
    let queue = queue.clone();
    context.informers.pods.listen(move |event| {
        let pod = match event {
            Event::Deleted(pod) => pod,
            Event::Applied { new, .. } if pod_state::is_terminal(new) => new,
            Event::Applied { .. } => return,
        };
        let set = owner_key::<ReplicaSet>(&pod.metadata).and_then(|key| sets.get(&key));
        let owner = set.and_then(|set| owner_key::<Deployment>(&set.metadata));
        if let Some(owner) = owner.and_then(|key| all.get(&key))
            && bounds::recreates(&owner)
        {
            queue.add(owner.key());
        }
    });
}

async fn sync(context: &Context, recorder: &Recorder, key: Key) -> Outcome {
    let Some(seen) = context.informers.deployments.cache().get(&key) else {
        return Ok(None);
    };
    if is_empty(&seen.spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        recorder.event(&*seen, WARNING, "SelectingAll", message);
        return Ok(None);
    }
    let sets = claim(context, &seen).await?;
    let mut rollout = Rollout::new(context, recorder, seen, sets);
    let outcome = step(&mut rollout).await;
    // What was learnt on the way to a failure counts too: the reason of it, and a collision of names.
    rollout.write_status().await?;
    outcome?;
    Ok(rollout.until_deadline())
}

/// The sets that are its own from now on, oldest first.
async fn claim(context: &Context, owner: &Deployment) -> Result<Vec<ReplicaSet>, Error> {
    let cache = context.informers.replica_sets.cache();
    let mut candidates = cache.by(OWNER, owner.metadata.uid.as_deref().unwrap_or_default());
    candidates.extend(cache.by(ORPHANS, &owner.key().namespace));
    let claims = Claims::new(&context.writes, owner);
    let is_mine = |set: &ReplicaSet| selects(&owner.spec.selector, set.metadata.labels.as_ref());
    let mine = claims.claim(candidates, is_mine).await?;
    let mut mine: Vec<ReplicaSet> = mine.iter().map(|set| (**set).clone()).collect();
    mine.sort_by(|a, b| {
        let when = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
        when(a)
            .cmp(&when(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    Ok(mine)
}

/// One step on the way; what it writes comes back as an event, which brings the next.
async fn step(rollout: &mut Rollout<'_>) -> Result<(), Error> {
    if rollout.deployment.metadata.deletion_timestamp.is_some() {
        rollout.find_new();
        rollout.tell_counts();
        return Ok(());
    }
    rollout.note_pause();
    if rollout.is_paused() || rollout.is_scaling() {
        return scale::sync(rollout).await;
    }
    match bounds::recreates(&rollout.deployment) {
        true => recreate::step(rollout).await,
        false => rolling::step(rollout).await,
    }
}

/// The pods of a set, from the cache.
fn pods_of(context: &Context, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    context.informers.pods.cache().by(OWNER, uid)
}

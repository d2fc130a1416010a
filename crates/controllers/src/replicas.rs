//! ReplicaSets and ReplicationControllers: as many pods of one template as declared.

mod kinds;
mod rank;
mod status;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use wharf_client::{Cache, Event, Informer, Key, Queue};

use crate::context::Context;
use crate::events::Recorder;
use crate::informers::{Informers, ORPHANS, OWNER};
use crate::ownership::{Claims, controller_of, owner_key};
use crate::selector::Labels;
use crate::work::{Outcome, Task, feed, feed_own, work};
use crate::writes::{Error, Kind};
use crate::{pod_state, pods};

pub(crate) use kinds::{replica_set, replication_controller};

/// Pods made or deleted in one go.
const BURST_MAX: usize = 500;

/// A kind that keeps a number of pods.
pub(crate) trait Replicated: Kind {
    /// In whose name events are recorded.
    const COMPONENT: &'static str;
    /// The cache of the kind.
    fn informer(informers: &Informers) -> &Informer<Self>;
    /// How many pods.
    fn replicas(&self) -> i32;
    /// For how long a pod must be ready to be available.
    fn min_ready_seconds(&self) -> i32;
    /// Whether a pod with these labels belongs to it.
    fn selects(&self, labels: Option<&Labels>) -> bool;
    /// What its pods are like.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// What it is known to be.
    fn status(&self) -> status::Status;
    /// Says what it is.
    fn set_status(&mut self, status: status::Status);
}

/// The work of the controller of one such kind.
fn start<K: Replicated>(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    let informer = K::informer(&context.informers);
    let all = informer.cache();
    feed(&context.informers.pods, &queue, move |pod| {
        keepers(&all, pod)
    });
    feed_own(informer, &queue);
    let expectations = context.expectations.clone();
    informer.listen(move |event| {
        if let Event::Deleted(gone) = event {
            expectations.forget(gone.meta().uid.as_deref().unwrap_or_default());
        }
    });
    let recorder = context.recorder(K::COMPONENT);
    let workers = context.options.workers;
    work(K::COMPONENT, queue, workers, move |key| {
        let (context, recorder) = (context.clone(), recorder.clone());
        async move { sync::<K>(&context, &recorder, key).await }
    })
}

/// Who may have to do with a pod: who controls it, or who would like to.
fn keepers<K: Replicated>(all: &Cache<K>, pod: &Pod) -> Vec<Key> {
    if controller_of(&pod.metadata).is_some() {
        return owner_key::<K>(&pod.metadata).into_iter().collect();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.as_ref();
    let candidates = all.in_namespace(namespace);
    let candidates = candidates.iter().filter(|one| one.selects(labels));
    candidates.map(|one| one.key()).collect()
}

async fn sync<K: Replicated>(context: &Context, recorder: &Recorder, key: Key) -> Outcome {
    let Some(owner) = K::informer(&context.informers).cache().get(&key) else {
        return Ok(None);
    };
    let uid = owner.meta().uid.clone().unwrap_or_default();
    // Before the pods are read: what is met now is in what is read afterwards.
    let all_is_seen = context.expectations.are_met(&uid);
    let pods = claim(context, &*owner, &uid).await?;
    let active: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| pod_state::is_active(pod))
        .cloned()
        .collect();
    let terminating = pods.iter().filter(|pod| pod_state::is_terminating(pod));
    let terminating = terminating.count();
    let outcome = if all_is_seen && owner.meta().deletion_timestamp.is_none() {
        manage(context, recorder, &*owner, &active).await
    } else {
        Ok(())
    };
    let now = context.now();
    let found = status::Found {
        active: &active,
        terminating,
        outcome: &outcome,
        now,
    };
    let status = status::decide(&*owner, &found);
    write_status(context, &*owner, status).await?;
    outcome?;
    Ok(next_look(&*owner, &active, now))
}

/// The pods that are its own from now on, ended ones included.
async fn claim<K: Replicated>(
    context: &Context,
    owner: &K,
    uid: &str,
) -> Result<Vec<Arc<Pod>>, Error> {
    let cache = context.informers.pods.cache();
    let mut candidates = cache.by(OWNER, uid);
    candidates.extend(cache.by(ORPHANS, &owner.key().namespace));
    let claims = Claims::new(&context.writes, owner);
    let selects = |pod: &Pod| owner.selects(pod.metadata.labels.as_ref());
    // An ended pod that nobody controls stays nobody's.
    candidates.retain(|pod| controller_of(&pod.metadata).is_some() || !pod_state::is_terminal(pod));
    claims.claim(candidates, selects).await
}

/// Makes or deletes pods until there are as many as declared.
async fn manage<K: Replicated>(
    context: &Context,
    recorder: &Recorder,
    owner: &K,
    active: &[Arc<Pod>],
) -> Result<(), Error> {
    let wanted = usize::try_from(owner.replicas()).unwrap_or_default();
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST_MAX);
        return make(context, recorder, owner, missing).await;
    }
    let surplus = (active.len() - wanted).min(BURST_MAX);
    if surplus == 0 {
        return Ok(());
    }
    let related = related(context, owner, active);
    let goes = rank::surplus(active, &related, surplus, context.now());
    let deletions = goes
        .iter()
        .map(|pod| pods::delete(context, recorder, owner, pod));
    let outcomes = pods::all(deletions).await;
    outcomes.into_iter().collect()
}

async fn make<K: Replicated>(
    context: &Context,
    recorder: &Recorder,
    owner: &K,
    count: usize,
) -> Result<(), Error> {
    let Some(template) = owner.template() else {
        return Ok(());
    };
    let pod = pods::from_template(owner, template);
    let step = |_| async {
        pods::create(context, recorder, owner, &pod)
            .await
            .map(|_| ())
    };
    match pods::slow_start(count, step).await.1 {
        // The namespace's end brings the end of the owner; there is nothing to be done until then.
        Err(error) if error.namespace_is_terminating() => Ok(()),
        outcome => outcome,
    }
}

/// The active pods of all that have the same owner: of two pods on one node, one is given up before one that is alone.
fn related<K: Replicated>(context: &Context, owner: &K, active: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let Some(above) = controller_of(owner.meta()) else {
        return active.to_vec();
    };
    let (sets, pods) = (
        K::informer(&context.informers).cache(),
        context.informers.pods.cache(),
    );
    let mut all = Vec::new();
    for set in sets.by(OWNER, &above.uid) {
        all.extend(pods.by(OWNER, set.meta().uid.as_deref().unwrap_or_default()));
    }
    all.retain(|pod| pod_state::is_active(pod));
    all
}

async fn write_status<K: Replicated>(
    context: &Context,
    owner: &K,
    status: status::Status,
) -> Result<(), Error> {
    if status == owner.status() {
        return Ok(());
    }
    let mut written = owner.clone();
    written.set_status(status.clone());
    match context.writes.update_status(&written).await {
        // Mostly because its number was just changed: the count of pods is right all the same.
        Err(error) if error.is_conflict() => {
            let mut live: K = context.writes.get(&owner.key()).await?;
            if live.meta().uid != owner.meta().uid || live.status() == status {
                return Ok(());
            }
            live.set_status(status);
            context.writes.update_status(&live).await.map(|_| ())
        }
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

fn next_look<K: Replicated>(
    owner: &K,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> Option<std::time::Duration> {
    let pods = active.iter().map(|pod| &**pod);
    pod_state::next_available(pods, owner.min_ready_seconds(), now)
}

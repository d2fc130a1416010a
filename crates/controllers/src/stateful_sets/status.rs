//! What is said of a StatefulSet.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::identity;
use super::plan::{View, is_healthy};
use crate::context::Context;
use crate::history::History;
use crate::pod_state;
use crate::writes::Error;

/// The status that it should have.
pub(super) fn decide(view: &View<'_>, history: &History) -> StatefulSetStatus {
    let min_ready = view.set.spec.min_ready_seconds.unwrap_or(0);
    let count = |is: &dyn Fn(&k8s_openapi::api::core::v1::Pod) -> bool| {
        let pods = view.pods.iter().filter(|pod| is(pod));
        i32::try_from(pods.count()).unwrap_or(i32::MAX)
    };
    let runs = |pod: &_| pod_state::phase(pod) == "Running" && pod_state::is_ready(pod);
    let replicas = count(&|_| true);
    let ready = count(&runs);
    let available = count(&|pod| runs(pod) && pod_state::is_available(pod, min_ready, view.now));
    let of =
        |name: &str| count(&|pod| !pod_state::is_deleted(pod) && identity::revision(pod) == name);
    let updated = of(&view.update.name);
    let mut current = (of(&view.current.name), &view.current.name);
    let wanted = view.set.spec.replicas.unwrap_or(1);
    let is_complete = view.is_rolling()
        && updated == wanted
        && replicas == wanted
        && count(&is_healthy) == wanted;
    if is_complete {
        current = (updated, &view.update.name);
    }
    let some = |count: i32| (count != 0).then_some(count);
    let old = view.set.status.clone().unwrap_or_default();
    StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(current.0),
        updated_replicas: some(updated),
        current_revision: Some(current.1.clone()),
        update_revision: Some(view.update.name.clone()),
        collision_count: Some(history.collisions),
        conditions: old.conditions,
    }
}

/// Writes it, if it is another than before.
pub(super) async fn write(
    context: &Context,
    view: &View<'_>,
    history: &History,
) -> Result<(), Error> {
    let status = decide(view, history);
    if view.set.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut written: StatefulSet = view.set.clone();
    written.status = Some(status);
    match context.writes.update_status(&written).await {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

//! Recreate: no new pod before the last old one ended.

use super::revision;
use super::rollout::{Rollout, replicas};
use super::{pods_of, status};
use crate::pod_state::is_terminal;
use crate::writes::Error;

/// The next step of a rollout by recreation.
pub(super) async fn step(rollout: &mut Rollout<'_>) -> Result<(), Error> {
    revision::settle(rollout, false).await?;
    let mut acted = false;
    for at in rollout.old() {
        if replicas(&rollout.sets[at]) > 0 {
            acted |= rollout.resize(at, 0).await?;
        }
    }
    if acted || old_pods_run(rollout) {
        rollout.tell_progress();
        return Ok(());
    }
    if rollout.new.is_none() {
        revision::settle(rollout, true).await?;
    }
    if let Some(at) = rollout.new {
        let wanted = rollout.bounds().replicas;
        if replicas(&rollout.sets[at]) != wanted {
            rollout.resize(at, wanted).await?;
        }
    }
    let known = rollout.deployment.status.clone().unwrap_or_default();
    if status::is_complete(&rollout.deployment, &known) {
        rollout.clean_up().await?;
    }
    rollout.tell_progress();
    Ok(())
}

/// Whether a pod of an old set may still run, even one that is being deleted.
fn old_pods_run(rollout: &Rollout<'_>) -> bool {
    rollout.old().into_iter().any(|at| {
        let set = &rollout.sets[at];
        let counted = set.status.as_ref().map_or(0, |status| status.replicas);
        let pods = pods_of(rollout.context, set);
        counted > 0 || pods.iter().any(|pod| !is_terminal(pod))
    })
}

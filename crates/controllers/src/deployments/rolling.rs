//! RollingUpdate: new pods before, after and beside old ones, within the bounds.

use super::revision;
use super::rollout::{Rollout, replicas, size};
use super::status;
use crate::writes::Error;

/// The next step of a rolling update.
pub(super) async fn step(rollout: &mut Rollout<'_>) -> Result<(), Error> {
    revision::settle(rollout, true).await?;
    if grow_new(rollout).await? || shrink_old(rollout).await? {
        rollout.tell_progress();
        return Ok(());
    }
    let known = rollout.deployment.status.clone().unwrap_or_default();
    if status::is_complete(&rollout.deployment, &known) {
        rollout.clean_up().await?;
    }
    rollout.tell_progress();
    Ok(())
}

async fn grow_new(rollout: &mut Rollout<'_>) -> Result<bool, Error> {
    let Some(at) = rollout.new else {
        return Ok(false);
    };
    let total = rollout.sets.iter().map(replicas).sum();
    let now = replicas(&rollout.sets[at]);
    let wanted = rollout.bounds().new_size(now, total);
    if wanted == now {
        return Ok(false);
    }
    rollout.resize(at, wanted).await
}

async fn shrink_old(rollout: &mut Rollout<'_>) -> Result<bool, Error> {
    let old = rollout.old();
    let new = rollout.new_set().map(size).unwrap_or_default();
    let sizes: Vec<_> = old.iter().map(|at| size(&rollout.sets[*at])).collect();
    let wanted = rollout.bounds().old_sizes(new, &sizes);
    let mut acted = false;
    for (at, wanted) in old.into_iter().zip(wanted) {
        if replicas(&rollout.sets[at]) != wanted {
            acted |= rollout.resize(at, wanted).await?;
        }
    }
    Ok(acted)
}

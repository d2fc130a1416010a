//! What is said of a Deployment, from its sets, and what goes when all is well.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};

use super::rollout::{Rollout, replicas};
use super::{condition, revision};
use crate::writes::Error;

/// Whether a rollout may be late at all.
pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    let deadline = deployment.spec.progress_deadline_seconds;
    deadline.is_some_and(|seconds| seconds != i32::MAX)
}

/// Whether all pods are new and available, and no old one is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = super::bounds::replicas(deployment);
    let count = |count: Option<i32>| count.unwrap_or(0);
    count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether anything went forward between two looks.
fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

impl Rollout<'_> {
    /// Says how many pods there are.
    pub(super) fn tell_counts(&mut self) {
        let status = self.count();
        self.deployment.status = Some(status);
    }

    /// Says how many there are, and whether it goes forward.
    pub(super) fn tell_progress(&mut self) {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut status = self.count();
        if has_deadline(&self.deployment) {
            self.judge(&old, &mut status);
        } else {
            condition::remove(&mut status, condition::PROGRESSING);
        }
        match self.failure() {
            Some(failure) => condition::set(&mut status, failure),
            None => condition::remove(&mut status, condition::REPLICA_FAILURE),
        }
        self.deployment.status = Some(status);
    }

    fn count(&self) -> DeploymentStatus {
        let old = self.deployment.status.clone().unwrap_or_default();
        let of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
        let sum = |count: &dyn Fn(ReplicaSetStatus) -> i32| -> i32 {
            self.sets.iter().map(|set| count(of(set))).sum()
        };
        let some = |count: i32| (count != 0).then_some(count);
        let available = sum(&|status| status.available_replicas.unwrap_or(0));
        let wanted: i32 = self.sets.iter().map(replicas).sum();
        let terminating: Option<Vec<i32>> = self
            .sets
            .iter()
            .map(|set| of(set).terminating_replicas)
            .collect();
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(&|status| status.replicas)),
            updated_replicas: some(self.new_set().map_or(0, |set| of(set).replicas)),
            ready_replicas: some(sum(&|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: some(available),
            unavailable_replicas: some((wanted - available).max(0)),
            terminating_replicas: terminating.map(|all| all.iter().sum()),
            collision_count: old.collision_count,
            conditions: old.conditions,
        };
        let is_enough = available >= self.bounds().fewest();
        let (word, reason, message) = match is_enough {
            true => (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            ),
            false => (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ),
        };
        let message = message.to_owned();
        let available = condition::new(condition::AVAILABLE, word, reason, message, self.now);
        condition::set(&mut status, available);
        status
    }

    /// Complete, going forward, or late.
    fn judge(&self, old: &DeploymentStatus, status: &mut DeploymentStatus) {
        let known = condition::get(status, condition::PROGRESSING).cloned();
        let was_complete = status.replicas == status.updated_replicas
            && known.as_ref().and_then(|c| c.reason.as_deref()) == Some(condition::COMPLETE);
        if was_complete {
            return;
        }
        let who = match self.new_set().and_then(|set| set.metadata.name.as_deref()) {
            Some(set) => format!("ReplicaSet \"{set}\""),
            None => format!("Deployment \"{}\"", self.name()),
        };
        let say = |word: &str, reason: &str, rest: &str| {
            let message = format!("{who} {rest}");
            condition::new(condition::PROGRESSING, word, reason, message, self.now)
        };
        if is_complete(&self.deployment, status) {
            let complete = say("True", condition::COMPLETE, "has successfully progressed.");
            condition::set(status, complete);
        } else if progressed(old, status) {
            let mut goes = say("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(known) = &known {
                if known.status.as_deref() == Some("True") {
                    goes.last_transition_time = known.last_transition_time.clone();
                }
                // Even if it is the same as before: the deadline counts from its update.
                condition::remove(status, condition::PROGRESSING);
            }
            condition::set(status, goes);
        } else if self.is_late(known.as_ref()) {
            let late = say("False", condition::TIMED_OUT, "has timed out progressing.");
            condition::set(status, late);
        }
    }

    fn is_late(&self, known: Option<&DeploymentCondition>) -> bool {
        let Some(known) = known else {
            return false;
        };
        match known.reason.as_deref() {
            Some(condition::COMPLETE) => return false,
            Some(condition::TIMED_OUT) => return true,
            _ => {}
        }
        let deadline = self.deployment.spec.progress_deadline_seconds;
        let since = known.last_update_time.as_ref().map(|time| time.0);
        let (Some(deadline), Some(since)) = (deadline, since) else {
            return false;
        };
        since
            .checked_add(SignedDuration::from_secs(deadline.into()))
            .is_ok_and(|end| end < self.now)
    }

    /// A failure to make or delete pods: of the new set, otherwise of any.
    fn failure(&self) -> Option<DeploymentCondition> {
        let of = |set: &ReplicaSet| {
            let status = set.status.as_ref()?;
            let mut all = status.conditions.iter().flatten();
            all.find(|one| one.type_.as_deref() == Some(condition::REPLICA_FAILURE))
                .cloned()
        };
        let failure = self
            .new_set()
            .and_then(of)
            .or_else(|| self.sets.iter().find_map(of))?;
        Some(DeploymentCondition {
            type_: failure.type_,
            status: failure.status,
            reason: failure.reason,
            message: failure.message,
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time,
        })
    }

    /// Deletes the oldest sets beyond the history's limit, of those that have no pods.
    pub(super) async fn clean_up(&mut self) -> Result<(), Error> {
        let limit = self.deployment.spec.revision_history_limit;
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return Ok(());
        };
        let limit = usize::try_from(limit).unwrap_or_default();
        let mut alive: Vec<&ReplicaSet> = self
            .old()
            .into_iter()
            .map(|at| &self.sets[at])
            .filter(|set| set.metadata.deletion_timestamp.is_none())
            .collect();
        let Some(surplus) = alive.len().checked_sub(limit).filter(|n| *n > 0) else {
            return Ok(());
        };
        alive.sort_by_key(|set| revision::number(set));
        let mut gone = BTreeSet::new();
        for set in alive.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let is_empty = status.replicas == 0
                && replicas(set) == 0
                && status.observed_generation >= set.metadata.generation;
            if !is_empty {
                continue;
            }
            match self.context.writes.delete(set).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            gone.insert(set.metadata.uid.clone());
        }
        // They would be deleted again, and counted, until the cache knows.
        let new = self.new_set().and_then(|set| set.metadata.uid.clone());
        self.sets.retain(|set| !gone.contains(&set.metadata.uid));
        self.new = self.sets.iter().position(|set| set.metadata.uid == new);
        Ok(())
    }
}

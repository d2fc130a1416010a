//! One look at a Deployment: its sets as they are and become, and the status that will be written at the end.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::bounds::{Bounds, Size};
use super::{condition, revision, status};
use crate::context::Context;
use crate::events::{NORMAL, Recorder};
use crate::writes::Error;

/// What the number of a set was meant for.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";

pub(super) struct Rollout<'a> {
    pub(super) context: &'a Context,
    pub(super) recorder: &'a Recorder,
    /// As it was seen, with the status and the annotations that it will have.
    pub(super) deployment: Deployment,
    seen: Arc<Deployment>,
    /// All sets, oldest first.
    pub(super) sets: Vec<ReplicaSet>,
    /// Which of them has the template of now.
    pub(super) new: Option<usize>,
    pub(super) now: Timestamp,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        context: &'a Context,
        recorder: &'a Recorder,
        seen: Arc<Deployment>,
        sets: Vec<ReplicaSet>,
    ) -> Rollout<'a> {
        Rollout {
            context,
            recorder,
            deployment: (*seen).clone(),
            seen,
            sets,
            new: None,
            now: context.now_seconds(),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.deployment.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds::of(&self.deployment)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.deployment.spec.paused == Some(true)
    }

    pub(super) fn status(&mut self) -> &mut DeploymentStatus {
        self.deployment.status.get_or_insert_default()
    }

    /// Looks for the set that has the template of now: the oldest, if there are several.
    pub(super) fn find_new(&mut self) {
        let template = &self.deployment.spec.template;
        let is = |set: &ReplicaSet| revision::has_template(set, template);
        self.new = self.sets.iter().position(is);
    }

    pub(super) fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.and_then(|at| self.sets.get(at))
    }

    /// Where the sets of other templates are, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|at| Some(*at) != self.new)
            .collect()
    }

    /// A pause holds the clock of the deadline, and its end starts it anew.
    pub(super) fn note_pause(&mut self) {
        if !status::has_deadline(&self.deployment) {
            return;
        }
        let (is_paused, now) = (self.is_paused(), self.now);
        let status = self.status();
        let reason = condition::reason(status, condition::PROGRESSING);
        // What is late stays late.
        if reason == condition::TIMED_OUT {
            return;
        }
        let (reason, message) = match (is_paused, reason == condition::PAUSED) {
            (true, false) => (condition::PAUSED, "Deployment is paused"),
            (false, true) => (condition::RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let message = message.to_owned();
        let paused = condition::new(condition::PROGRESSING, "Unknown", reason, message, now);
        condition::set(status, paused);
    }

    /// Whether the number of pods was changed since the sets got theirs.
    pub(super) fn is_scaling(&self) -> bool {
        let wanted = self.bounds().replicas;
        let mut active = self.sets.iter().filter(|set| replicas(set) > 0);
        active.any(|set| number(set, DESIRED).is_some_and(|desired| desired != wanted))
    }

    /// Gives a set its number of pods; says whether that is another than before.
    pub(super) async fn resize(&mut self, at: usize, size: i32) -> Result<bool, Error> {
        let bounds = self.bounds();
        let Some(set) = self.sets.get(at) else {
            return Ok(false);
        };
        let before = replicas(set);
        let mut wanted = set.clone();
        wanted.spec.replicas = Some(size);
        meant_for(&mut wanted, bounds);
        if wanted == *set {
            return Ok(false);
        }
        let name = set.metadata.name.clone().unwrap_or_default();
        let written = self.write_set(set, wanted).await?;
        self.sets[at] = written;
        if before == size {
            return Ok(false);
        }
        let way = if size > before { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {before} to {size}");
        self.recorder
            .event(&*self.seen, NORMAL, "ScalingReplicaSet", message);
        Ok(true)
    }

    /// Replaces a set. That its status went on meanwhile is no conflict.
    pub(super) async fn write_set(
        &self,
        seen: &ReplicaSet,
        wanted: ReplicaSet,
    ) -> Result<ReplicaSet, Error> {
        match self.context.writes.update(&wanted).await {
            Err(error) if error.is_conflict() => {
                let key = wharf_client::Object::key(seen);
                let mut live: ReplicaSet = self.context.writes.get(&key).await?;
                let same = live.metadata.uid == seen.metadata.uid
                    && live.spec == seen.spec
                    && live.metadata.annotations == seen.metadata.annotations;
                if !same {
                    return Err(error);
                }
                live.spec = wanted.spec;
                live.metadata.annotations = wanted.metadata.annotations;
                self.context.writes.update(&live).await
            }
            outcome => outcome,
        }
    }

    /// Writes status and annotations, if they are others than before.
    pub(super) async fn write_status(&mut self) -> Result<(), Error> {
        let status = self.deployment.status.get_or_insert_default();
        if status.conditions.as_ref().is_some_and(Vec::is_empty) {
            status.conditions = None;
        }
        let seen = self.seen.status.clone().unwrap_or_default();
        let annotations = &self.deployment.metadata.annotations;
        if *status == seen && *annotations == self.seen.metadata.annotations {
            return Ok(());
        }
        match self.context.writes.update_status(&self.deployment).await {
            Ok(written) => self.deployment = written,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// When to look again though nothing happens: when it may be late.
    pub(super) fn until_deadline(&self) -> Option<Duration> {
        let status = self.deployment.status.as_ref()?;
        let deadline = self.deployment.spec.progress_deadline_seconds?;
        let progress = condition::get(status, condition::PROGRESSING)?;
        let is_settled = status::is_complete(&self.deployment, status)
            || progress.reason.as_deref() == Some(condition::TIMED_OUT)
            || self.is_paused();
        if is_settled || !status::has_deadline(&self.deployment) {
            return None;
        }
        let since = progress.last_update_time.as_ref()?.0;
        // Times are whole seconds: one more, so that it is past by then.
        let at = since
            .checked_add(SignedDuration::from_secs(i64::from(deadline) + 1))
            .ok()?;
        let wait = at.duration_since(self.context.now());
        Some(
            Duration::try_from(wait)
                .unwrap_or_default()
                .max(Duration::from_millis(100)),
        )
    }
}

/// The wanted number of pods of a set.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// What it says of itself.
pub(super) fn size(set: &ReplicaSet) -> Size {
    let status = set.status.as_ref();
    Size {
        replicas: replicas(set),
        available: status
            .and_then(|status| status.available_replicas)
            .unwrap_or(0),
    }
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(annotation)?.parse().ok()
}

/// The number of pods that the Deployment wanted when the set got its own.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

/// The most pods that the Deployment allowed then.
pub(super) fn most(set: &ReplicaSet) -> Option<i32> {
    number(set, MOST)
}

/// Notes what the number of a set is meant for.
pub(super) fn meant_for(set: &mut ReplicaSet, bounds: Bounds) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), bounds.replicas.to_string());
    annotations.insert(MOST.to_owned(), bounds.most().to_string());
}

/// These say what a set is to its Deployment, and are not copied to others.
pub(super) fn is_own_annotation(name: &str) -> bool {
    name == DESIRED || name == MOST
}

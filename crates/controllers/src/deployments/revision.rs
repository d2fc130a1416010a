//! The set of the template of now: found or made, with its number in the history.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use wharf_client::{Key, Object};

use super::bounds::recreates;
use super::condition;
use super::rollout::{Rollout, is_own_annotation, meant_for, replicas};
use super::status::has_deadline;
use crate::events::{NORMAL, WARNING};
use crate::ownership::{is_controlled_by, reference};
use crate::writes::Error;
use crate::{fingerprint, ownership};

/// The label that tells a set's pods from those of other sets.
pub(super) const HASH: &str = "pod-template-hash";
/// A set's number in the history; of a Deployment, that of its set of now.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that it had before.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Characters of the history that are kept.
const HISTORY_MAX: usize = 2000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// Whether a set's pods are what this template says; the hash label is the set's own.
pub(super) fn has_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(other) = &set.spec.template else {
        return false;
    };
    plain(other) == plain(template)
}

/// Without what makes no difference.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut plain = template.clone();
    let meta = plain.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    let mut labels = meta.labels.take().unwrap_or_default();
    labels.remove(HASH);
    meta.labels = (!labels.is_empty()).then_some(labels);
    meta.annotations = meta.annotations.take().filter(|all| !all.is_empty());
    plain
}

/// A set's number in the history; nothing where it has none.
pub(super) fn number(set: &ReplicaSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Finds the set of now and brings its notes up to date; makes it, if `creates`.
pub(super) async fn settle(rollout: &mut Rollout<'_>, creates: bool) -> Result<(), Error> {
    rollout.find_new();
    let old = rollout.old();
    let newest = old.iter().map(|at| number(&rollout.sets[*at])).max();
    let next = newest.unwrap_or(0) + 1;
    match rollout.new {
        Some(at) => refresh(rollout, at, next).await,
        None if creates => create(rollout, next).await,
        None => Ok(()),
    }
}

/// The set is there; after a rollback it becomes the newest again.
async fn refresh(rollout: &mut Rollout<'_>, at: usize, next: i64) -> Result<(), Error> {
    let seen = &rollout.sets[at];
    let mut wanted = seen.clone();
    let of = rollout.deployment.metadata.annotations.as_ref();
    copy_annotations(of, &mut wanted);
    give_number(&mut wanted, next);
    wanted.spec.min_ready_seconds = min_ready(rollout);
    let differs = wanted.metadata.annotations != seen.metadata.annotations
        || wanted.spec.min_ready_seconds.unwrap_or(0) != seen.spec.min_ready_seconds.unwrap_or(0);
    if differs {
        let written = rollout.write_set(seen, wanted).await?;
        rollout.sets[at] = written;
    }
    note_number(rollout, at);
    let name = rollout.sets[at].metadata.name.clone().unwrap_or_default();
    let (known, now) = (has_deadline(&rollout.deployment), rollout.now);
    let status = rollout.status();
    if known && condition::get(status, condition::PROGRESSING).is_none() {
        let message = format!("Found new replica set \"{name}\"");
        let found = condition::new(
            condition::PROGRESSING,
            "True",
            "FoundNewReplicaSet",
            message,
            now,
        );
        condition::set(status, found);
    }
    Ok(())
}

async fn create(rollout: &mut Rollout<'_>, next: i64) -> Result<(), Error> {
    let set = draft(rollout, next);
    let name = set.metadata.name.clone().unwrap_or_default();
    let count = replicas(&set);
    let made = match rollout.context.writes.create(&set).await {
        Ok(made) => {
            if count > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {count}");
                let recorder = rollout.recorder;
                recorder.event(&rollout.deployment, NORMAL, "ScalingReplicaSet", message);
            }
            progress(
                rollout,
                "True",
                "NewReplicaSetCreated",
                &format!("Created new replica set \"{name}\""),
            );
            made
        }
        Err(error) if error.already_exists() => collided(rollout, &set.key(), error).await?,
        Err(error) => {
            let message = format!(
                "Failed to create new replica set \"{name}\": {}",
                error.message()
            );
            if !error.namespace_is_terminating() {
                progress(rollout, "False", "ReplicaSetCreateError", &message);
                let recorder = rollout.recorder;
                recorder.event(
                    &rollout.deployment,
                    WARNING,
                    "ReplicaSetCreateError",
                    message,
                );
            }
            return Err(error);
        }
    };
    rollout.sets.push(made);
    let at = rollout.sets.len() - 1;
    rollout.new = Some(at);
    note_number(rollout, at);
    Ok(())
}

fn progress(rollout: &mut Rollout<'_>, status: &str, reason: &str, message: &str) {
    if !has_deadline(&rollout.deployment) {
        return;
    }
    let kind = condition::PROGRESSING;
    let progress = condition::new(kind, status, reason, message.to_owned(), rollout.now);
    condition::set(rollout.status(), progress);
}

/// There is a set of this name: ours, which the cache does not show yet, or that of another template with the same hash.
async fn collided(rollout: &mut Rollout<'_>, key: &Key, error: Error) -> Result<ReplicaSet, Error> {
    let there: ReplicaSet = rollout.context.writes.get(key).await?;
    let is_ours = is_controlled_by(&there.metadata, &rollout.deployment.metadata)
        && ownership::controller_of(&there.metadata).is_some();
    if is_ours && has_template(&there, &rollout.deployment.spec.template) {
        return Ok(there);
    }
    let status = rollout.status();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    Err(error)
}

fn draft(rollout: &Rollout<'_>, next: i64) -> ReplicaSet {
    let deployment = &rollout.deployment;
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let mut template = deployment.spec.template.clone();
    let hash = fingerprint::of(&plain(&template), collisions);
    let meta = template.metadata.get_or_insert_default();
    let labels = meta.labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    let pairs = selector.match_labels.get_or_insert_default();
    pairs.insert(HASH.to_owned(), hash.clone());
    let bounds = rollout.bounds();
    let count = match recreates(deployment) {
        true => bounds.replicas,
        false => bounds.new_size(0, rollout.sets.iter().map(replicas).sum()),
    };
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", rollout.name())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(count),
            min_ready_seconds: min_ready(rollout),
            selector,
            template: Some(template),
        },
        status: None,
    };
    copy_annotations(deployment.metadata.annotations.as_ref(), &mut set);
    give_number(&mut set, next);
    meant_for(&mut set, bounds);
    set
}

fn min_ready(rollout: &Rollout<'_>) -> Option<i32> {
    rollout
        .deployment
        .spec
        .min_ready_seconds
        .filter(|seconds| *seconds != 0)
}

/// The Deployment's annotations are the set's too, but for those that mean something for one of them only.
fn copy_annotations(from: Option<&BTreeMap<String, String>>, to: &mut ReplicaSet) {
    let annotations = to.metadata.annotations.get_or_insert_default();
    for (name, value) in from.into_iter().flatten() {
        let is_own = is_own_annotation(name)
            || [REVISION, HISTORY, LAST_APPLIED, ROLLBACK].contains(&name.as_str());
        if !is_own {
            annotations.insert(name.clone(), value.clone());
        }
    }
}

/// Gives a set a higher number, and notes the one that it had.
fn give_number(set: &mut ReplicaSet, next: i64) {
    if number(set) >= next {
        return;
    }
    let annotations = set.metadata.annotations.get_or_insert_default();
    let Some(before) = annotations.insert(REVISION.to_owned(), next.to_string()) else {
        return;
    };
    let history = annotations.entry(HISTORY.to_owned()).or_default();
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(&before);
    while history.len() > HISTORY_MAX
        && let Some((_, rest)) = history.split_once(',')
    {
        *history = rest.to_owned();
    }
}

/// The Deployment has the number of its set of now.
fn note_number(rollout: &mut Rollout<'_>, at: usize) {
    let annotations = rollout.sets[at].metadata.annotations.as_ref();
    let Some(number) = annotations.and_then(|all| all.get(REVISION)).cloned() else {
        return;
    };
    let of = rollout
        .deployment
        .metadata
        .annotations
        .get_or_insert_default();
    of.insert(REVISION.to_owned(), number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_kept_short() {
        let mut set = ReplicaSet::default();
        for number in 1..2000 {
            give_number(&mut set, number);
        }
        let annotations = set.metadata.annotations.unwrap();
        assert_eq!(annotations[REVISION], "1999");
        assert!(annotations[HISTORY].len() <= HISTORY_MAX);
        assert!(annotations[HISTORY].ends_with(",1997,1998"));
    }
}

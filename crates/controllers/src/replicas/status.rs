//! What is said of a ReplicaSet, from its pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Replicated;
use crate::pod_state;
use crate::selector::selects_map;
use crate::writes::Error;

const FAILURE: &str = "ReplicaFailure";

/// The status of both kinds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Status {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    /// Only ReplicaSets tell it.
    pub(crate) terminating: Option<i32>,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
}

/// A condition of both kinds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) last_transition_time: Option<Time>,
}

/// What was found and done.
pub(super) struct Found<'a> {
    pub(super) active: &'a [Arc<Pod>],
    pub(super) terminating: usize,
    pub(super) outcome: &'a Result<(), Error>,
    pub(super) now: Timestamp,
}

/// The status that it should have.
pub(super) fn decide<K: Replicated>(owner: &K, found: &Found<'_>) -> Status {
    let old = owner.status();
    let labels = owner
        .template()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.as_ref());
    let min_ready = owner.min_ready_seconds();
    let count = |is: &dyn Fn(&Pod) -> bool| number(found.active.iter().filter(|p| is(p)).count());
    let knows_terminating = K::KIND == <ReplicaSet as k8s_openapi::Resource>::KIND;
    Status {
        replicas: number(found.active.len()),
        fully_labeled: count(&|pod| {
            let none = labels.is_none_or(|labels| labels.is_empty());
            none || selects_map(labels, pod.metadata.labels.as_ref())
        }),
        ready: count(&pod_state::is_ready),
        available: count(&|pod| pod_state::is_available(pod, min_ready, found.now)),
        terminating: knows_terminating.then(|| number(found.terminating)),
        observed_generation: owner.meta().generation,
        conditions: conditions(old.conditions, owner.replicas(), found),
    }
}

fn conditions(mut all: Vec<Condition>, replicas: i32, found: &Found<'_>) -> Vec<Condition> {
    let has = all.iter().any(|one| one.type_ == FAILURE);
    match found.outcome {
        Ok(()) => all.retain(|one| one.type_ != FAILURE),
        Err(error) if !has => all.push(Condition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(
                match number(found.active.len()) < replicas {
                    true => "FailedCreate",
                    false => "FailedDelete",
                }
                .to_owned(),
            ),
            message: Some(error.message()),
            last_transition_time: Some(Time(
                Timestamp::from_second(found.now.as_second()).unwrap_or(found.now),
            )),
        }),
        Err(_) => {}
    }
    all
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

//! Making pods from templates and deleting them, with the events that tell of it.

use std::future::Future;

use futures_util::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::events::{NORMAL, Recorder, WARNING};
use crate::ownership::reference;
use crate::writes::{Error, Kind};

/// The first batch of pods; each next one is twice as large, so that what can't work fails a few times and not often.
const FIRST_BATCH: usize = 1;

/// A pod as its owner's template says, controlled by the owner; the server makes the name.
pub(crate) fn from_template<O: Kind>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let of = owner.meta();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", of.name.as_deref().unwrap_or_default())),
            namespace: of.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Makes a pod; its owner's expectations know of it.
pub(crate) async fn create<O: Kind>(
    context: &Context,
    recorder: &Recorder,
    owner: &O,
    pod: &Pod,
) -> Result<Pod, Error> {
    match context.writes.create(pod).await {
        Ok(made) => {
            let uid = owner.meta().uid.as_deref().unwrap_or_default();
            context.expectations.created(uid, &made);
            let name = made.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Created pod: {name}");
            recorder.event(owner, NORMAL, "SuccessfulCreate", message);
            Ok(made)
        }
        Err(error) => {
            if !error.namespace_is_terminating() {
                let message = format!("Error creating: {}", error.message());
                recorder.event(owner, WARNING, "FailedCreate", message);
            }
            Err(error)
        }
    }
}

/// Deletes a pod; its owner's expectations know of it. One that is gone already is no failure.
pub(crate) async fn delete<O: Kind>(
    context: &Context,
    recorder: &Recorder,
    owner: &O,
    pod: &Pod,
) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match context.writes.delete(pod).await {
        Ok(()) => {
            let uid = owner.meta().uid.as_deref().unwrap_or_default();
            context.expectations.deleted(uid, pod);
            let message = format!("Deleted pod: {name}");
            recorder.event(owner, NORMAL, "SuccessfulDelete", message);
            Ok(())
        }
        // A conflict: another pod has this name now.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => {
            let message = format!("Error deleting: {}", error.message());
            recorder.event(owner, WARNING, "FailedDelete", message);
            Err(error)
        }
    }
}

/// Does something `count` times, in batches that grow; after a batch with a failure, no other is begun. Returns how often
/// it succeeded, and the first failure.
pub(crate) async fn slow_start<F>(
    count: usize,
    mut step: impl FnMut(usize) -> F,
) -> (usize, Result<(), Error>)
where
    F: Future<Output = Result<(), Error>>,
{
    let (mut done, mut batch) = (0, FIRST_BATCH);
    let mut next = 0;
    while next < count {
        let until = (next + batch).min(count);
        let outcomes = all((next..until).map(&mut step)).await;
        let tried = outcomes.len();
        let failure = outcomes
            .into_iter()
            .filter_map(Result::err)
            .fold((0, None), |(failed, first), error| {
                (failed + 1, first.or(Some(error)))
            });
        done += tried - failure.0;
        if let Some(error) = failure.1 {
            return (done, Err(error));
        }
        next = until;
        batch *= 2;
    }
    (done, Ok(()))
}

/// Does all of these at once; returns what became of them, as they ended.
pub(crate) async fn all<F: Future>(steps: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let running: FuturesUnordered<F> = steps.into_iter().collect();
    running.collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn batches_grow_until_one_fails() {
        let begun = RefCell::new(Vec::new());
        let step = |fails_at: usize| {
            let begun = &begun;
            move |n: usize| {
                begun.borrow_mut().push(n);
                async move {
                    match n == fails_at {
                        true => Err(Error::NotYet("no".to_owned())),
                        false => Ok(()),
                    }
                }
            }
        };
        let (done, outcome) = slow_start(10, step(99)).await;
        assert!(outcome.is_ok());
        assert_eq!(done, 10);
        begun.borrow_mut().clear();
        let (done, outcome) = slow_start(100, step(4)).await;
        assert!(outcome.is_err());
        assert_eq!(done, 6, "1 + 2 + 4, one of which failed");
        assert_eq!(begun.borrow().len(), 7);
    }
}

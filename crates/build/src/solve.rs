//! Solving a graph of steps: what the target needs, independent ones at once. Knows not what a step does.

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::stream::{FuturesUnordered, StreamExt};

/// The steps that `target` needs, itself included, in order.
pub(crate) fn needed(needs: &[Vec<usize>], target: usize) -> Vec<usize> {
    let mut wanted = vec![false; needs.len()];
    let mut open = vec![target];
    while let Some(step) = open.pop() {
        if !std::mem::replace(&mut wanted[step], true) {
            open.extend(&needs[step]);
        }
    }
    (0..needs.len()).filter(|step| wanted[*step]).collect()
}

/// Runs the target and what it needs; `run` gets the outputs of the steps it needs, by step. Steps only need earlier
/// ones. Of several failures the earliest step's is returned, as if they had run one after another; dropping the
/// future drops every step.
pub(crate) async fn solve<T, E, F, R>(needs: &[Vec<usize>], target: usize, run: R) -> Result<T, E>
where
    T: Clone,
    F: Future<Output = Result<T, E>>,
    R: Fn(usize, BTreeMap<usize, T>) -> F,
{
    let mut waiting = needed(needs, target);
    let mut done: BTreeMap<usize, T> = BTreeMap::new();
    let mut failed: Option<(usize, E)> = None;
    let mut running = FuturesUnordered::new();
    let mut active: Vec<usize> = Vec::new();
    loop {
        // Nothing after a failed step begins any more.
        let limit = failed.as_ref().map_or(usize::MAX, |(step, _)| *step);
        waiting.retain(|&step| {
            let ready = needs[step].iter().all(|need| done.contains_key(need));
            if ready && step < limit {
                let inputs = needs[step]
                    .iter()
                    .filter_map(|need| done.get_key_value(need));
                let inputs = inputs
                    .map(|(need, output)| (*need, output.clone()))
                    .collect();
                let future = run(step, inputs);
                running.push(async move { (step, future.await) });
                active.push(step);
            }
            !ready
        });
        if let Some((first, _)) = &failed
            && !active.iter().any(|step| step < first)
        {
            break;
        }
        let Some((step, result)) = running.next().await else {
            break;
        };
        active.retain(|other| *other != step);
        match result {
            Ok(output) => drop(done.insert(step, output)),
            Err(e) if failed.as_ref().is_none_or(|(first, _)| step < *first) => {
                failed = Some((step, e))
            }
            Err(_) => {}
        }
    }
    match (failed, done.remove(&target)) {
        (Some((_, e)), _) => Err(e),
        (None, Some(output)) => Ok(output),
        // Steps need earlier ones only: without a failure the target is reached.
        (None, None) => unreachable!("a graph of steps without cycles ends at its target"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::Barrier;

    #[tokio::test]
    async fn runs_only_what_the_target_needs() {
        let needs = [vec![], vec![0], vec![], vec![1], vec![2]];
        let ran = Mutex::new(Vec::new());
        let result: Result<usize, ()> = solve(&needs, 3, |step, inputs| {
            ran.lock().unwrap().push(step);
            async move { Ok(inputs.values().sum::<usize>() + 1) }
        })
        .await;
        assert_eq!(result, Ok(3));
        assert_eq!(*ran.lock().unwrap(), [0, 1, 3]);
    }

    #[tokio::test]
    async fn runs_independent_steps_at_once() {
        // Each waits for the other: one after another they would never end.
        let barrier = Barrier::new(2);
        let needs = [vec![], vec![], vec![0, 1]];
        let result: Result<(), ()> = solve(&needs, 2, |step, _| {
            let barrier = &barrier;
            async move {
                if step < 2 {
                    barrier.wait().await;
                }
                Ok(())
            }
        })
        .await;
        assert_eq!(result, Ok(()));
    }

    #[tokio::test]
    async fn earliest_failure_wins() {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let needs = [vec![], vec![], vec![], vec![0, 1, 2]];
        let ran = Mutex::new(Vec::new());
        let result: Result<(), usize> = solve(&needs, 3, |step, _| {
            let (sender, mut receiver) = (sender.clone(), receiver.clone());
            ran.lock().unwrap().push(step);
            async move {
                match step {
                    0 => {
                        receiver.wait_for(|set| *set).await.unwrap();
                        Err(0)
                    }
                    1 => {
                        sender.send(true).unwrap();
                        Err(1)
                    }
                    _ => Ok(()),
                }
            }
        })
        .await;
        assert_eq!(result, Err(0));
        assert_eq!(*ran.lock().unwrap(), [0, 1, 2]);
    }
}

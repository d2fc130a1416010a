//! Another number of pods, in the middle of a rollout too: each set gets its part.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::bounds::{Bounds, recreates};
use super::revision;
use super::rollout::{Rollout, desired, most, replicas, size};
use crate::writes::Error;

/// Brings the sets to a number of pods without going on with the rollout.
pub(super) async fn sync(rollout: &mut Rollout<'_>) -> Result<(), Error> {
    revision::settle(rollout, false).await?;
    scale(rollout).await?;
    if rollout.is_paused() {
        rollout.clean_up().await?;
    }
    rollout.tell_counts();
    Ok(())
}

async fn scale(rollout: &mut Rollout<'_>) -> Result<(), Error> {
    let bounds = rollout.bounds();
    if let Some(at) = only(rollout) {
        if replicas(&rollout.sets[at]) != bounds.replicas {
            rollout.resize(at, bounds.replicas).await?;
        }
        return Ok(());
    }
    if is_saturated(rollout, bounds) {
        for at in rollout.old() {
            if replicas(&rollout.sets[at]) > 0 {
                rollout.resize(at, 0).await?;
            }
        }
        return Ok(());
    }
    if recreates(&rollout.deployment) {
        return Ok(());
    }
    let mut active: Vec<usize> = (0..rollout.sets.len())
        .filter(|at| replicas(&rollout.sets[*at]) > 0)
        .collect();
    let allowed = if bounds.replicas > 0 {
        bounds.most()
    } else {
        0
    };
    let total: i32 = active.iter().map(|at| replicas(&rollout.sets[*at])).sum();
    let difference = allowed - total;
    // The largest first. Sets stand in the order of their age: when pods are added, the youngest of equals gets more.
    if difference > 0 {
        active.reverse();
    }
    active.sort_by_key(|at| Reverse(replicas(&rollout.sets[*at])));
    let known = rollout.deployment.status.as_ref().and_then(|s| s.replicas);
    let sets: Vec<Part> = active
        .iter()
        .map(|at| Part::of(&rollout.sets[*at], known.unwrap_or(0)))
        .collect();
    for (at, size) in active.into_iter().zip(divide(&sets, bounds, difference)) {
        rollout.resize(at, size).await?;
    }
    Ok(())
}

/// The only set with pods; where none has any, the new one, or the newest of the old ones.
fn only(rollout: &Rollout<'_>) -> Option<usize> {
    let mut active = (0..rollout.sets.len()).filter(|at| replicas(&rollout.sets[*at]) > 0);
    match (active.next(), active.next()) {
        (None, _) => rollout.new.or(rollout.sets.len().checked_sub(1)),
        (one, None) => one,
        _ => None,
    }
}

/// The new set has all pods and all are available: the old ones are not needed.
fn is_saturated(rollout: &Rollout<'_>, bounds: Bounds) -> bool {
    rollout.new_set().is_some_and(|set| {
        let size = size(set);
        size.replicas == bounds.replicas
            && size.available == bounds.replicas
            && desired(set) == Some(bounds.replicas)
    })
}

/// A set, and the most pods that all had when it got its number.
struct Part {
    replicas: i32,
    most_before: i32,
}

impl Part {
    fn of(set: &ReplicaSet, known: i32) -> Part {
        Part {
            replicas: replicas(set),
            most_before: most(set).filter(|most| *most != 0).unwrap_or(known),
        }
    }
}

/// The sizes of sets, each by its part of all; what rounding leaves over is the first one's.
fn divide(sets: &[Part], bounds: Bounds, difference: i32) -> Vec<i32> {
    let mut given = 0;
    let mut sizes: Vec<i32> = sets
        .iter()
        .map(|set| {
            let part = part(set, bounds, difference, given);
            given += part;
            set.replicas + part
        })
        .collect();
    if let (Some(first), true) = (sizes.first_mut(), difference != 0) {
        *first = (*first + difference - given).max(0);
    }
    sizes
}

fn part(set: &Part, bounds: Bounds, difference: i32, given: i32) -> i32 {
    if set.replicas == 0 || difference == 0 || difference == given {
        return 0;
    }
    let left = difference - given;
    let fraction = fraction(set, bounds);
    match difference > 0 {
        true => fraction.min(left),
        false => fraction.max(left),
    }
}

fn fraction(set: &Part, bounds: Bounds) -> i32 {
    if bounds.replicas == 0 {
        return -set.replicas;
    }
    if set.most_before == 0 {
        return 0;
    }
    let exact = f64::from(set.replicas) * f64::from(bounds.most()) / f64::from(set.most_before);
    // Numbers of pods are far below the range.
    exact.round() as i32 - set.replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(replicas: i32, surge: i32, sets: &[(i32, i32)], wanted: &[i32]) {
        let bounds = Bounds {
            replicas,
            surge,
            unavailable: 0,
        };
        let parts: Vec<Part> = sets
            .iter()
            .map(|(replicas, most_before)| Part {
                replicas: *replicas,
                most_before: *most_before,
            })
            .collect();
        let total: i32 = sets.iter().map(|set| set.0).sum();
        let allowed = if replicas > 0 { replicas + surge } else { 0 };
        assert_eq!(divide(&parts, bounds, allowed - total), wanted);
    }

    #[test]
    fn each_gets_its_part() {
        // 10 pods with surge 3, in the middle: 8 old and 5 new, to 15.
        check(15, 3, &[(8, 13), (5, 13)], &[11, 7]);
        check(20, 0, &[(5, 10), (5, 10)], &[10, 10]);
        check(5, 0, &[(5, 10), (5, 10)], &[2, 3]);
        check(0, 0, &[(5, 10), (5, 10)], &[0, 0]);
        check(10, 0, &[(6, 10), (4, 10)], &[6, 4]);
    }
}

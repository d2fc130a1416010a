//! What a StatefulSet needs next: pure, from the set and its pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::identity;
use crate::history::{self, History};
use crate::writes::Error;
use crate::{percent, pod_state};

/// A template and the name of its revision.
pub(super) struct Version {
    pub(super) name: String,
    pub(super) template: PodTemplateSpec,
}

/// A set as it is at one moment.
pub(super) struct View<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Pod>],
    /// What its pods were before the update under way.
    pub(super) current: Version,
    /// What they become.
    pub(super) update: Version,
    pub(super) now: Timestamp,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Make the pod of this ordinal, with its claims.
    Create(i32),
    /// Make the claims of this ordinal that were lost.
    Claims(i32),
    /// Give a pod its labels.
    Identify(Arc<Pod>),
    /// Delete one that ended, for another to take its place.
    Replace(Arc<Pod>),
    /// Delete one that is too many, or of an old version.
    Delete(Arc<Pod>),
}

impl<'a> View<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        pods: &'a [Arc<Pod>],
        history: &History,
        now: Timestamp,
    ) -> Result<View<'a>, Error> {
        let known = set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.as_deref());
        let current = history
            .all
            .iter()
            .find(|one| Some(history::name(one)) == known)
            .unwrap_or(&history.newest);
        Ok(View {
            set,
            pods,
            current: Version {
                name: history::name(current).to_owned(),
                template: history::template(current)?,
            },
            update: Version {
                name: history::name(&history.newest).to_owned(),
                template: set.spec.template.clone(),
            },
            now,
        })
    }

    /// The ordinals that there are to be.
    pub(super) fn range(&self) -> std::ops::Range<i32> {
        let start = self.set.spec.ordinals.as_ref().and_then(|o| o.start);
        let start = start.unwrap_or(0);
        start..start.saturating_add(self.set.spec.replicas.unwrap_or(1))
    }

    fn ordinal(&self, pod: &Pod) -> i32 {
        identity::ordinal(self.set, pod).unwrap_or_default()
    }

    pub(super) fn is_in_range(&self, pod: &Pod) -> bool {
        self.range().contains(&self.ordinal(pod))
    }

    /// One pod at a time, in order; otherwise all at once.
    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn rolling(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.rolling_update.as_ref())
    }

    /// Pods below this ordinal stay of the version before.
    fn partition(&self) -> i32 {
        let partition = self.rolling().and_then(|rolling| rolling.partition);
        self.range().start + partition.unwrap_or(0)
    }

    /// The version that a new pod of this ordinal is of.
    pub(super) fn version(&self, ordinal: i32) -> &Version {
        let stays = match self.rolling() {
            Some(_) => self.partition(),
            None => {
                let status = self.set.status.as_ref();
                let count = status.and_then(|status| status.current_replicas);
                self.range().start + count.unwrap_or(0)
            }
        };
        match self.is_rolling() && ordinal < stays {
            true => &self.current,
            false => &self.update,
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        is_healthy(pod) && pod_state::is_available(pod, min_ready, self.now)
    }

    /// The next steps; in order, only one of them.
    pub(super) fn plan(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_settled = self.keep(&mut actions) && self.shrink(&mut actions);
        if is_settled && self.is_rolling() {
            self.roll(&mut actions);
        }
        actions
    }

    fn slots(&self) -> Vec<(i32, Option<&'a Arc<Pod>>)> {
        let at = |ordinal| self.pods.iter().find(|pod| self.ordinal(pod) == ordinal);
        self.range().map(|ordinal| (ordinal, at(ordinal))).collect()
    }

    /// Has every ordinal have its pod; says whether to go on.
    fn keep(&self, actions: &mut Vec<Action>) -> bool {
        for (ordinal, pod) in self.slots() {
            let Some(pod) = pod else {
                actions.push(Action::Create(ordinal));
                if self.is_ordered() {
                    return false;
                }
                continue;
            };
            if pod_state::is_terminal(pod) {
                // Its successor is made once it is gone.
                if !pod_state::is_deleted(pod) {
                    actions.push(Action::Replace(pod.clone()));
                }
            } else if !pod_state::is_deleted(pod) {
                if pod_state::phase(pod) == "Pending" {
                    actions.push(Action::Claims(ordinal));
                }
                if !identity::is_labelled(self.set, pod) {
                    actions.push(Action::Identify(pod.clone()));
                }
            }
            if self.is_ordered() && !self.is_available(pod) {
                return false;
            }
        }
        true
    }

    /// Has no ordinal too many; says whether to go on.
    fn shrink(&self, actions: &mut Vec<Action>) -> bool {
        let mut surplus: Vec<_> = self.pods.iter().filter(|p| !self.is_in_range(p)).collect();
        surplus.sort_by_key(|pod| std::cmp::Reverse(self.ordinal(pod)));
        // One that is sick may go before the others are well: it would hold them up for ever.
        let sick = surplus.iter().find(|pod| !is_healthy(pod)).copied();
        for pod in surplus {
            if pod_state::is_deleted(pod) {
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            let is_sick = sick.is_some_and(|sick| sick.metadata.uid == pod.metadata.uid);
            if self.is_ordered() && !is_sick && !self.is_available(pod) {
                return false;
            }
            actions.push(Action::Delete(pod.clone()));
            if self.is_ordered() {
                return false;
            }
        }
        true
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        identity::revision(pod) != self.update.name && !pod_state::is_deleted(pod)
    }

    /// Deletes pods of the old version, the last one first.
    fn roll(&self, actions: &mut Vec<Action>) {
        let partition = self.partition();
        let slots = self.slots();
        let replicas = self.set.spec.replicas.unwrap_or(1);
        let most = self.rolling().and_then(|r| r.max_unavailable.as_ref());
        let most = most.map_or(1, |most| percent::of(most, replicas, false).max(1));
        let due = slots.iter().rev().filter(|slot| slot.0 >= partition);
        if most == 1 {
            for (_, pod) in due {
                match pod {
                    Some(pod) if self.is_outdated(pod) => {
                        return actions.push(Action::Delete((*pod).clone()));
                    }
                    Some(pod) if self.is_available(pod) => {}
                    _ => return,
                }
            }
            return;
        }
        let is_well = |pod: &Option<&Arc<Pod>>| pod.is_some_and(|pod| self.is_available(pod));
        let ill = slots.iter().filter(|slot| !is_well(&slot.1)).count();
        let mut room = most - i32::try_from(ill).unwrap_or(i32::MAX);
        for (_, pod) in due {
            let Some(pod) = pod.filter(|pod| self.is_outdated(pod)) else {
                continue;
            };
            // Nobody loses by the end of one that is not available.
            if self.is_available(pod) {
                if room <= 0 {
                    continue;
                }
                room -= 1;
            }
            actions.push(Action::Delete(pod.clone()));
        }
    }
}

/// It runs, is ready, and is meant to stay.
pub(super) fn is_healthy(pod: &Pod) -> bool {
    pod_state::phase(pod) == "Running" && pod_state::is_ready(pod) && !pod_state::is_deleted(pod)
}

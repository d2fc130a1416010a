//! Pods that wait: those to be tried, those whose back-off runs, those that only an event can help, those behind gates.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wharf_client::Key;

use crate::pod::PodInfo;
use crate::refusal::Plugins;

const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_LONGEST: Duration = Duration::from_secs(10);
/// After so long an unschedulable pod is tried once more, should an event have been judged wrongly.
const UNSCHEDULABLE_LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Active,
    BackOff(Instant),
    Unschedulable(Instant),
    Gated,
    /// Somebody decides about it, or binds it.
    Taken,
}

/// A pod that waits.
#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    part: Part,
    /// Its number in its part: earlier comes first.
    turn: u64,
    attempts: u32,
    failed_at: Option<Instant>,
    plugins: Plugins,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pods: HashMap<Key, Waiting>,
    active: BTreeMap<(Reverse<i32>, u64), Key>,
    back_off: BTreeMap<(Instant, u64), Key>,
    unschedulable: BTreeMap<(Instant, u64), Key>,
    turns: u64,
}

fn back_off(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(8);
    (BACK_OFF_FIRST * 2_u32.pow(doublings)).min(BACK_OFF_LONGEST)
}

impl Queue {
    /// A pod wants a node; one that is known is changed. `is_other`: it may be tried again for that.
    pub(crate) fn put(&mut self, pod: Arc<PodInfo>, is_other: bool) {
        let key = pod.key.clone();
        let is_gated = !pod.gates().is_empty();
        match self.pods.get_mut(&key) {
            None => {
                let waiting = Waiting {
                    pod,
                    part: Part::Taken,
                    turn: 0,
                    attempts: 0,
                    failed_at: None,
                    plugins: Plugins::default(),
                };
                self.pods.insert(key.clone(), waiting);
                let part = if is_gated { Part::Gated } else { Part::Active };
                self.set(&key, part);
            }
            Some(waiting) => {
                let has_moved = waiting.pod.priority != pod.priority;
                waiting.pod = pod;
                match waiting.part {
                    Part::Taken => {}
                    _ if is_gated => self.set(&key, Part::Gated),
                    Part::Gated => self.set(&key, Part::Active),
                    Part::Active if has_moved => self.set(&key, Part::Active),
                    Part::Unschedulable(_) if is_other => self.wake(&key),
                    _ => {}
                }
            }
        }
    }

    /// A pod waits no more.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        self.unlist(key);
        self.pods.remove(key).map(|waiting| waiting.pod)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<PodInfo>> {
        self.pods.get(key).map(|waiting| &waiting.pod)
    }

    /// The next pod to be tried.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.ripen(now);
        let (_, key) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&key)?;
        waiting.part = Part::Taken;
        waiting.attempts = waiting.attempts.saturating_add(1);
        Some(waiting.pod.clone())
    }

    /// No node took the pod: it waits for an event that concerns these.
    pub(crate) fn refused(&mut self, key: &Key, plugins: Plugins, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.failed_at = Some(now);
            waiting.plugins = plugins;
            self.set(key, Part::Unschedulable(now + UNSCHEDULABLE_LONGEST));
        }
    }

    /// Something went wrong that is not the pod's fault: it is tried again by and by.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.failed_at = Some(now);
            let until = now + back_off(waiting.attempts);
            self.set(key, Part::BackOff(until));
        }
    }

    /// An event may help the pod.
    pub(crate) fn wake(&mut self, key: &Key) {
        let Some(waiting) = self.pods.get(key) else {
            return;
        };
        let until = waiting
            .failed_at
            .map(|failed| failed + back_off(waiting.attempts));
        self.set(key, until.map_or(Part::Active, Part::BackOff));
    }

    /// Pods that wait for an event, with those who refused them.
    pub(crate) fn unschedulable(&self) -> impl Iterator<Item = (&Arc<PodInfo>, Plugins)> {
        let keys = self.unschedulable.values();
        keys.filter_map(|key| self.pods.get(key))
            .map(|waiting| (&waiting.pod, waiting.plugins))
    }

    pub(crate) fn has_unschedulable(&self) -> bool {
        !self.unschedulable.is_empty()
    }

    /// When time alone makes something happen.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first =
            |part: &BTreeMap<(Instant, u64), Key>| part.first_key_value().map(|((at, _), _)| *at);
        let due = [first(&self.back_off), first(&self.unschedulable)];
        due.into_iter().flatten().min()
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(((at, _), key)) = self.unschedulable.first_key_value()
            && *at <= now
        {
            let key = key.clone();
            self.wake(&key);
        }
        while let Some(((at, _), key)) = self.back_off.first_key_value()
            && *at <= now
        {
            let key = key.clone();
            self.set(&key, Part::Active);
        }
    }

    fn unlist(&mut self, key: &Key) {
        let Some(waiting) = self.pods.get(key) else {
            return;
        };
        match waiting.part {
            Part::Active => {
                let place = (Reverse(waiting.pod.priority), waiting.turn);
                if self.active.remove(&place).is_none() {
                    // Its priority changed since.
                    self.active.retain(|_, one| one != key);
                }
            }
            Part::BackOff(at) => {
                self.back_off.remove(&(at, waiting.turn));
            }
            Part::Unschedulable(at) => {
                self.unschedulable.remove(&(at, waiting.turn));
            }
            Part::Gated | Part::Taken => {}
        }
    }

    fn set(&mut self, key: &Key, part: Part) {
        self.unlist(key);
        let Some(waiting) = self.pods.get_mut(key) else {
            return;
        };
        self.turns += 1;
        waiting.turn = self.turns;
        waiting.part = part;
        let key = key.clone();
        match part {
            Part::Active => {
                let place = (Reverse(waiting.pod.priority), self.turns);
                self.active.insert(place, key);
            }
            Part::BackOff(at) => {
                self.back_off.insert((at, self.turns), key);
            }
            Part::Unschedulable(at) => {
                self.unschedulable.insert((at, self.turns), key);
            }
            Part::Gated | Part::Taken => {}
        }
    }
}

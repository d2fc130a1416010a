//! The scheduler without its senses and hands: changes go in, what is to be written comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::time::Instant;
use wharf_client::{Key, Object};

use crate::decide::{Decider, Decision};
use crate::hint::{Happened, helps};
use crate::plan::Plan;
use crate::pod::PodInfo;
use crate::preempt::{Budgets, Victims, preempt};
use crate::queue::Queue;
use crate::refusal::{Diagnosis, Plugins};
use crate::score::Weights;
use crate::selector::Selector;
use crate::world::World;

/// What happened, as informers and writers tell it.
#[derive(Debug)]
pub(crate) enum Change {
    Pod(Arc<api::Pod>),
    PodGone(Arc<api::Pod>),
    Node(Arc<api::Node>),
    NodeGone(Arc<api::Node>),
    Namespace(Arc<api::Namespace>, bool),
    Claim(Arc<api::PersistentVolumeClaim>, bool),
    Volume(Arc<api::PersistentVolume>, bool),
    Class(Arc<StorageClass>, bool),
    Service(Arc<api::Service>, bool),
    /// Kind, key, and the selector unless it is gone.
    Owner(&'static str, Key, Option<Selector>),
    Budget(Arc<PodDisruptionBudget>, bool),
    /// The server did not take a binding.
    NotBound(Key, String),
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum Act {
    Bind {
        pod: Arc<PodInfo>,
        node: String,
    },
    /// Claims are to get their volumes on a node; the pod waits for that.
    Claim {
        pod: Arc<PodInfo>,
        node: String,
        /// Claim, and the volume that it takes unless one is made.
        claims: Vec<(String, Option<String>)>,
    },
    Refuse {
        pod: Arc<PodInfo>,
        message: String,
        /// Where room is being made; empty: nowhere any more.
        nominated: Option<String>,
    },
    Evict {
        pod: Arc<PodInfo>,
        node: String,
        victims: Vec<Arc<PodInfo>>,
        /// Pods that wait for the same room and are less important.
        displaced: Vec<Arc<PodInfo>>,
    },
}

/// World, queue and rules.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) world: World,
    pub(crate) queue: Queue,
    decider: Decider,
    profiles: BTreeMap<String, Weights>,
    budgets: Budgets,
}

impl Core {
    pub(crate) fn new(profiles: BTreeMap<String, Weights>, seed: u64) -> Core {
        Core {
            world: World::new(),
            queue: Queue::default(),
            decider: Decider::new(seed),
            profiles,
            budgets: Budgets::new(),
        }
    }

    /// Takes a change in, and wakes the pods that it may help.
    pub(crate) fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::Pod(pod) => self.pod(pod),
            Change::PodGone(pod) => self.pod_gone(&pod),
            Change::Node(node) => {
                let (node, moves) = self.world.set_node(&node);
                self.wake(&Happened::Node { node, moves });
            }
            Change::NodeGone(node) => {
                self.world.remove_node(&node.key().name);
                self.wake(&Happened::NodeGone);
            }
            Change::Namespace(namespace, is_there) => {
                let labels = namespace.metadata.labels.clone().unwrap_or_default();
                let name = namespace.key().name;
                if self.world.set_namespace(&name, is_there.then_some(labels)) {
                    self.wake(&Happened::Namespaces);
                }
            }
            Change::Claim(..) | Change::Volume(..) | Change::Class(..) => self.storage(change),
            Change::Service(service, is_there) => {
                let key = service.key();
                let selector = service.spec.as_ref().and_then(|s| s.selector.clone());
                let workloads = &mut self.world.workloads;
                workloads.set_service(&key.namespace, &key.name, selector.filter(|_| is_there));
            }
            Change::Owner(kind, key, selector) => {
                let workloads = &mut self.world.workloads;
                workloads.set_owner(kind, &key.namespace, &key.name, selector);
            }
            Change::Budget(budget, is_there) => {
                let key = budget.key();
                match is_there {
                    true => self.budgets.insert(key, budget),
                    false => self.budgets.remove(&key),
                };
            }
            Change::NotBound(key, uid) => self.not_bound(&key, &uid, now),
        }
    }

    fn storage(&mut self, change: Change) {
        let storage = &mut self.world.volumes;
        match change {
            Change::Claim(one, true) => drop(storage.claims.insert(one.key(), one)),
            Change::Claim(one, false) => drop(storage.claims.remove(&one.key())),
            Change::Volume(one, true) => drop(storage.volumes.insert(one.key().name, one)),
            Change::Volume(one, false) => drop(storage.volumes.remove(&one.key().name)),
            Change::Class(one, true) => drop(storage.classes.insert(one.key().name, one)),
            Change::Class(one, false) => drop(storage.classes.remove(&one.key().name)),
            _ => {}
        }
        self.wake(&Happened::Volumes);
    }

    fn pod(&mut self, object: Arc<api::Pod>) {
        let pod = self.world.read(object);
        if pod.is_over() {
            return self.pod_gone(&pod.object);
        }
        match pod.node_name() {
            Some(_) => self.pod_placed(pod),
            None => self.pod_waits(pod),
        }
    }

    fn pod_placed(&mut self, pod: Arc<PodInfo>) {
        self.queue.remove(&pod.key);
        self.world.unnominate(&pod.key);
        let node = pod.node_name().unwrap_or_default().to_owned();
        let known = self.world.find(&pod.key).map(|(id, placed)| {
            let is_there = self.world.node_name(placed.node) == node;
            let is_same = is_there && placed.pod.weighs_like(&pod);
            (id, is_same, placed.clone())
        });
        match known {
            Some((id, true, old)) => {
                self.world.refresh(id, pod.clone());
                if old.is_assumed {
                    self.wake(&Happened::PodPlaced(pod));
                }
            }
            Some((_, false, old)) => {
                self.world.place(pod.clone(), &node, false);
                self.wake(&Happened::PodLeft(old.pod, old.node));
                self.wake(&Happened::PodPlaced(pod));
            }
            None => {
                self.world.place(pod.clone(), &node, false);
                self.wake(&Happened::PodPlaced(pod));
            }
        }
    }

    fn pod_waits(&mut self, pod: Arc<PodInfo>) {
        if let Some((_, placed)) = self.world.find(&pod.key) {
            if placed.pod.uid == pod.uid {
                // Its binding is under way; this is older.
                return;
            }
            let old = placed.pod.clone();
            self.pod_gone(&old.object);
        }
        let old = self.queue.get(&pod.key).cloned();
        if old.as_ref().is_some_and(|old| old.uid != pod.uid) {
            self.queue.remove(&pod.key);
            self.world.unnominate(&pod.key);
        }
        let profile = self.profiles.contains_key(scheduler_of(&pod.object));
        if pod.is_leaving() || !profile {
            self.queue.remove(&pod.key);
            self.world.unnominate(&pod.key);
            return;
        }
        if let Some(node) = pod.nominated()
            && self.world.nominated_node(&pod.key).is_none()
            && old.is_none()
        {
            // Room was being made when the scheduler was last there.
            let node = node.to_owned();
            self.world.nominate(pod.clone(), &node);
        }
        let is_other = old
            .is_some_and(|old| old.object.spec != pod.object.spec || old.labels() != pod.labels());
        self.queue.put(pod, is_other);
    }

    fn pod_gone(&mut self, object: &api::Pod) {
        let key = object.key();
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        if self.queue.get(&key).is_some_and(|pod| pod.uid == uid) {
            self.queue.remove(&key);
        }
        if let Some(node) = self.world.nominated_node(&key) {
            self.world.unnominate(&key);
            self.wake(&Happened::Node { node, moves: false });
        }
        if self.world.find(&key).is_some_and(|(_, p)| p.pod.uid == uid)
            && let Some(placed) = self.world.remove_pod(&key)
        {
            self.wake(&Happened::PodLeft(placed.pod, placed.node));
        }
    }

    fn not_bound(&mut self, key: &Key, uid: &str, now: Instant) {
        let of_this =
            |(_, placed): (_, &crate::world::Placed)| placed.is_assumed && placed.pod.uid == uid;
        if !self.world.find(key).is_some_and(of_this) {
            return;
        }
        if let Some(placed) = self.world.remove_pod(key) {
            self.queue.put(placed.pod.clone(), false);
            // The queue knows it as new: it is taken and fails at once, so that its back-off counts.
            self.queue.failed(key, now);
            self.wake(&Happened::PodLeft(placed.pod, placed.node));
        }
    }

    fn wake(&mut self, happened: &Happened) {
        if !self.queue.has_unschedulable() {
            return;
        }
        let world = &mut self.world;
        let waiting: Vec<_> = self
            .queue
            .unschedulable()
            .map(|(pod, plugins)| (pod.clone(), plugins))
            .collect();
        for (pod, plugins) in waiting {
            if helps(world, &pod, plugins, happened) {
                self.queue.wake(&pod.key);
            }
        }
    }

    /// Decides about the next pod; nothing when none is to be tried now.
    pub(crate) fn step(&mut self, now: Instant) -> Option<Act> {
        let pod = self.queue.take(now)?;
        let weights = self.profiles.get(scheduler_of(&pod.object));
        let weights = weights.cloned().unwrap_or_default();
        Some(match self.decider.decide(&mut self.world, &pod, &weights) {
            Decision::Node(node) => self.chosen(pod, node, now),
            Decision::Nowhere(diagnosis) => self.nowhere(pod, &diagnosis, now),
        })
    }

    fn chosen(&mut self, pod: Arc<PodInfo>, node: usize, now: Instant) -> Act {
        let name = self.world.node_name(node).to_owned();
        if !pod.wants.claims.is_empty() {
            let plan = Plan::new(&mut self.world, &pod);
            if !plan.volumes.choices.is_empty() {
                let claims = plan.volumes.chosen(&self.world, node);
                self.world.nominate(pod.clone(), &name);
                self.queue.refused(&pod.key, Plugins::VOLUMES, now);
                return Act::Claim {
                    pod,
                    node: name,
                    claims,
                };
            }
        }
        self.queue.remove(&pod.key);
        self.world.unnominate(&pod.key);
        self.world.place(pod.clone(), &name, true);
        Act::Bind { pod, node: name }
    }

    fn nowhere(&mut self, pod: Arc<PodInfo>, diagnosis: &Diagnosis, now: Instant) -> Act {
        self.queue.refused(&pod.key, diagnosis.plugins, now);
        if diagnosis.nodes_total == 0 {
            let mut plugins = Plugins::default();
            for all in [Plugins::NODE, Plugins::FIT, Plugins::SPREAD, Plugins::PODS] {
                plugins.add(all);
            }
            self.queue.refused(&pod.key, plugins, now);
            let message = diagnosis.message(&self.world, &pod, "");
            return Act::Refuse {
                pod,
                message,
                nominated: None,
            };
        }
        let start = self.decider.random(diagnosis.nodes_total);
        match preempt(&mut self.world, &pod, diagnosis, &self.budgets, start) {
            Ok(victims) => self.make_room(pod, victims),
            Err(said) => {
                let mut nominated = None;
                // What was promised and does not help is given back, unless its victims are just leaving.
                if self.world.nominated_node(&pod.key).is_some() && !said.starts_with("not") {
                    self.world.unnominate(&pod.key);
                    nominated = Some(String::new());
                }
                let message = diagnosis.message(&self.world, &pod, &said);
                Act::Refuse {
                    pod,
                    message,
                    nominated,
                }
            }
        }
    }

    fn make_room(&mut self, pod: Arc<PodInfo>, victims: Victims) -> Act {
        let node = self.world.node_name(victims.node).to_owned();
        let displaced = self.world.nominated_after(&pod, victims.node);
        let mut pods = Vec::new();
        for key in displaced {
            self.world.unnominate(&key);
            pods.extend(self.queue.get(&key).cloned());
            self.queue.wake(&key);
        }
        self.world.nominate(pod.clone(), &node);
        Act::Evict {
            pod,
            node,
            victims: victims.pods,
            displaced: pods,
        }
    }
}

/// Which profile a pod asks for.
fn scheduler_of(pod: &api::Pod) -> &str {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|spec| spec.scheduler_name.as_deref());
    name.filter(|name| !name.is_empty())
        .unwrap_or("default-scheduler")
}

//! The cluster as the scheduler sees it: nodes, the pods on them, and sums of both, changed by events as they come.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use wharf_client::Key;

use crate::node::{Node, Room, Said};
use crate::pod::{PodId, PodInfo};
use crate::selector::{PodSelector, TextLabels};
use crate::symbol::{Symbol, Symbols};
use crate::tally::{Counted, Tally};
use crate::volumes::Volumes;
use crate::workloads::Workloads;

/// A pod on a node.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) node: usize,
    /// The server has not said yet that it is there.
    pub(crate) is_assumed: bool,
}

/// Nodes, pods and sums.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) symbols: Symbols,
    pub(crate) nodes: Vec<Node>,
    pub(crate) rooms: Vec<Room>,
    node_of: HashMap<Symbol, usize>,
    free: Vec<usize>,
    /// Live nodes, zone by turns.
    order: Vec<usize>,
    is_order_stale: bool,
    pods: Vec<Option<Placed>>,
    free_pods: Vec<u32>,
    pod_of: HashMap<Key, PodId>,
    /// Pods that wait for victims to leave, by their id in `waiting`.
    nominated: HashMap<Key, (PodId, usize)>,
    waiting: HashMap<PodId, Arc<PodInfo>>,
    next_waiting: u32,
    pub(crate) tally: Tally,
    /// On how many nodes an image is.
    pub(crate) image_nodes: HashMap<Symbol, i64>,
    pub(crate) volumes: Volumes,
    pub(crate) workloads: Workloads,
}

/// The taint that an unschedulable node is taken to have.
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

impl World {
    /// An empty one.
    pub(crate) fn new() -> World {
        let mut world = World::default();
        // Compared with by value, whether or not a node has them.
        for text in ["", UNSCHEDULABLE] {
            world.symbols.intern(text);
        }
        world
    }

    /// Reads a pod's object.
    pub(crate) fn read(&mut self, object: Arc<core::Pod>) -> Arc<PodInfo> {
        Arc::new(PodInfo::read(object, &mut self.symbols))
    }

    pub(crate) fn node_name(&self, node: usize) -> &str {
        self.symbols.text(self.nodes[node].name)
    }

    pub(crate) fn node_at(&self, name: &str) -> Option<usize> {
        let at = self.node_of.get(&self.symbols.known(name)?)?;
        self.nodes[*at].is_live.then_some(*at)
    }

    pub(crate) fn node_named(&self, name: Symbol) -> Option<usize> {
        let at = self.node_of.get(&name)?;
        self.nodes[*at].is_live.then_some(*at)
    }

    /// The place of a node, which may be known only from pods.
    fn place_of(&mut self, name: &str) -> usize {
        let name = self.symbols.intern(name);
        if let Some(known) = self.node_of.get(&name) {
            return *known;
        }
        let at = self.free.pop().unwrap_or(self.nodes.len());
        if at == self.nodes.len() {
            self.nodes.push(Node::new(name));
            self.rooms.push(Room::default());
        } else {
            self.nodes[at] = Node::new(name);
            self.rooms[at] = Room::default();
        }
        self.node_of.insert(name, at);
        at
    }

    /// Live nodes in the order in which they are tried.
    pub(crate) fn order(&mut self) -> &[usize] {
        if self.is_order_stale {
            self.is_order_stale = false;
            self.order = self.by_turns();
        }
        &self.order
    }

    /// One node of each zone after the other, so that the first hundred nodes are not all of one zone.
    fn by_turns(&mut self) -> Vec<usize> {
        let (zone, region) = (self.symbols.intern(ZONE), self.symbols.intern(REGION));
        let mut zones: Vec<Vec<usize>> = Vec::new();
        let mut zone_of = HashMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if node.is_live {
                let place = (node.labels.get(region), node.labels.get(zone));
                let zone = *zone_of.entry(place).or_insert_with(|| {
                    zones.push(Vec::new());
                    zones.len() - 1
                });
                zones[zone].push(at);
            }
        }
        let longest = zones.iter().map(Vec::len).max().unwrap_or_default();
        let turns = (0..longest).flat_map(|turn| zones.iter().filter_map(move |z| z.get(turn)));
        turns.copied().collect()
    }

    /// A node is there, or says something else. Returns its place, and whether where it is changed.
    pub(crate) fn set_node(&mut self, object: &core::Node) -> (usize, bool) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let at = self.place_of(&name);
        let said = Said::read(object, &mut self.symbols);
        let moves = !self.nodes[at].is_live || self.nodes[at].labels != said.labels;
        if moves {
            self.uncount_node(at);
        }
        self.count_images(at, -1);
        let node = &mut self.nodes[at];
        node.is_live = true;
        node.labels = said.labels;
        node.taints = said.taints;
        node.images = said.images;
        let room = &mut self.rooms[at];
        room.has = said.has;
        room.is_unschedulable = said.is_unschedulable;
        room.has_taints = !node.taints.is_empty();
        self.count_images(at, 1);
        if moves {
            self.recount_node(at);
            self.is_order_stale = true;
        }
        (at, moves)
    }

    /// A node is gone; its pods may still be there for a while.
    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(at) = self.node_at(name) else { return };
        self.uncount_node(at);
        self.count_images(at, -1);
        let node = &mut self.nodes[at];
        node.is_live = false;
        node.labels = Default::default();
        node.taints.clear();
        node.images.clear();
        self.rooms[at].has = Default::default();
        self.recount_node(at);
        self.is_order_stale = true;
        self.forget_node(at);
    }

    /// A place without node and pods is free.
    fn forget_node(&mut self, at: usize) {
        let node = &self.nodes[at];
        if !node.is_live && node.pods.is_empty() && node.nominated.is_empty() {
            self.node_of.remove(&node.name);
            self.free.push(at);
        }
    }

    fn count_images(&mut self, at: usize, by: i64) {
        for image in self.nodes[at].images.keys() {
            *self.image_nodes.entry(*image).or_default() += by;
        }
    }

    /// Takes a node's pods out of the sums: where they are is about to change.
    fn uncount_node(&mut self, at: usize) {
        for id in &self.nodes[at].pods {
            if let Some(placed) = &self.pods[id.0 as usize] {
                self.tally.add(&placed.pod, at, -1);
            }
        }
    }

    fn recount_node(&mut self, at: usize) {
        let labels = &self.nodes[at].labels;
        for column in &mut self.tally.columns {
            column.place(at, labels.get(column.key));
        }
        for id in &self.nodes[at].pods {
            if let Some(placed) = &self.pods[id.0 as usize] {
                self.tally.add(&placed.pod, at, 1);
            }
        }
    }

    /// The column of a topology key.
    pub(crate) fn column(&mut self, key: Symbol) -> usize {
        let nodes = self.nodes.iter().enumerate();
        let live = nodes.filter(|(_, node)| node.is_live);
        self.tally
            .column(key, live.map(|(at, node)| (at, &node.labels)))
    }

    /// The counter of pods that all selectors mean.
    pub(crate) fn count(
        &mut self,
        selectors: Vec<PodSelector>,
        without_leaving: bool,
        column: Option<usize>,
    ) -> usize {
        let placed = self.pods.iter().flatten();
        self.tally.count(
            Counted {
                selectors,
                without_leaving,
            },
            column,
            placed.map(|placed| (placed.node, &*placed.pod)),
        )
    }

    /// A namespace has these labels; none: it is gone.
    pub(crate) fn set_namespace(&mut self, name: &str, labels: Option<TextLabels>) -> bool {
        if self.tally.namespaces.get(name) == labels.as_ref() {
            return false;
        }
        match labels {
            Some(labels) => self.tally.namespaces.insert(name.to_owned(), labels),
            None => self.tally.namespaces.remove(name),
        };
        self.tally.forget_counters();
        true
    }

    pub(crate) fn placed(&self, id: PodId) -> Option<&Placed> {
        self.pods.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<(PodId, &Placed)> {
        let id = *self.pod_of.get(key)?;
        Some((id, self.placed(id)?))
    }

    /// Puts a pod on a node, which may be one that nobody has seen yet.
    pub(crate) fn place(&mut self, pod: Arc<PodInfo>, node: &str, is_assumed: bool) -> PodId {
        self.remove_pod(&pod.key);
        let at = self.place_of(node);
        let id = self.free_pods.pop().unwrap_or_else(|| {
            self.pods.push(None);
            u32::try_from(self.pods.len() - 1).unwrap_or(u32::MAX)
        });
        let id = PodId(id);
        self.pod_of.insert(pod.key.clone(), id);
        self.attach(
            id,
            Placed {
                pod,
                node: at,
                is_assumed,
            },
        );
        id
    }

    /// The server's newest word on a pod that is on a node already.
    pub(crate) fn refresh(&mut self, id: PodId, pod: Arc<PodInfo>) {
        if let Some(placed) = &mut self.pods[id.0 as usize] {
            placed.pod = pod;
            placed.is_assumed = false;
        }
    }

    /// Takes a pod off its node; returns what it was.
    pub(crate) fn remove_pod(&mut self, key: &Key) -> Option<Placed> {
        let id = self.pod_of.remove(key)?;
        let placed = self.detach(id)?;
        self.free_pods.push(id.0);
        self.forget_node(placed.node);
        Some(placed)
    }

    /// Puts a pod on its node with all that it takes. Undone by [`World::detach`].
    pub(crate) fn attach(&mut self, id: PodId, placed: Placed) {
        let pod = &placed.pod;
        let terms = pod.anti_affinity.iter().chain(&pod.affinity);
        let terms = terms.chain(pod.preferred.iter().map(|(_, term)| term));
        for key in terms.map(|term| term.key).collect::<Vec<_>>() {
            self.column(key);
        }
        let room = &mut self.rooms[placed.node];
        room.used.add(&pod.requests.amounts);
        room.guessed_cpu_millis += pod.requests.guessed_cpu_millis;
        room.guessed_memory_bytes += pod.requests.guessed_memory_bytes;
        let node = &mut self.nodes[placed.node];
        node.pods.push(id);
        node.ports.extend(pod.ports.iter().cloned());
        self.tally.add(pod, placed.node, 1);
        let at = id.0 as usize;
        if self.pods.len() <= at {
            self.pods.resize(at + 1, None);
        }
        self.pods[at] = Some(placed);
    }

    /// Takes a pod off its node; its id stays its own.
    pub(crate) fn detach(&mut self, id: PodId) -> Option<Placed> {
        let placed = self.pods.get_mut(id.0 as usize)?.take()?;
        let pod = &placed.pod;
        let room = &mut self.rooms[placed.node];
        room.used.subtract(&pod.requests.amounts);
        room.guessed_cpu_millis -= pod.requests.guessed_cpu_millis;
        room.guessed_memory_bytes -= pod.requests.guessed_memory_bytes;
        let node = &mut self.nodes[placed.node];
        if let Some(at) = node.pods.iter().position(|one| *one == id) {
            node.pods.swap_remove(at);
        }
        for port in &pod.ports {
            if let Some(at) = node.ports.iter().position(|held| held == port) {
                node.ports.swap_remove(at);
            }
        }
        self.tally.add(pod, placed.node, -1);
        Some(placed)
    }

    /// A pod without a node takes a place for the time of a trial; it has no key there.
    pub(crate) fn try_on(&mut self, pod: Arc<PodInfo>, node: usize) -> PodId {
        let id = self.free_pods.pop().unwrap_or_else(|| {
            self.pods.push(None);
            u32::try_from(self.pods.len() - 1).unwrap_or(u32::MAX)
        });
        let placed = Placed {
            pod,
            node,
            is_assumed: true,
        };
        self.attach(PodId(id), placed);
        PodId(id)
    }

    pub(crate) fn end_try(&mut self, id: PodId) {
        self.detach(id);
        self.free_pods.push(id.0);
    }

    /// Room was made, or is being made, for a pod on a node.
    pub(crate) fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.unnominate(&pod.key);
        let at = self.place_of(node);
        self.next_waiting = self.next_waiting.wrapping_add(1);
        let id = PodId(self.next_waiting);
        self.nominated.insert(pod.key.clone(), (id, at));
        self.nodes[at].nominated.push(id);
        self.waiting.insert(id, pod);
    }

    /// The pod needs no room that is being made any more.
    pub(crate) fn unnominate(&mut self, key: &Key) {
        if let Some((id, at)) = self.nominated.remove(key) {
            self.nodes[at].nominated.retain(|one| *one != id);
            self.waiting.remove(&id);
            self.forget_node(at);
        }
    }

    pub(crate) fn nominated_node(&self, key: &Key) -> Option<usize> {
        self.nominated.get(key).map(|(_, at)| *at)
    }

    /// Pods nominated to a node that are as important as `pod` or more, itself not counted.
    pub(crate) fn nominated_before(&self, pod: &PodInfo, node: usize) -> Vec<Arc<PodInfo>> {
        let ids = self.nodes[node].nominated.iter();
        ids.filter_map(|id| self.waiting.get(id))
            .filter(|one| one.priority >= pod.priority && one.key != pod.key)
            .cloned()
            .collect()
    }

    /// Pods nominated to a node that are less important than `pod`.
    pub(crate) fn nominated_after(&self, pod: &PodInfo, node: usize) -> Vec<Key> {
        let ids = self.nodes[node].nominated.iter();
        ids.filter_map(|id| self.waiting.get(id))
            .filter(|one| one.priority < pod.priority)
            .map(|one| one.key.clone())
            .collect()
    }
}

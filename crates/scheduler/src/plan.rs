//! What one decision needs to know, worked out once before the nodes are looked at; and the look at one node.
//!
//! [`Plan::check`] is the loop's inside: it reads sums and allocates nothing.

use crate::node::Effect;
use crate::pod::{PodInfo, Spread};
use crate::refusal::{
    FIRST_EXTENDED, NO_CPU, NO_MEMORY, NO_STORAGE, Refusal, Shortage, TOO_MANY_PODS,
};
use crate::tally::{Hold, NOWHERE};
use crate::volumes::Demand;
use crate::world::{UNSCHEDULABLE, World};

/// How many pods are in each domain.
#[derive(Debug)]
pub(crate) enum Counts {
    /// The sums of a counter.
    Shared(usize),
    /// Counted for this decision: not all nodes count.
    Own(Vec<u32>),
}

/// A hard constraint on spreading.
#[derive(Debug)]
pub(crate) struct Hard {
    pub(crate) column: usize,
    counts: Counts,
    least: i64,
    max_skew: i64,
    itself: i64,
}

/// What a decision needs to know.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Why no node can take the pod, whichever it is.
    pub(crate) refused: Option<String>,
    /// The only nodes that can be meant.
    pub(crate) only: Option<Vec<usize>>,
    pub(crate) volumes: Demand,
    hard: Vec<Hard>,
    /// Column and counter of each term.
    affinity: Vec<(usize, usize)>,
    /// No pod is there yet to be near to, and the pod means itself.
    is_first: bool,
    anti_affinity: Vec<(usize, usize)>,
    /// What others hold against it.
    against: Vec<usize>,
}

impl Plan {
    /// Prepares a decision.
    pub(crate) fn new(world: &mut World, pod: &PodInfo) -> Plan {
        let mut plan = Plan::default();
        match world.volumes.demand(pod, &mut world.symbols) {
            Ok(demand) => plan.volumes = demand,
            Err(said) => plan.refused = Some(said),
        }
        let required = pod.wants.required.as_ref();
        if let Some(names) = required.and_then(|required| required.only()) {
            let nodes = names.iter().filter_map(|name| world.node_named(*name));
            let mut nodes: Vec<usize> = nodes.collect();
            nodes.sort_unstable();
            nodes.dedup();
            plan.only = Some(nodes);
        }
        plan.plan_spread(world, pod);
        plan.plan_pods(world, pod);
        plan
    }

    /// Enough for [`Plan::check_alone`].
    pub(crate) fn of_volumes(volumes: Demand) -> Plan {
        Plan {
            volumes,
            ..Plan::default()
        }
    }

    fn plan_pods(&mut self, world: &mut World, pod: &PodInfo) {
        if !pod.affinity.is_empty() {
            let all: Vec<_> = pod.affinity.iter().map(|t| t.selector.clone()).collect();
            let means_itself = all.iter().all(|one| {
                let namespaces = &world.tally.namespaces;
                one.matches(&pod.key.namespace, pod.labels(), namespaces)
            });
            for term in &pod.affinity {
                let column = world.column(term.key);
                let counter = world.count(all.clone(), false, Some(column));
                self.affinity.push((column, counter));
            }
            let is_nobody_there = self.affinity.iter().all(|(column, counter)| {
                let counter = world.tally.counter(*counter);
                counter.is_none_or(|c| c.domains(*column).iter().all(|count| *count == 0))
            });
            self.is_first = means_itself && is_nobody_there;
        }
        for term in &pod.anti_affinity {
            let column = world.column(term.key);
            let counter = world.count(vec![term.selector.clone()], false, Some(column));
            self.anti_affinity.push((column, counter));
        }
        let about = world.tally.held_about(pod);
        let against = about.filter(|(_, held)| held.hold == Hold::Against);
        self.against = against.map(|(at, _)| at).collect();
    }

    fn plan_spread(&mut self, world: &mut World, pod: &PodInfo) {
        let hard: Vec<&Spread> = pod.wants.spread.iter().filter(|s| s.is_hard).collect();
        let columns: Vec<usize> = hard.iter().map(|one| world.column(one.key)).collect();
        for (one, column) in hard.iter().zip(&columns) {
            let counter = world.count(vec![one.selector.clone()], true, Some(*column));
            let nodes_total = world.order().len();
            let everywhere = columns
                .iter()
                .all(|c| world.tally.columns[*c].nodes_total == nodes_total);
            let is_any = !(one.honors_affinity && pod.wants.has_node_affinity());
            let (counts, least, domains) = if everywhere && is_any && !one.honors_taints {
                let (least, domains) = least_of(world, *column, counter);
                (Counts::Shared(counter), least, domains)
            } else {
                count_own(world, pod, one, *column, counter, &columns)
            };
            self.hard.push(Hard {
                column: *column,
                counts,
                // Too few domains: as if an empty one were there.
                least: if domains < one.min_domains { 0 } else { least },
                max_skew: one.max_skew,
                itself: i64::from(one.selects_itself),
            });
        }
    }

    /// Whether a node takes the pod, in the order in which the original asks.
    pub(crate) fn check(&self, world: &World, pod: &PodInfo, node: usize) -> Option<Refusal> {
        self.check_node(world, pod, node)
            .or_else(|| self.check_room(world, pod, node))
            .or_else(|| self.check_volumes(world, node))
            .or_else(|| self.check_spread(world, node))
            .or_else(|| self.check_pods(world, node))
    }

    /// What does not depend on other pods anywhere else: what a hint about one node may rely on.
    pub(crate) fn check_alone(&self, world: &World, pod: &PodInfo, node: usize) -> Option<Refusal> {
        self.check_node(world, pod, node)
            .or_else(|| self.check_room(world, pod, node))
            .or_else(|| self.check_volumes(world, node))
    }

    fn check_node(&self, world: &World, pod: &PodInfo, at: usize) -> Option<Refusal> {
        let room = &world.rooms[at];
        if room.is_unschedulable && !self.tolerates_unschedulable(world, pod) {
            return Some(Refusal::Unschedulable);
        }
        if room.has_taints {
            let taints = world.nodes[at].taints.iter();
            let mut hard = taints.filter(|taint| taint.effect != Effect::PreferNoSchedule);
            if let Some(taint) = hard.find(|taint| !pod.wants.tolerates(taint)) {
                return Some(Refusal::Taint(*taint));
            }
        }
        let node = &world.nodes[at];
        let wants = &pod.wants;
        let selected = wants
            .selector
            .as_ref()
            .is_none_or(|s| s.matches(&node.labels, node.name, &world.symbols));
        let required = || {
            wants
                .required
                .as_ref()
                .is_none_or(|terms| terms.matches(&node.labels, node.name, &world.symbols))
        };
        (!selected || !required()).then_some(Refusal::NodeAffinity)
    }

    fn tolerates_unschedulable(&self, world: &World, pod: &PodInfo) -> bool {
        let key = world.symbols.known(UNSCHEDULABLE);
        let value = world.symbols.known("");
        let (Some(key), Some(value)) = (key, value) else {
            return false;
        };
        pod.wants.tolerates(&crate::node::Taint {
            key,
            value,
            effect: Effect::NoSchedule,
        })
    }

    fn check_room(&self, world: &World, pod: &PodInfo, at: usize) -> Option<Refusal> {
        if !pod.ports.is_empty() && world.nodes[at].has_clash(&pod.ports) {
            return Some(Refusal::Ports);
        }
        let room = &world.rooms[at];
        let asked = &pod.requests.amounts;
        let mut what = 0;
        let mut is_final = false;
        let mut compare = |bit: u64, asked: i64, has: i64, used: i64| {
            if asked > 0 && asked > has - used {
                what |= bit;
                is_final |= asked > has;
            }
        };
        compare(TOO_MANY_PODS, 1, room.has.pods, room.used.pods);
        let (has, used) = (&room.has, &room.used);
        compare(NO_CPU, asked.cpu_millis, has.cpu_millis, used.cpu_millis);
        compare(
            NO_MEMORY,
            asked.memory_bytes,
            has.memory_bytes,
            used.memory_bytes,
        );
        compare(
            NO_STORAGE,
            asked.storage_bytes,
            has.storage_bytes,
            used.storage_bytes,
        );
        for (at, (name, amount)) in asked.extended.iter().enumerate() {
            // More than sixty kinds are not told apart, but are refused all the same.
            let bit = 1_u64 << (FIRST_EXTENDED as usize + at).min(63);
            compare(bit, *amount, has.extended(*name), used.extended(*name));
        }
        (what != 0).then_some(Refusal::Shortage(Shortage { what, is_final }))
    }

    fn check_volumes(&self, world: &World, at: usize) -> Option<Refusal> {
        let demand = &self.volumes;
        if demand.is_missing {
            return Some(Refusal::VolumeMissing);
        }
        if demand.bound.is_empty() && demand.choices.is_empty() {
            return None;
        }
        let node = &world.nodes[at];
        let can_be = |terms: &crate::selector::NodeTerms| {
            terms.matches(&node.labels, node.name, &world.symbols)
        };
        if !demand.bound.iter().all(can_be) {
            return Some(Refusal::VolumeElsewhere);
        }
        let has_volume = |choice: &crate::volumes::Choice| {
            choice.is_provisioned
                || choice
                    .volumes
                    .iter()
                    .any(|(_, terms)| terms.as_ref().is_none_or(can_be))
        };
        (!demand.choices.iter().all(has_volume)).then_some(Refusal::NoVolume)
    }

    fn check_spread(&self, world: &World, node: usize) -> Option<Refusal> {
        for one in &self.hard {
            let domain = world.tally.columns[one.column].of(node);
            if domain == NOWHERE {
                return Some(Refusal::SpreadLabel);
            }
            let counts = match &one.counts {
                Counts::Own(counts) => counts,
                Counts::Shared(counter) => world
                    .tally
                    .counter(*counter)
                    .map_or(&[][..], |counter| counter.domains(one.column)),
            };
            let found = counts.get(domain as usize).copied().unwrap_or_default();
            if i64::from(found) + one.itself - one.least > one.max_skew {
                return Some(Refusal::Spread);
            }
        }
        None
    }

    fn check_pods(&self, world: &World, node: usize) -> Option<Refusal> {
        let in_domain = |column: usize, counter: usize| {
            let domain = world.tally.columns[column].of(node);
            let counter = world.tally.counter(counter).filter(|_| domain != NOWHERE)?;
            let counts = counter.domains(column);
            Some(counts.get(domain as usize).copied().unwrap_or_default())
        };
        for (column, counter) in &self.affinity {
            match in_domain(*column, *counter) {
                None => return Some(Refusal::Affinity),
                Some(0) if !self.is_first => return Some(Refusal::Affinity),
                Some(_) => {}
            }
        }
        for (column, counter) in &self.anti_affinity {
            if in_domain(*column, *counter).is_some_and(|count| count > 0) {
                return Some(Refusal::AntiAffinity);
            }
        }
        let is_near = |at: &usize| {
            let held = world.tally.held(*at);
            let domain = world.tally.columns[held.column].of(node);
            domain != NOWHERE
                && held
                    .by_domain
                    .get(domain as usize)
                    .is_some_and(|count| *count > 0)
        };
        self.against
            .iter()
            .any(is_near)
            .then_some(Refusal::ExistingAntiAffinity)
    }
}

/// The least pods in a domain that has nodes, and how many such domains there are.
fn least_of(world: &World, column: usize, counter: usize) -> (i64, i64) {
    let counts = world.tally.counter(counter);
    let counts = counts.map_or(&[][..], |counter| counter.domains(column));
    let mut least = i64::MAX;
    let mut domains = 0;
    for (domain, nodes) in world.tally.columns[column].nodes.iter().enumerate() {
        if *nodes > 0 {
            domains += 1;
            least = least.min(i64::from(counts.get(domain).copied().unwrap_or_default()));
        }
    }
    (if domains == 0 { 0 } else { least }, domains)
}

/// Whether a node counts for a constraint on spreading.
pub(crate) fn counts_in(world: &World, pod: &PodInfo, one: &Spread, at: usize) -> bool {
    let node = &world.nodes[at];
    let wants = &pod.wants;
    let affinity = !one.honors_affinity
        || (wants
            .selector
            .as_ref()
            .is_none_or(|s| s.matches(&node.labels, node.name, &world.symbols))
            && wants
                .required
                .as_ref()
                .is_none_or(|terms| terms.matches(&node.labels, node.name, &world.symbols)));
    let mut hard = node
        .taints
        .iter()
        .filter(|taint| taint.effect != Effect::PreferNoSchedule);
    affinity && (!one.honors_taints || hard.all(|taint| wants.tolerates(taint)))
}

/// Counts by looking at every node, because only some of them count.
fn count_own(
    world: &mut World,
    pod: &PodInfo,
    one: &Spread,
    column: usize,
    counter: usize,
    columns: &[usize],
) -> (Counts, i64, i64) {
    let order = world.order().to_vec();
    let world = &*world;
    let domains = world.tally.columns[column].nodes.len();
    let mut counts = vec![0_u32; domains];
    let mut is_there = vec![false; domains];
    let by_node = world.tally.counter(counter).map(|counter| &counter.by_node);
    for node in order {
        let has_labels = columns
            .iter()
            .all(|c| world.tally.columns[*c].of(node) != NOWHERE);
        if has_labels && counts_in(world, pod, one, node) {
            let domain = world.tally.columns[column].of(node) as usize;
            is_there[domain] = true;
            counts[domain] += by_node
                .and_then(|b| b.get(node))
                .copied()
                .unwrap_or_default();
        }
    }
    let there = is_there.iter().zip(&counts).filter(|(there, _)| **there);
    let least = there.clone().map(|(_, count)| i64::from(*count)).min();
    let domains = i64::try_from(there.count()).unwrap_or(i64::MAX);
    (Counts::Own(counts), least.unwrap_or_default(), domains)
}

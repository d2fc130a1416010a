//! One decision: the node for a pod, or why there is none.

use std::sync::Arc;

use crate::plan::Plan;
use crate::pod::PodInfo;
use crate::refusal::{Diagnosis, Refusal};
use crate::score::{Scores, Weights};
use crate::world::World;

/// Below so many nodes all are looked at.
const NODES_LEAST: usize = 100;

/// What came out.
#[derive(Debug)]
pub(crate) enum Decision {
    Node(usize),
    Nowhere(Diagnosis),
}

/// Buffers and what goes on from one decision to the next.
#[derive(Debug)]
pub(crate) struct Decider {
    scores: Scores,
    taking: Vec<usize>,
    refusals: Vec<(usize, Refusal)>,
    /// Where the next decision begins to look, so that all nodes have their turn.
    start: usize,
    random: u64,
}

/// How many nodes that take a pod are enough to choose from: the original's rule.
fn enough(nodes_total: usize) -> usize {
    if nodes_total < NODES_LEAST {
        return nodes_total;
    }
    let percent = 50_usize.saturating_sub(nodes_total / 125).max(5);
    (nodes_total * percent / 100).max(NODES_LEAST)
}

impl Decider {
    pub(crate) fn new(seed: u64) -> Decider {
        Decider {
            scores: Scores::default(),
            taking: Vec::new(),
            refusals: Vec::new(),
            start: 0,
            random: seed | 1,
        }
    }

    /// A number that spreads choices among equals; it is no secret.
    pub(crate) fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let below = below.max(1) as u64;
        usize::try_from(self.random % below).unwrap_or_default()
    }

    pub(crate) fn decide(
        &mut self,
        world: &mut World,
        pod: &Arc<PodInfo>,
        weights: &Weights,
    ) -> Decision {
        world.tally.trim();
        let nodes_total = world.order().len();
        let plan = Plan::new(world, pod);
        if let Some(diagnosis) = Diagnosis::of_pod(&plan, nodes_total) {
            return Decision::Nowhere(diagnosis);
        }
        if let Some(node) = world.nominated_node(&pod.key)
            && world.nodes[node].is_live
            && check(world, pod, &plan, node).is_none()
        {
            return Decision::Node(node);
        }
        self.look(world, pod, &plan, enough(nodes_total));
        match self.taking.len() {
            0 => Decision::Nowhere(self.diagnosis(world, &plan)),
            1 => Decision::Node(self.taking[0]),
            _ => {
                self.scores.score(world, pod, &self.taking, weights);
                Decision::Node(self.best())
            }
        }
    }

    /// Finds nodes that take the pod, until there are enough.
    fn look(&mut self, world: &mut World, pod: &Arc<PodInfo>, plan: &Plan, enough: usize) {
        self.taking.clear();
        self.refusals.clear();
        if let Some(only) = &plan.only {
            for node in only {
                self.take(world, pod, plan, *node);
            }
            return;
        }
        let nodes_total = world.order().len();
        if nodes_total == 0 {
            return;
        }
        let start = self.start % nodes_total;
        for step in 0..nodes_total {
            let at = (start + step) % nodes_total;
            let node = world.order()[at];
            self.take(world, pod, plan, node);
            self.start = at + 1;
            if self.taking.len() >= enough {
                return;
            }
        }
    }

    fn take(&mut self, world: &mut World, pod: &Arc<PodInfo>, plan: &Plan, node: usize) {
        match check(world, pod, plan, node) {
            None => self.taking.push(node),
            Some(refusal) => self.refusals.push((node, refusal)),
        }
    }

    fn diagnosis(&mut self, world: &mut World, plan: &Plan) -> Diagnosis {
        let mut refusals = std::mem::take(&mut self.refusals);
        if let Some(only) = &plan.only {
            let all = world.order().to_vec();
            let others = all.into_iter().filter(|n| only.binary_search(n).is_err());
            refusals.extend(others.map(|node| (node, Refusal::NotNamed)));
        }
        let mut diagnosis = Diagnosis {
            nodes_total: world.order().len(),
            refusals,
            ..Diagnosis::default()
        };
        for (_, refusal) in &diagnosis.refusals {
            diagnosis.plugins.add(refusal.plugin());
        }
        diagnosis
    }

    /// One of the best, by lot.
    fn best(&mut self) -> usize {
        let mut best = 0;
        let mut equals = 1;
        for at in 1..self.taking.len() {
            let (new, old) = (self.scores.total[at], self.scores.total[best]);
            if new > old {
                best = at;
                equals = 1;
            } else if new == old {
                equals += 1;
                if self.random(equals) == 0 {
                    best = at;
                }
            }
        }
        self.taking[best]
    }
}

/// Whether a node takes a pod, also with the pods for which room is made there and which come before it.
pub(crate) fn check(
    world: &mut World,
    pod: &Arc<PodInfo>,
    plan: &Plan,
    node: usize,
) -> Option<Refusal> {
    let refusal = plan.check(world, pod, node);
    if refusal.is_some() || world.nodes[node].nominated.is_empty() {
        return refusal;
    }
    let before = world.nominated_before(pod, node);
    if before.is_empty() {
        return None;
    }
    let tried: Vec<_> = before
        .into_iter()
        .map(|one| world.try_on(one, node))
        .collect();
    let refusal = Plan::new(world, pod).check(world, pod, node);
    for id in tried {
        world.end_try(id);
    }
    refusal
}

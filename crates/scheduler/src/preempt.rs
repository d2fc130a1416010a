//! Who has to leave so that a more important pod finds room: the fewest, the least important, budgets kept if possible.
//!
//! Victims are tried out on the world itself: taken off, put back one by one while the pod still fits, all put back.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use wharf_client::Key;

use crate::decide::check;
use crate::plan::Plan;
use crate::pod::{PodId, PodInfo};
use crate::refusal::{Diagnosis, histogram};
use crate::selector::Selector;
use crate::world::World;

/// Budgets by key.
pub(crate) type Budgets = HashMap<Key, Arc<PodDisruptionBudget>>;

/// Nodes on which victims are looked for: a tenth of all, and at least so many.
const CANDIDATES_LEAST: usize = 100;

/// Who leaves, and where.
#[derive(Debug)]
pub(crate) struct Victims {
    pub(crate) node: usize,
    pub(crate) pods: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// Chooses victims; an error says why there are none.
pub(crate) fn preempt(
    world: &mut World,
    pod: &Arc<PodInfo>,
    diagnosis: &Diagnosis,
    budgets: &Budgets,
    start: usize,
) -> Result<Victims, String> {
    eligible(world, pod, diagnosis)?;
    let helpful: Vec<usize> = diagnosis
        .refusals
        .iter()
        .filter(|(_, refusal)| refusal.yields_to_preemption())
        .map(|(node, _)| *node)
        .collect();
    let unhelpful = diagnosis.nodes_total.saturating_sub(helpful.len());
    let enough = (diagnosis.nodes_total / 10).max(CANDIDATES_LEAST);
    let mut words = vec!["Preemption is not helpful for scheduling".to_owned(); unhelpful];
    let mut found: Vec<Victims> = Vec::new();
    let mut has_clean = false;
    for step in 0..helpful.len() {
        let node = helpful[(start + step) % helpful.len()];
        match victims_on(world, pod, node, budgets) {
            Ok(victims) => {
                has_clean |= victims.violations == 0;
                found.push(victims);
                if has_clean && found.len() >= enough {
                    break;
                }
            }
            Err(mut said) => words.append(&mut said),
        }
    }
    best(found).ok_or_else(|| {
        let total = diagnosis.nodes_total;
        format!("0/{total} nodes are available{}", histogram(words))
    })
}

fn eligible(world: &World, pod: &PodInfo, diagnosis: &Diagnosis) -> Result<(), String> {
    if pod.never_preempts() {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let Some(node) = world.nominated_node(&pod.key) else {
        return Ok(());
    };
    let mut refusals = diagnosis.refusals.iter().filter(|(at, _)| *at == node);
    if refusals.any(|(_, refusal)| !refusal.yields_to_preemption()) {
        // Nothing that leaves would help there any more: choose anew.
        return Ok(());
    }
    let pods = world.nodes[node].pods.iter();
    let mut pods = pods.filter_map(|id| world.placed(*id));
    if pods.any(|one| one.pod.is_leaving() && one.pod.priority < pod.priority) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    Ok(())
}

/// The victims on one node; an error holds the node's reasons.
fn victims_on(
    world: &mut World,
    pod: &Arc<PodInfo>,
    node: usize,
    budgets: &Budgets,
) -> Result<Victims, Vec<String>> {
    let ids = world.nodes[node].pods.clone();
    let lesser = |id: &PodId| {
        let placed = world.placed(*id);
        placed.is_some_and(|placed| placed.pod.priority < pod.priority)
    };
    let lesser: Vec<PodId> = ids.into_iter().filter(lesser).collect();
    if lesser.is_empty() {
        return Err(vec![
            "No preemption victims found for incoming pod".to_owned(),
        ]);
    }
    let mut off: Vec<(PodId, crate::world::Placed)> = Vec::new();
    for id in lesser {
        if let Some(placed) = world.detach(id) {
            off.push((id, placed));
        }
    }
    let plan = Plan::new(world, pod);
    if let Some(refusal) = check(world, pod, &plan, node) {
        put_back(world, off);
        let mut said = Vec::new();
        refusal.words(world, pod, &mut said);
        return Err(said);
    }
    let (victims, violations) = reprieve(world, pod, node, off, budgets);
    let pods = victims.iter().map(|(_, placed)| placed.pod.clone());
    let pods = pods.collect();
    put_back(world, victims);
    Ok(Victims {
        node,
        pods,
        violations,
    })
}

type Off = Vec<(PodId, crate::world::Placed)>;

fn put_back(world: &mut World, off: Off) {
    for (id, placed) in off {
        world.attach(id, placed);
    }
}

/// Puts back who need not leave, those first whom a budget protects, the important before the others. Returns who stays
/// off, and how many of them against a budget.
fn reprieve(
    world: &mut World,
    pod: &Arc<PodInfo>,
    node: usize,
    mut off: Off,
    budgets: &Budgets,
) -> (Off, usize) {
    off.sort_by_key(|(_, placed)| importance(&placed.pod));
    let protected = violating(&off, budgets);
    let mut parts: [Off; 2] = [Vec::new(), Vec::new()];
    for (one, is_protected) in off.into_iter().zip(protected) {
        parts[usize::from(!is_protected)].push(one);
    }
    let mut victims = Vec::new();
    let mut violations = 0;
    for (part, list) in parts.into_iter().enumerate() {
        for (id, placed) in list {
            world.attach(id, placed);
            let plan = Plan::new(world, pod);
            if check(world, pod, &plan, node).is_some()
                && let Some(placed) = world.detach(id)
            {
                victims.push((id, placed));
                violations += usize::from(part == 0);
            }
        }
    }
    victims.sort_by_key(|(_, placed)| importance(&placed.pod));
    (victims, violations)
}

/// Sorts the important first: by priority, then those that run for longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, jiff::Timestamp) {
    (Reverse(pod.priority), pod.started())
}

/// Of each pod whether its end would break a budget, when they end in this order.
fn violating(off: &Off, budgets: &Budgets) -> Vec<bool> {
    let mut left: HashMap<&Key, i32> = HashMap::new();
    let mut of_pod = |pod: &PodInfo| {
        let mut is_violating = false;
        for (key, budget) in budgets {
            let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
            let selector = Selector::read(selector);
            let is_empty = selector.is_empty();
            if key.namespace != pod.key.namespace || is_empty || !selector.matches(pod.labels()) {
                continue;
            }
            let status = budget.status.as_ref();
            let gone = status.and_then(|status| status.disrupted_pods.as_ref());
            if gone.is_some_and(|gone| gone.contains_key(&pod.key.name)) {
                continue;
            }
            let allowed = status.and_then(|status| status.disruptions_allowed);
            let left = left.entry(key).or_insert(allowed.unwrap_or_default());
            *left -= 1;
            is_violating |= *left < 0;
        }
        is_violating
    };
    off.iter().map(|(_, placed)| of_pod(&placed.pod)).collect()
}

/// The candidate that hurts least.
fn best(found: Vec<Victims>) -> Option<Victims> {
    found.into_iter().min_by_key(|one| {
        let most = one.pods.iter().map(|pod| pod.priority).max();
        let sum: i64 = one
            .pods
            .iter()
            .map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1)
            .sum();
        let important = one.pods.iter().filter(|pod| Some(pod.priority) == most);
        let earliest = important.map(|pod| pod.started()).min();
        (one.violations, most, sum, one.pods.len(), Reverse(earliest))
    })
}

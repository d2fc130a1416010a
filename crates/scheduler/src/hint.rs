//! Which events can help which pods: the rest sleep on.

use std::sync::Arc;

use crate::plan::Plan;
use crate::pod::PodInfo;
use crate::refusal::Plugins;
use crate::world::World;

/// An event as far as it may help.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A node is there or is another; `moves`: its labels too.
    Node {
        node: usize,
        moves: bool,
    },
    NodeGone,
    PodPlaced(Arc<PodInfo>),
    /// A pod left a node, or takes less of it.
    PodLeft(Arc<PodInfo>, usize),
    Volumes,
    Namespaces,
}

/// Whether a pod that these refused may find a node now.
pub(crate) fn helps(
    world: &mut World,
    pod: &PodInfo,
    plugins: Plugins,
    happened: &Happened,
) -> bool {
    match happened {
        Happened::Node { node, moves } => {
            // A node of its own, or a domain more for those who count domains.
            (*moves && (plugins.has(Plugins::SPREAD) || plugins.has(Plugins::PODS)))
                || takes_alone(world, pod, *node)
        }
        Happened::NodeGone => plugins.has(Plugins::SPREAD),
        Happened::PodPlaced(other) => {
            (plugins.has(Plugins::PODS) && pod.affinity.iter().any(|t| means(world, t, other)))
                || (plugins.has(Plugins::SPREAD) && spreads_with(world, pod, other))
        }
        Happened::PodLeft(other, node) => {
            let makes_room = plugins.has(Plugins::FIT) || plugins.has(Plugins::PORTS);
            (makes_room && takes_alone(world, pod, *node))
                || (plugins.has(Plugins::SPREAD) && spreads_with(world, pod, other))
                || (plugins.has(Plugins::PODS)
                    && (pod.anti_affinity.iter().any(|t| means(world, t, other))
                        || other.anti_affinity.iter().any(|t| means(world, t, pod))))
        }
        Happened::Volumes => plugins.has(Plugins::VOLUMES),
        Happened::Namespaces => plugins.has(Plugins::PODS),
    }
}

/// Whether a node takes the pod as far as that depends on the node alone.
fn takes_alone(world: &mut World, pod: &PodInfo, node: usize) -> bool {
    let Ok(volumes) = world.volumes.demand(pod, &mut world.symbols) else {
        return false;
    };
    let plan = Plan::of_volumes(volumes);
    world.nodes[node].is_live && plan.check_alone(world, pod, node).is_none()
}

fn means(world: &World, term: &crate::pod::Term, other: &PodInfo) -> bool {
    let namespaces = &world.tally.namespaces;
    term.selector
        .matches(&other.key.namespace, other.labels(), namespaces)
}

fn spreads_with(world: &World, pod: &PodInfo, other: &PodInfo) -> bool {
    let namespaces = &world.tally.namespaces;
    pod.wants
        .spread
        .iter()
        .filter(|one| one.is_hard)
        .any(|one| {
            one.selector
                .matches(&other.key.namespace, other.labels(), namespaces)
        })
}

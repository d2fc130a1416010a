//! Why a node does not take a pod: small values in the loop, the original's words when somebody reads them.

use crate::node::Taint;
use crate::plan::Plan;
use crate::pod::PodInfo;
use crate::world::World;

/// Who refuses: a set of these wakes the pod up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Plugins(pub(crate) u16);

impl Plugins {
    pub(crate) const NODE: Plugins = Plugins(1);
    pub(crate) const PORTS: Plugins = Plugins(1 << 1);
    pub(crate) const FIT: Plugins = Plugins(1 << 2);
    pub(crate) const VOLUMES: Plugins = Plugins(1 << 3);
    pub(crate) const SPREAD: Plugins = Plugins(1 << 4);
    pub(crate) const PODS: Plugins = Plugins(1 << 5);

    pub(crate) fn add(&mut self, other: Plugins) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, other: Plugins) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is too little, as bits: pods, cpu, memory, storage, then the pod's extended resources in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) what: u64,
    /// The node could not hold the pod if it were empty.
    pub(crate) is_final: bool,
}

pub(crate) const TOO_MANY_PODS: u64 = 1;
pub(crate) const NO_CPU: u64 = 1 << 1;
pub(crate) const NO_MEMORY: u64 = 1 << 2;
pub(crate) const NO_STORAGE: u64 = 1 << 3;
pub(crate) const FIRST_EXTENDED: u32 = 4;

/// Why one node does not take one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unschedulable,
    /// By the place of the taint in the node's list.
    Taint(Taint),
    NodeAffinity,
    NotNamed,
    Ports,
    Shortage(Shortage),
    VolumeElsewhere,
    VolumeMissing,
    NoVolume,
    SpreadLabel,
    Spread,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
}

impl Refusal {
    pub(crate) fn plugin(&self) -> Plugins {
        match self {
            Refusal::Unschedulable
            | Refusal::Taint(_)
            | Refusal::NodeAffinity
            | Refusal::NotNamed => Plugins::NODE,
            Refusal::Ports => Plugins::PORTS,
            Refusal::Shortage(_) => Plugins::FIT,
            Refusal::VolumeElsewhere | Refusal::VolumeMissing | Refusal::NoVolume => {
                Plugins::VOLUMES
            }
            Refusal::SpreadLabel | Refusal::Spread => Plugins::SPREAD,
            Refusal::Affinity | Refusal::AntiAffinity | Refusal::ExistingAntiAffinity => {
                Plugins::PODS
            }
        }
    }

    /// Whether other pods' leaving the node could help.
    pub(crate) fn yields_to_preemption(&self) -> bool {
        match self {
            Refusal::Shortage(shortage) => !shortage.is_final,
            Refusal::Ports
            | Refusal::Spread
            | Refusal::AntiAffinity
            | Refusal::ExistingAntiAffinity => true,
            _ => false,
        }
    }

    /// The original's words, each a reason of its own.
    pub(crate) fn words(&self, world: &World, pod: &PodInfo, out: &mut Vec<String>) {
        let one = match self {
            Refusal::Shortage(shortage) => return shortage.words(world, pod, out),
            Refusal::Taint(taint) => {
                let text = |symbol| world.symbols.text(symbol);
                out.push(format!(
                    "node(s) had untolerated taint {{{}: {}}}",
                    text(taint.key),
                    text(taint.value)
                ));
                return;
            }
            Refusal::Unschedulable => "node(s) were unschedulable",
            Refusal::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Refusal::NotNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Refusal::Ports => "node(s) didn't have free ports for the requested pod ports",
            Refusal::VolumeElsewhere => "node(s) didn't match PersistentVolume's node affinity",
            Refusal::VolumeMissing => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
            }
            Refusal::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Refusal::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Refusal::Spread => "node(s) didn't match pod topology spread constraints",
            Refusal::Affinity => "node(s) didn't match pod affinity rules",
            Refusal::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Refusal::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
        };
        out.push(one.to_owned());
    }
}

impl Shortage {
    fn words(&self, world: &World, pod: &PodInfo, out: &mut Vec<String>) {
        let named = [
            (TOO_MANY_PODS, "Too many pods"),
            (NO_CPU, "Insufficient cpu"),
            (NO_MEMORY, "Insufficient memory"),
            (NO_STORAGE, "Insufficient ephemeral-storage"),
        ];
        for (bit, words) in named {
            if self.what & bit != 0 {
                out.push(words.to_owned());
            }
        }
        for (at, (name, _)) in pod.requests.amounts.extended.iter().enumerate() {
            if at < 60 && self.what >> (FIRST_EXTENDED as usize + at) & 1 != 0 {
                out.push(format!("Insufficient {}", world.symbols.text(*name)));
            }
        }
    }
}

/// What the nodes said, for the event, the condition and the one who asks.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    /// The pod itself is in the way, on every node.
    pub(crate) of_pod: Option<String>,
    /// By node.
    pub(crate) refusals: Vec<(usize, Refusal)>,
    pub(crate) nodes_total: usize,
    pub(crate) plugins: Plugins,
}

impl Diagnosis {
    pub(crate) fn of_pod(plan: &Plan, nodes_total: usize) -> Option<Diagnosis> {
        let said = plan.refused.clone()?;
        Some(Diagnosis {
            of_pod: Some(said),
            refusals: Vec::new(),
            nodes_total,
            plugins: Plugins::VOLUMES,
        })
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub(crate) fn message(&self, world: &World, pod: &PodInfo, preemption: &str) -> String {
        let total = self.nodes_total;
        let mut text = format!("0/{total} nodes are available");
        if total == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        match &self.of_pod {
            Some(said) => text.push_str(&format!(": {said}.")),
            None => {
                let mut words = Vec::new();
                for (_, refusal) in &self.refusals {
                    refusal.words(world, pod, &mut words);
                }
                text.push_str(&histogram(words));
            }
        }
        if !preemption.is_empty() {
            text.push_str(" preemption: ");
            text.push_str(preemption);
        }
        text
    }
}

/// `: 1 this, 2 that.`, in the order of the texts.
pub(crate) fn histogram(words: Vec<String>) -> String {
    let mut counts = std::collections::HashMap::new();
    for word in words {
        *counts.entry(word).or_insert(0_usize) += 1;
    }
    let mut lines: Vec<String> = counts
        .into_iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    lines.sort_unstable();
    if lines.is_empty() {
        return String::new();
    }
    format!(": {}.", lines.join(", "))
}

//! A node as the scheduler keeps it: labels and taints as symbols, what it has, what is taken, who is there.

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as core;

use crate::amounts::Amounts;
use crate::pod::PodId;
use crate::symbol::{Symbol, Symbols};

/// Labels, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(Symbol, Symbol)>);

impl Labels {
    pub(crate) fn get(&self, key: Symbol) -> Option<Symbol> {
        let found = self.0.binary_search_by_key(&key, |(key, _)| *key);
        found.ok().map(|at| self.0[at].1)
    }
}

/// What a taint does to pods that don't tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    pub(crate) fn read(text: &str) -> Option<Effect> {
        match text {
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) key: Symbol,
    pub(crate) value: Symbol,
    pub(crate) effect: Effect,
}

/// A port of the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) port: i32,
    pub(crate) protocol: String,
    /// `0.0.0.0` for all addresses.
    pub(crate) address: String,
}

const ALL_ADDRESSES: &str = "0.0.0.0";

impl HostPort {
    pub(crate) fn of(spec: &core::PodSpec) -> Vec<HostPort> {
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars);
        let ports = ports.flat_map(|c| c.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0)?;
                Some(HostPort {
                    port: number,
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    address: port
                        .host_ip
                        .clone()
                        .filter(|address| !address.is_empty())
                        .unwrap_or_else(|| ALL_ADDRESSES.to_owned()),
                })
            })
            .collect()
    }

    fn clashes(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address
                || self.address == ALL_ADDRESSES
                || other.address == ALL_ADDRESSES)
    }
}

/// What the filters look at first, for many nodes one after the other: kept apart from the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    pub(crate) has: Amounts,
    pub(crate) used: Amounts,
    pub(crate) guessed_cpu_millis: i64,
    pub(crate) guessed_memory_bytes: i64,
    pub(crate) is_unschedulable: bool,
    pub(crate) has_taints: bool,
}

/// The rest of a node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Symbol,
    /// There is a node of this name; otherwise only pods say so.
    pub(crate) is_live: bool,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) images: HashMap<Symbol, i64>,
    pub(crate) pods: Vec<PodId>,
    /// Ports that pods hold, once for each holder.
    pub(crate) ports: Vec<HostPort>,
    /// Pods for which victims were chosen here.
    pub(crate) nominated: Vec<PodId>,
}

/// What a node's object says.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) has: Amounts,
    pub(crate) is_unschedulable: bool,
    pub(crate) images: HashMap<Symbol, i64>,
}

impl Said {
    pub(crate) fn read(node: &core::Node, symbols: &mut Symbols) -> Said {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let labels = node.metadata.labels.iter().flatten();
        let mut labels: Vec<_> = labels
            .map(|(key, value)| (symbols.intern(key), symbols.intern(value)))
            .collect();
        labels.sort_unstable();
        let taints = spec.and_then(|spec| spec.taints.as_ref());
        let taints = taints.into_iter().flatten().filter_map(|taint| {
            Some(Taint {
                key: symbols.intern(&taint.key),
                value: symbols.intern(taint.value.as_deref().unwrap_or_default()),
                effect: Effect::read(&taint.effect)?,
            })
        });
        let taints = taints.collect();
        let mut images = HashMap::new();
        let listed = status.and_then(|status| status.images.as_ref());
        for image in listed.into_iter().flatten() {
            for name in image.names.iter().flatten() {
                images.insert(symbols.intern(name), image.size_bytes.unwrap_or_default());
            }
        }
        let has = status.and_then(|status| status.allocatable.as_ref());
        Said {
            labels: Labels(labels),
            taints,
            has: Amounts::read(has, symbols),
            is_unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or_default(),
            images,
        }
    }
}

impl Node {
    pub(crate) fn new(name: Symbol) -> Node {
        Node {
            name,
            is_live: false,
            labels: Labels::default(),
            taints: Vec::new(),
            images: HashMap::new(),
            pods: Vec::new(),
            ports: Vec::new(),
            nominated: Vec::new(),
        }
    }

    pub(crate) fn has_clash(&self, ports: &[HostPort]) -> bool {
        let held = |port: &HostPort| self.ports.iter().any(|held| held.clashes(port));
        !self.ports.is_empty() && ports.iter().any(held)
    }
}

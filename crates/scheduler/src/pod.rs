//! A pod as the scheduler keeps it: what it asks for and what it wants, read once from its object.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use wharf_client::Key;

use crate::amounts::{Requests, requests};
use crate::node::{Effect, HostPort, Taint};
use crate::selector::{NodeTerm, NodeTerms, PodSelector, Selector, TextLabels};
use crate::symbol::{Symbol, Symbols};

/// A pod that is on a node, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId(pub(crate) u32);

/// A constraint between pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    /// The label of nodes by which they are near.
    pub(crate) key: Symbol,
    pub(crate) selector: PodSelector,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toleration {
    key: Option<Symbol>,
    /// None: any.
    value: Option<Symbol>,
    effect: Option<Effect>,
}

/// A constraint on how pods spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) key: Symbol,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: i64,
    pub(crate) is_hard: bool,
    pub(crate) selector: PodSelector,
    pub(crate) honors_affinity: bool,
    pub(crate) honors_taints: bool,
    /// The pod counts itself.
    pub(crate) selects_itself: bool,
}

/// What a pod that waits wants of nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wants {
    /// `spec.nodeSelector`; without conditions: none.
    pub(crate) selector: Option<NodeTerm>,
    pub(crate) required: Option<NodeTerms>,
    pub(crate) preferred: Vec<(i64, NodeTerm)>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) spread: Vec<Spread>,
    pub(crate) images: Vec<Symbol>,
    pub(crate) containers: usize,
    pub(crate) claims: Vec<String>,
}

/// A pod.
#[derive(Debug)]
pub(crate) struct PodInfo {
    pub(crate) object: Arc<core::Pod>,
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) priority: i32,
    pub(crate) requests: Requests,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) affinity: Vec<Term>,
    pub(crate) anti_affinity: Vec<Term>,
    /// With weights; those of anti-affinity are below zero.
    pub(crate) preferred: Vec<(i64, Term)>,
    pub(crate) wants: Wants,
}

impl Toleration {
    fn read(one: &core::Toleration, symbols: &mut Symbols) -> Option<Toleration> {
        let key = one.key.as_deref().filter(|key| !key.is_empty());
        let is_exists = one.operator.as_deref() == Some("Exists");
        let value = one.value.as_deref().unwrap_or_default();
        let effect = one.effect.as_deref().filter(|effect| !effect.is_empty());
        Some(Toleration {
            key: key.map(|key| symbols.intern(key)),
            value: (!is_exists).then(|| symbols.intern(value)),
            effect: match effect {
                None => None,
                Some(effect) => Some(Effect::read(effect)?),
            },
        })
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.is_none_or(|key| key == taint.key)
            && self.value.is_none_or(|value| value == taint.value)
    }
}

impl Wants {
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|one| one.tolerates(taint))
    }

    pub(crate) fn has_node_affinity(&self) -> bool {
        self.selector.is_some() || self.required.is_some()
    }
}

impl PodInfo {
    pub(crate) fn read(object: Arc<core::Pod>, symbols: &mut Symbols) -> PodInfo {
        let nothing = core::PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&nothing);
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let labels = object.metadata.labels.as_ref();
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let mut terms = |list: Option<&Vec<core::PodAffinityTerm>>| -> Vec<Term> {
            let list = list.into_iter().flatten();
            list.map(|one| term(one, &namespace, labels, symbols))
                .collect()
        };
        let required = terms(near.and_then(|n| {
            n.required_during_scheduling_ignored_during_execution
                .as_ref()
        }));
        let anti = terms(far.and_then(|f| {
            f.required_during_scheduling_ignored_during_execution
                .as_ref()
        }));
        let mut preferred = Vec::new();
        let liked = near.and_then(|n| {
            n.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let disliked = far.and_then(|f| {
            f.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
        for (list, sign) in [(liked, 1), (disliked, -1)] {
            for one in list.into_iter().flatten() {
                let weight = sign * i64::from(one.weight);
                let term = term(&one.pod_affinity_term, &namespace, labels, symbols);
                preferred.push((weight, term));
            }
        }
        PodInfo {
            key: Key::new(
                &namespace,
                object.metadata.name.as_deref().unwrap_or_default(),
            ),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or_default(),
            requests: requests(&object, spec, symbols),
            ports: HostPort::of(spec),
            affinity: required,
            anti_affinity: anti,
            preferred,
            // A pod that has its node wants no other.
            wants: match spec.node_name.as_deref() {
                None | Some("") => wants(&object, spec, symbols),
                Some(_) => Wants::default(),
            },
            object: object.clone(),
        }
    }

    pub(crate) fn labels(&self) -> Option<&TextLabels> {
        self.object.metadata.labels.as_ref()
    }

    pub(crate) fn node_name(&self) -> Option<&str> {
        let spec = self.object.spec.as_ref()?;
        spec.node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub(crate) fn nominated(&self) -> Option<&str> {
        let status = self.object.status.as_ref()?;
        let name = status.nominated_node_name.as_deref();
        name.filter(|name| !name.is_empty())
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// It ran, and holds nothing any more.
    pub(crate) fn is_over(&self) -> bool {
        let status = self.object.status.as_ref();
        matches!(
            status.and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        )
    }

    pub(crate) fn gates(&self) -> &[core::PodSchedulingGate] {
        let spec = self.object.spec.as_ref();
        spec.and_then(|spec| spec.scheduling_gates.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn never_preempts(&self) -> bool {
        let spec = self.object.spec.as_ref();
        spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never")
    }

    /// Since when it runs; one that does not say so is the youngest.
    pub(crate) fn started(&self) -> Timestamp {
        let started = self.object.status.as_ref();
        let started = started.and_then(|status| status.start_time.as_ref());
        started.map_or(Timestamp::MAX, |time| time.0)
    }

    /// Whether it takes up the same and counts the same as another state of it.
    pub(crate) fn weighs_like(&self, other: &PodInfo) -> bool {
        self.requests == other.requests
            && self.ports == other.ports
            && self.labels() == other.labels()
            && self.is_leaving() == other.is_leaving()
            && self.uid == other.uid
    }
}

fn term(
    one: &core::PodAffinityTerm,
    namespace: &str,
    labels: Option<&TextLabels>,
    symbols: &mut Symbols,
) -> Term {
    let mut selector = Selector::read(one.label_selector.as_ref());
    let own = |key: &String| labels.and_then(|labels| labels.get(key));
    for key in one.match_label_keys.iter().flatten() {
        if let Some(value) = own(key) {
            selector.require(key, value);
        }
    }
    for key in one.mismatch_label_keys.iter().flatten() {
        if let Some(value) = own(key) {
            selector.exclude(key, value);
        }
    }
    let mut namespaces: BTreeSet<String> = one.namespaces.iter().flatten().cloned().collect();
    let namespace_selector = one.namespace_selector.as_ref();
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.insert(namespace.to_owned());
    }
    Term {
        key: symbols.intern(&one.topology_key),
        selector: PodSelector {
            namespaces,
            namespace_selector: namespace_selector.map(|selector| Selector::read(Some(selector))),
            labels: selector,
        },
    }
}

fn wants(pod: &core::Pod, spec: &core::PodSpec, symbols: &mut Symbols) -> Wants {
    let node = spec.affinity.as_ref();
    let node = node.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node.and_then(|n| {
        n.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let preferred = node.and_then(|n| {
        n.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let selector = spec.node_selector.as_ref().filter(|s| !s.is_empty());
    let init = spec.init_containers.iter().flatten();
    let containers = init.chain(spec.containers.iter());
    let images = containers.filter_map(|c| c.image.as_deref());
    let images: Vec<Symbol> = images.map(|i| symbols.intern(&normalized(i))).collect();
    Wants {
        selector: selector.map(|selector| NodeTerm::of_labels(selector, symbols)),
        required: required.map(|required| NodeTerms::read(required, symbols)),
        preferred: preferred
            .into_iter()
            .flatten()
            .filter(|one| one.weight != 0)
            .map(|one| {
                let term = NodeTerm::read(&one.preference, symbols);
                (i64::from(one.weight), term)
            })
            .collect(),
        tolerations: spec
            .tolerations
            .iter()
            .flatten()
            .filter_map(|one| Toleration::read(one, symbols))
            .collect(),
        spread: spec
            .topology_spread_constraints
            .iter()
            .flatten()
            .map(|one| spread(one, pod, symbols))
            .collect(),
        containers: images.len(),
        images,
        claims: claims(pod, spec),
    }
}

/// A name without a tag means `latest`, as nodes list it.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// The claims of a pod's volumes, those that are made for it alone included.
fn claims(pod: &core::Pod, spec: &core::PodSpec) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref();
            let own = volume.ephemeral.as_ref();
            claim
                .map(|claim| claim.claim_name.clone())
                .or_else(|| own.map(|_| format!("{name}-{}", volume.name)))
        })
        .collect()
}

fn spread(one: &core::TopologySpreadConstraint, pod: &core::Pod, symbols: &mut Symbols) -> Spread {
    let labels = pod.metadata.labels.as_ref();
    let mut selector = Selector::read(one.label_selector.as_ref());
    for key in one.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            selector.require(key, value);
        }
    }
    let selects_itself = selector.matches(labels);
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    Spread {
        key: symbols.intern(&one.topology_key),
        max_skew: i64::from(one.max_skew),
        min_domains: i64::from(one.min_domains.unwrap_or(1)),
        is_hard: one.when_unsatisfiable == "DoNotSchedule",
        selector: PodSelector {
            namespaces: BTreeSet::from([namespace]),
            namespace_selector: None,
            labels: selector,
        },
        honors_affinity: one.node_affinity_policy.as_deref() != Some("Ignore"),
        honors_taints: one.node_taints_policy.as_deref() == Some("Honor"),
        selects_itself,
    }
}

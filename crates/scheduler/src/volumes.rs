//! Claims, volumes and storage classes: on which nodes the volumes of a pod can be.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use wharf_client::Key;

use crate::pod::PodInfo;
use crate::selector::NodeTerms;
use crate::symbol::Symbols;

/// Written by whoever binds a claim to a volume.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// What the API says of storage.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    pub(crate) claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    pub(crate) volumes: HashMap<String, Arc<PersistentVolume>>,
    pub(crate) classes: HashMap<String, Arc<StorageClass>>,
}

/// What the volumes of a pod ask of a node.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// All must hold.
    pub(crate) bound: Vec<NodeTerms>,
    /// A volume that a claim names is not there.
    pub(crate) is_missing: bool,
    /// For each claim that takes a volume when its pod has a node: the volumes it may take.
    pub(crate) choices: Vec<Choice>,
}

/// A claim that waits for its first pod.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) claim: String,
    /// Volumes by name, and where they can be; no condition: anywhere.
    pub(crate) volumes: Vec<(String, Option<NodeTerms>)>,
    /// One can be made where the pod comes to be.
    pub(crate) is_provisioned: bool,
}

impl Volumes {
    /// Reads what a pod's claims ask; an error is said of the pod as a whole, in the original's words.
    pub(crate) fn demand(&self, pod: &PodInfo, symbols: &mut Symbols) -> Result<Demand, String> {
        let mut demand = Demand::default();
        for name in &pod.wants.claims {
            let key = Key::new(&pod.key.namespace, name);
            let Some(claim) = self.claims.get(&key) else {
                return Err(format!("persistentvolumeclaim {name:?} not found"));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            self.demand_of(name, claim, &mut demand, symbols)?;
        }
        Ok(demand)
    }

    fn demand_of(
        &self,
        name: &str,
        claim: &PersistentVolumeClaim,
        demand: &mut Demand,
        symbols: &mut Symbols,
    ) -> Result<(), String> {
        let spec = claim.spec.as_ref();
        let volume = spec.and_then(|spec| spec.volume_name.as_deref());
        let annotations = claim.metadata.annotations.as_ref();
        let is_bound = annotations.is_some_and(|all| all.contains_key(BIND_COMPLETED))
            || claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        if let Some(volume) = volume.filter(|volume| !volume.is_empty())
            && is_bound
        {
            match self.volumes.get(volume) {
                Some(volume) => demand.bound.extend(terms(volume, symbols)),
                None => demand.is_missing = true,
            }
            return Ok(());
        }
        let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
        let class = class.and_then(|class| self.classes.get(class));
        let waits = |class: &&Arc<StorageClass>| {
            class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
        };
        let Some(class) = class.filter(waits) else {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        };
        let fitting = self.volumes.values().filter(|one| fits(one, claim));
        demand.choices.push(Choice {
            claim: name.to_owned(),
            volumes: fitting
                .map(|one| {
                    let name = one.metadata.name.clone().unwrap_or_default();
                    (name, terms(one, symbols))
                })
                .collect(),
            is_provisioned: class.provisioner != "kubernetes.io/no-provisioner",
        });
        Ok(())
    }
}

fn terms(volume: &PersistentVolume, symbols: &mut Symbols) -> Option<NodeTerms> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    Some(NodeTerms::read(affinity.required.as_ref()?, symbols))
}

/// Whether a claim may take a volume: same class and mode, access, size, and nobody else's.
fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    use wharf_kube_types::Quantity;
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let bytes = |list: Option<&crate::amounts::List>| {
        let text = list.and_then(|list| list.get("storage"));
        text.and_then(|text| Quantity::parse(&text.0).ok())
            .map_or(0, Quantity::value)
    };
    let is_free = match &has.claim_ref {
        None => true,
        Some(of) => {
            of.name == claim.metadata.name
                && of.namespace == claim.metadata.namespace
                && (of.uid.is_none() || of.uid == claim.metadata.uid)
        }
    };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    let access = has.access_modes.as_deref().unwrap_or_default();
    let asked = wants.resources.as_ref().and_then(|r| r.requests.as_ref());
    is_free
        && volume.metadata.deletion_timestamp.is_none()
        && class(&has.storage_class_name) == class(&wants.storage_class_name)
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && wants
            .access_modes
            .iter()
            .flatten()
            .all(|mode| access.contains(mode))
        && bytes(has.capacity.as_ref()) >= bytes(asked)
        && crate::selector::Selector::read(wants.selector.as_ref().or(Some(&Default::default())))
            .matches(volume.metadata.labels.as_ref())
}

impl Demand {
    /// The volumes that claims take on a node: of those that can be there the first by name.
    pub(crate) fn chosen(
        &self,
        world: &crate::world::World,
        node: usize,
    ) -> Vec<(String, Option<String>)> {
        let node = &world.nodes[node];
        let mut taken: Vec<&String> = Vec::new();
        let mut chosen = Vec::new();
        for choice in &self.choices {
            let can_be = |terms: &Option<NodeTerms>| {
                terms
                    .as_ref()
                    .is_none_or(|t| t.matches(&node.labels, node.name, &world.symbols))
            };
            let fitting = choice.volumes.iter().filter(|(_, terms)| can_be(terms));
            let free = fitting
                .map(|(name, _)| name)
                .filter(|name| !taken.contains(name));
            let volume = free.min();
            taken.extend(volume);
            chosen.push((choice.claim.clone(), volume.cloned()));
        }
        chosen
    }
}

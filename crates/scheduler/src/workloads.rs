//! Which pods belong together, for pods that don't say how to spread: those of the same services and of the same owner.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::pod::PodInfo;
use crate::selector::{PodSelector, Selector, TextLabels};

/// Selectors of services and of what owns pods.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    /// By namespace, then by name.
    services: HashMap<String, BTreeMap<String, TextLabels>>,
    /// By kind, namespace and name.
    owners: HashMap<(&'static str, String, String), Selector>,
}

/// Kinds whose pods are spread.
const OWNERS: [&str; 3] = ["ReplicaSet", "ReplicationController", "StatefulSet"];

impl Workloads {
    pub(crate) fn set_service(&mut self, namespace: &str, name: &str, labels: Option<TextLabels>) {
        let services = self.services.entry(namespace.to_owned()).or_default();
        match labels.filter(|labels| !labels.is_empty()) {
            Some(labels) => services.insert(name.to_owned(), labels),
            None => services.remove(name),
        };
        if services.is_empty() {
            self.services.remove(namespace);
        }
    }

    pub(crate) fn set_owner(
        &mut self,
        kind: &'static str,
        namespace: &str,
        name: &str,
        selector: Option<Selector>,
    ) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        match selector {
            Some(selector) => self.owners.insert(key, selector),
            None => self.owners.remove(&key),
        };
    }

    /// The pods that belong with this one.
    pub(crate) fn mates(&self, pod: &PodInfo) -> Option<PodSelector> {
        let namespace = &pod.key.namespace;
        let mut labels = Selector::labels(&TextLabels::new());
        for wanted in self.services.get(namespace).into_iter().flatten() {
            let selector = Selector::labels(wanted.1);
            if selector.matches(pod.labels()) {
                labels.merge(selector);
            }
        }
        let owners = pod.object.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|one| one.controller == Some(true));
        if let Some(owner) = owner
            && let Some(kind) = OWNERS.iter().find(|kind| **kind == owner.kind)
            && let Some(selector) = self
                .owners
                .get(&(*kind, namespace.clone(), owner.name.clone()))
        {
            labels.merge(selector.clone());
        }
        (!labels.is_empty()).then(|| PodSelector {
            namespaces: BTreeSet::from([namespace.clone()]),
            namespace_selector: None,
            labels,
        })
    }
}

//! How many pods of a kind are where: counted as pods come and go, so that a decision reads sums instead of pods.
//!
//! A [`Column`] says of each node which domain of a topology key it is in. A [`Counter`] counts the pods that a
//! constraint means, by node and by domain. A [`Held`] counts the pods in a domain that hold a constraint against others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::node::Labels;
use crate::pod::{PodInfo, Term};
use crate::selector::{PodSelector, TextLabels};
use crate::symbol::Symbol;

/// No domain: the node has no such label.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// Counters that are kept; those not used for longest go first.
const COUNTERS_MAX: usize = 512;

/// The domains of one topology key.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) key: Symbol,
    /// By node.
    pub(crate) domain: Vec<u32>,
    domains: HashMap<Symbol, u32>,
    /// Live nodes, by domain.
    pub(crate) nodes: Vec<u32>,
    /// Live nodes that have the label.
    pub(crate) nodes_total: usize,
}

/// What is counted: pods that all of the selectors mean.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    pub(crate) selectors: Vec<PodSelector>,
    /// Pods that are being deleted don't count.
    pub(crate) without_leaving: bool,
}

#[derive(Debug)]
pub(crate) struct Counter {
    counted: Arc<Counted>,
    pub(crate) by_node: Vec<u32>,
    by_domain: Vec<(usize, Vec<u32>)>,
    pub(crate) total: u64,
    used_at: u64,
}

/// What a pod holds against or for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// Others must not come near.
    Against,
    /// It is where it is because of others.
    With,
    /// It likes others near, or dislikes them, so much.
    Likes(i64),
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) hold: Hold,
    pub(crate) selector: PodSelector,
    pub(crate) column: usize,
    pub(crate) by_domain: Vec<u32>,
    pub(crate) total: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) columns: Vec<Column>,
    column_of: HashMap<Symbol, usize>,
    counters: Vec<Option<Counter>>,
    counter_of: HashMap<Arc<Counted>, usize>,
    /// Counters that can mean pods of a namespace.
    of_namespace: HashMap<String, Vec<usize>>,
    /// Counters that select namespaces by their labels.
    of_any_namespace: Vec<usize>,
    held: Vec<Held>,
    held_of: HashMap<(Hold, Term), usize>,
    pub(crate) namespaces: BTreeMap<String, TextLabels>,
    clock: u64,
}

fn slot(counts: &mut Vec<u32>, at: usize) -> &mut u32 {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    &mut counts[at]
}

impl Column {
    /// Puts a node where its labels say; `None`: nowhere.
    pub(crate) fn place(&mut self, node: usize, value: Option<Symbol>) {
        if self.domain.len() <= node {
            self.domain.resize(node + 1, NOWHERE);
        }
        let old = self.domain[node];
        if old != NOWHERE {
            self.nodes[old as usize] -= 1;
            self.nodes_total -= 1;
        }
        let new = value.map_or(NOWHERE, |value| {
            let next = u32::try_from(self.domains.len()).unwrap_or(NOWHERE);
            *self.domains.entry(value).or_insert(next)
        });
        self.domain[node] = new;
        if new != NOWHERE {
            *slot(&mut self.nodes, new as usize) += 1;
            self.nodes_total += 1;
        }
    }

    pub(crate) fn of(&self, node: usize) -> u32 {
        self.domain.get(node).copied().unwrap_or(NOWHERE)
    }
}

impl Counted {
    fn means(&self, pod: &PodInfo, namespaces: &BTreeMap<String, TextLabels>) -> bool {
        !(self.without_leaving && pod.is_leaving())
            && self
                .selectors
                .iter()
                .all(|one| one.matches(&pod.key.namespace, pod.labels(), namespaces))
    }
}

impl Counter {
    fn count(&mut self, node: usize, columns: &[Column], by: i32) {
        let at = slot(&mut self.by_node, node);
        *at = at.saturating_add_signed(by);
        self.total = self.total.saturating_add_signed(i64::from(by));
        for (column, counts) in &mut self.by_domain {
            let domain = columns[*column].of(node);
            if domain != NOWHERE {
                let at = slot(counts, domain as usize);
                *at = at.saturating_add_signed(by);
            }
        }
    }

    /// Pods by domain of a column that the counter was asked for.
    pub(crate) fn domains(&self, column: usize) -> &[u32] {
        let found = self.by_domain.iter().find(|(one, _)| *one == column);
        found.map_or(&[], |(_, counts)| counts)
    }
}

impl Tally {
    /// The column of a topology key; made of the nodes when it is new.
    pub(crate) fn column<'a>(
        &mut self,
        key: Symbol,
        nodes: impl Iterator<Item = (usize, &'a Labels)>,
    ) -> usize {
        if let Some(known) = self.column_of.get(&key) {
            return *known;
        }
        let mut column = Column {
            key,
            domain: Vec::new(),
            domains: HashMap::new(),
            nodes: Vec::new(),
            nodes_total: 0,
        };
        for (node, labels) in nodes {
            column.place(node, labels.get(key));
        }
        self.columns.push(column);
        self.column_of.insert(key, self.columns.len() - 1);
        self.columns.len() - 1
    }

    pub(crate) fn counter(&self, at: usize) -> Option<&Counter> {
        self.counters.get(at).and_then(Option::as_ref)
    }

    /// The counter of what is meant; counted from the pods when it is new.
    pub(crate) fn count<'a>(
        &mut self,
        counted: Counted,
        column: Option<usize>,
        pods: impl Iterator<Item = (usize, &'a PodInfo)>,
    ) -> usize {
        self.clock += 1;
        let at = match self.counter_of.get(&counted) {
            Some(known) => *known,
            None => self.new_counter(counted, pods),
        };
        let Some(counter) = &mut self.counters[at] else {
            return at;
        };
        counter.used_at = self.clock;
        if let Some(column) = column
            && !counter.by_domain.iter().any(|(known, _)| *known == column)
        {
            let mut counts = vec![0; self.columns[column].nodes.len()];
            for (node, count) in counter.by_node.iter().enumerate() {
                let domain = self.columns[column].of(node);
                if domain != NOWHERE {
                    *slot(&mut counts, domain as usize) += count;
                }
            }
            counter.by_domain.push((column, counts));
        }
        at
    }

    fn new_counter<'a>(
        &mut self,
        counted: Counted,
        pods: impl Iterator<Item = (usize, &'a PodInfo)>,
    ) -> usize {
        let counted = Arc::new(counted);
        let mut counter = Counter {
            counted: counted.clone(),
            by_node: Vec::new(),
            by_domain: Vec::new(),
            total: 0,
            used_at: self.clock,
        };
        for (node, pod) in pods {
            if counted.means(pod, &self.namespaces) {
                counter.count(node, &self.columns, 1);
            }
        }
        let at = self.counters.iter().position(Option::is_none);
        let at = at.unwrap_or_else(|| {
            self.counters.push(None);
            self.counters.len() - 1
        });
        let Some(first) = counted.selectors.first() else {
            // Nothing is asked for by no selector.
            self.counters[at] = Some(counter);
            return at;
        };
        if first.namespace_selector.is_some() {
            self.of_any_namespace.push(at);
        } else {
            for namespace in &first.namespaces {
                let list = self.of_namespace.entry(namespace.clone()).or_default();
                list.push(at);
            }
        }
        self.counters[at] = Some(counter);
        self.counter_of.insert(counted, at);
        at
    }

    /// Forgets counters that were not used for longest. Only between decisions: positions change their meaning.
    pub(crate) fn trim(&mut self) {
        if self.counter_of.len() <= COUNTERS_MAX {
            return;
        }
        let mut used: Vec<u64> = self.counters.iter().flatten().map(|c| c.used_at).collect();
        used.sort_unstable();
        let oldest = used[used.len() / 2];
        for at in 0..self.counters.len() {
            if self.counters[at]
                .as_ref()
                .is_some_and(|c| c.used_at < oldest)
                && let Some(counter) = self.counters[at].take()
            {
                self.counter_of.remove(&counter.counted);
                self.of_any_namespace.retain(|one| *one != at);
                for namespace in counter.counted.selectors.iter().flat_map(|s| &s.namespaces) {
                    if let Some(list) = self.of_namespace.get_mut(namespace) {
                        list.retain(|one| *one != at);
                    }
                }
            }
        }
        self.of_namespace.retain(|_, list| !list.is_empty());
    }

    /// Forgets every counter: labels of namespaces changed, so that others are meant.
    pub(crate) fn forget_counters(&mut self) {
        self.counters.clear();
        self.counter_of.clear();
        self.of_namespace.clear();
        self.of_any_namespace.clear();
    }

    /// A pod comes to a node (1) or leaves it (-1). `columns` of the terms that it holds must be there.
    pub(crate) fn add(&mut self, pod: &PodInfo, node: usize, by: i32) {
        let own = self.of_namespace.get(&pod.key.namespace);
        let listed = own.into_iter().flatten().chain(&self.of_any_namespace);
        for at in listed {
            if let Some(counter) = &mut self.counters[*at]
                && counter.counted.means(pod, &self.namespaces)
            {
                counter.count(node, &self.columns, by);
            }
        }
        for term in &pod.anti_affinity {
            self.hold(Hold::Against, term, node, by);
        }
        for term in &pod.affinity {
            self.hold(Hold::With, term, node, by);
        }
        for (weight, term) in &pod.preferred {
            self.hold(Hold::Likes(*weight), term, node, by);
        }
    }

    fn hold(&mut self, hold: Hold, term: &Term, node: usize, by: i32) {
        let Some(column) = self.column_of.get(&term.key).copied() else {
            return;
        };
        let key = (hold, term.clone());
        let at = *self.held_of.entry(key).or_insert_with(|| {
            self.held.push(Held {
                hold,
                selector: term.selector.clone(),
                column,
                by_domain: Vec::new(),
                total: 0,
            });
            self.held.len() - 1
        });
        let held = &mut self.held[at];
        held.total = held.total.saturating_add_signed(i64::from(by));
        let domain = self.columns[column].of(node);
        if domain != NOWHERE {
            let at = slot(&mut held.by_domain, domain as usize);
            *at = at.saturating_add_signed(by);
        }
        if held.total == 0 && by < 0 {
            self.drop_held(at);
        }
    }

    /// Takes out what nobody holds any more; the last one takes its place.
    fn drop_held(&mut self, at: usize) {
        self.held.swap_remove(at);
        self.held_of.retain(|_, place| *place != at);
        let moved = self.held.len();
        if let Some(place) = self.held_of.values_mut().find(|place| **place == moved) {
            *place = at;
        }
    }

    /// What pods hold that means this one.
    pub(crate) fn held_about<'a>(
        &'a self,
        pod: &'a PodInfo,
    ) -> impl Iterator<Item = (usize, &'a Held)> {
        self.held.iter().enumerate().filter(|(_, held)| {
            held.selector
                .matches(&pod.key.namespace, pod.labels(), &self.namespaces)
        })
    }

    pub(crate) fn held(&self, at: usize) -> &Held {
        &self.held[at]
    }
}

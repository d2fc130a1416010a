//! Which pods and which nodes a constraint means: label selectors on pods, requirements on nodes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::node::Labels;
use crate::symbol::{Symbol, Symbols};

/// The labels of a pod or a namespace.
pub(crate) type TextLabels = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// A label selector; one that is absent in the API selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Selector {
    tests: Vec<(String, Test)>,
    is_nothing: bool,
}

impl Selector {
    pub(crate) fn nothing() -> Selector {
        Selector {
            tests: Vec::new(),
            is_nothing: true,
        }
    }

    pub(crate) fn read(selector: Option<&meta::LabelSelector>) -> Selector {
        let Some(selector) = selector else {
            return Selector::nothing();
        };
        let mut read = Selector {
            tests: Vec::new(),
            is_nothing: false,
        };
        for (key, value) in selector.match_labels.iter().flatten() {
            read.require(key, value);
        }
        for one in selector.match_expressions.iter().flatten() {
            let values = || one.values.clone().unwrap_or_default();
            let test = match one.operator.as_str() {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                // Validation lets no other in.
                _ => return Selector::nothing(),
            };
            read.tests.push((one.key.clone(), test));
        }
        read
    }

    /// Selects what has all of these.
    pub(crate) fn labels(labels: &TextLabels) -> Selector {
        let mut read = Selector {
            tests: Vec::new(),
            is_nothing: false,
        };
        for (key, value) in labels {
            read.require(key, value);
        }
        read
    }

    /// Wants this label besides.
    pub(crate) fn require(&mut self, key: &str, value: &str) {
        let test = (key.to_owned(), Test::In(vec![value.to_owned()]));
        // The API server may have merged it in.
        if !self.tests.contains(&test) {
            self.tests.push(test);
        }
    }

    /// Wants any other value of this label besides.
    pub(crate) fn exclude(&mut self, key: &str, value: &str) {
        let test = (key.to_owned(), Test::NotIn(vec![value.to_owned()]));
        if !self.tests.contains(&test) {
            self.tests.push(test);
        }
    }

    /// Wants what another selector wants besides.
    pub(crate) fn merge(&mut self, other: Selector) {
        self.is_nothing |= other.is_nothing;
        self.tests.extend(other.tests);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    pub(crate) fn matches(&self, labels: Option<&TextLabels>) -> bool {
        !self.is_nothing
            && self.tests.iter().all(|(key, test)| {
                let found = labels.and_then(|labels| labels.get(key));
                match test {
                    Test::In(values) => found.is_some_and(|f| values.contains(f)),
                    Test::NotIn(values) => found.is_none_or(|f| !values.contains(f)),
                    Test::Exists => found.is_some(),
                    Test::Absent => found.is_none(),
                }
            })
    }
}

/// Which pods, of which namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodSelector {
    pub(crate) namespaces: BTreeSet<String>,
    /// Namespaces by their labels, besides those named.
    pub(crate) namespace_selector: Option<Selector>,
    pub(crate) labels: Selector,
}

impl PodSelector {
    /// `labels_of` finds the labels of a namespace.
    pub(crate) fn matches(
        &self,
        namespace: &str,
        labels: Option<&TextLabels>,
        namespaces: &BTreeMap<String, TextLabels>,
    ) -> bool {
        let is_of_namespace = self.namespaces.contains(namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| selector.matches(namespaces.get(namespace)));
        is_of_namespace && self.labels.matches(labels)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeTest {
    In(Vec<Symbol>),
    NotIn(Vec<Symbol>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
    Never,
}

/// One of several ways for a node to be meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeTerm {
    labels: Vec<(Symbol, NodeTest)>,
    /// Tests on the name.
    names: Vec<NodeTest>,
    /// Names that are the only possible ones.
    only: Option<Vec<Symbol>>,
}

/// Which nodes: any of the terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeTerms(pub(crate) Vec<NodeTerm>);

impl NodeTest {
    fn read(one: &NodeSelectorRequirement, symbols: &mut Symbols) -> NodeTest {
        let values = one.values.as_deref().unwrap_or_default();
        let mut all = || values.iter().map(|v| symbols.intern(v)).collect();
        let number = || values.first().and_then(|v| v.parse().ok());
        match one.operator.as_str() {
            "In" => NodeTest::In(all()),
            "NotIn" => NodeTest::NotIn(all()),
            "Exists" => NodeTest::Exists,
            "DoesNotExist" => NodeTest::Absent,
            "Gt" => number().map_or(NodeTest::Never, NodeTest::Above),
            "Lt" => number().map_or(NodeTest::Never, NodeTest::Below),
            _ => NodeTest::Never,
        }
    }

    fn holds(&self, found: Option<Symbol>, symbols: &Symbols) -> bool {
        let number = || found.and_then(|found| symbols.text(found).parse::<i64>().ok());
        match self {
            NodeTest::In(values) => found.is_some_and(|found| values.contains(&found)),
            NodeTest::NotIn(values) => found.is_none_or(|found| !values.contains(&found)),
            NodeTest::Exists => found.is_some(),
            NodeTest::Absent => found.is_none(),
            NodeTest::Above(bound) => number().is_some_and(|number| number > *bound),
            NodeTest::Below(bound) => number().is_some_and(|number| number < *bound),
            NodeTest::Never => false,
        }
    }
}

impl NodeTerm {
    pub(crate) fn read(term: &NodeSelectorTerm, symbols: &mut Symbols) -> NodeTerm {
        let mut read = NodeTerm::default();
        for one in term.match_expressions.iter().flatten() {
            let test = NodeTest::read(one, symbols);
            read.labels.push((symbols.intern(&one.key), test));
        }
        for one in term.match_fields.iter().flatten() {
            // There is no other field.
            let test = match one.key.as_str() {
                "metadata.name" => NodeTest::read(one, symbols),
                _ => NodeTest::Never,
            };
            if let NodeTest::In(names) = &test {
                read.only = Some(match read.only.take() {
                    None => names.clone(),
                    Some(only) => only.into_iter().filter(|n| names.contains(n)).collect(),
                });
            }
            read.names.push(test);
        }
        read
    }

    /// One that wants labels to have these values.
    pub(crate) fn of_labels(labels: &TextLabels, symbols: &mut Symbols) -> NodeTerm {
        let mut term = NodeTerm::default();
        for (key, value) in labels {
            let test = NodeTest::In(vec![symbols.intern(value)]);
            term.labels.push((symbols.intern(key), test));
        }
        term
    }

    pub(crate) fn matches(&self, labels: &Labels, name: Symbol, symbols: &Symbols) -> bool {
        // A term without conditions means no node; in a selector of labels it does not come up.
        (!self.labels.is_empty() || !self.names.is_empty())
            && self
                .labels
                .iter()
                .all(|(key, test)| test.holds(labels.get(*key), symbols))
            && self
                .names
                .iter()
                .all(|test| test.holds(Some(name), symbols))
    }
}

impl NodeTerms {
    pub(crate) fn read(selector: &NodeSelector, symbols: &mut Symbols) -> NodeTerms {
        let terms = selector.node_selector_terms.iter();
        NodeTerms(terms.map(|term| NodeTerm::read(term, symbols)).collect())
    }

    pub(crate) fn matches(&self, labels: &Labels, name: Symbol, symbols: &Symbols) -> bool {
        self.0
            .iter()
            .any(|term| term.matches(labels, name, symbols))
    }

    /// The only nodes that can be meant, when every term names some.
    pub(crate) fn only(&self) -> Option<Vec<Symbol>> {
        let mut names = Vec::new();
        for term in &self.0 {
            names.extend(term.only.as_ref()?);
        }
        (!self.0.is_empty()).then_some(names)
    }
}

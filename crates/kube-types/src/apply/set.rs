//! Sets of fields, and their wire form `fieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::Schema;

/// Levels that a set read from the wire may have: those of the deepest object that is accepted.
const DEPTH_MAX: usize = 128;

/// A set of fields. A step is a text as on the wire: `f:NAME`, `k:{…}`, `v:…` or `i:N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the place itself is in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `fieldsV1`; what isn't a set is empty.
    pub fn from_value(value: &Value) -> Self {
        Self::read(value, 0)
    }

    fn read(value: &Value, depth: usize) -> Self {
        let mut set = Self::default();
        if depth > DEPTH_MAX {
            return set;
        }
        for (step, below) in value.as_object().into_iter().flatten() {
            if step == "." {
                set.member = true;
                continue;
            }
            let Some(step) = canonical(step) else {
                continue;
            };
            let mut child = Self::read(below, depth + 1);
            // A leaf is a member; the "." is only needed beside children.
            child.member |= child.children.is_empty();
            set.children.insert(step, child);
        }
        set
    }

    /// The wire form.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (step, child) in &self.children {
            map.insert(step.clone(), child.to_value());
        }
        map.into()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Puts the place at `path` into it.
    pub(super) fn insert(&mut self, path: &[String]) {
        match path {
            [] => self.member = true,
            [step, rest @ ..] => self.children.entry(step.clone()).or_default().insert(rest),
        }
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.member |= other.member;
        for (step, child) in &other.children {
            let joined = match out.children.get(step) {
                Some(own) => own.union(child),
                None => child.clone(),
            };
            out.children.insert(step.clone(), joined);
        }
        out
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self {
            member: self.member && !other.member,
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            let left = match other.children.get(step) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            if !left.is_empty() {
                out.children.insert(step.clone(), left);
            }
        }
        out
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            let both = other
                .children
                .get(step)
                .map(|theirs| child.intersection(theirs));
            if let Some(both) = both.filter(|both| !both.is_empty()) {
                out.children.insert(step.clone(), both);
            }
        }
        out
    }

    /// Without these places and everything under them.
    pub(super) fn without(mut self, paths: &[Vec<&str>]) -> Self {
        for path in paths {
            self.cut(path);
        }
        self
    }

    fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [step, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*step) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(*step);
                    }
                }
            }
        }
    }

    /// With every declared field that has members under it.
    pub(super) fn with_named(&self, schema: &Schema) -> Self {
        self.named(Some(schema))
    }

    fn named(&self, schema: Option<&Schema>) -> Self {
        let mut out = Self {
            member: self.member,
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            let (below, declared) = match (schema, step.strip_prefix("f:")) {
                (Some(schema), Some(name)) => {
                    (schema.child(name), schema.properties.contains_key(name))
                }
                (Some(schema), None) => (schema.items.as_ref(), false),
                (None, _) => (None, false),
            };
            let mut child = child.named(below);
            child.member |= declared && !child.is_empty();
            out.children.insert(step.clone(), child);
        }
        out
    }

    /// The members as paths for people: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.walk(&mut String::new(), &mut out);
        out
    }

    fn walk(&self, path: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(path.clone());
        }
        for (step, child) in &self.children {
            let length = path.len();
            path.push_str(&step_text(step));
            child.walk(path, out);
            path.truncate(length);
        }
    }
}

/// A step for people.
fn step_text(step: &str) -> String {
    let (kind, rest) = step.split_at(step.len().min(2));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{rest}]"),
    }
}

/// A step as this crate writes it, or nothing if it is none.
fn canonical(step: &str) -> Option<String> {
    let (kind, rest) = step.split_at_checked(2)?;
    match kind {
        "f:" | "i:" => Some(step.to_owned()),
        "v:" => Some(format!("v:{}", serde_json::from_str::<Value>(rest).ok()?)),
        "k:" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
            Some(format!("k:{}", serde_json::to_string(&keys).ok()?))
        }
        _ => None,
    }
}

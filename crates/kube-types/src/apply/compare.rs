//! Which fields an object has, and which differ between two.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::FieldSet;
use crate::schema::{Kind, ListType, Schema};

/// What differs between two objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn without(self, paths: &[Vec<&str>]) -> Self {
        Self {
            added: self.added.without(paths),
            modified: self.modified.without(paths),
            removed: self.removed.without(paths),
        }
    }
}

/// How a value is owned.
pub(super) enum Shape<'a> {
    /// As one.
    Leaf,
    /// Field by field.
    Map(&'a Map<String, Value>),
    /// Item by item.
    List(&'a [Value]),
}

/// The shape of a value by its schema; what has no schema goes by its own form, lists as one.
pub(super) fn shape<'a>(schema: Option<&Schema>, value: &'a Value) -> Shape<'a> {
    let atomic = schema.is_some_and(|s| s.map_atomic);
    match value {
        Value::Object(map) if !atomic => {
            // An object of a built-in kind that nobody described is one value.
            let opaque = schema.is_some_and(|s| {
                s.kind == Kind::Object
                    && s.properties.is_empty()
                    && s.additional.is_none()
                    && !s.preserve_unknown
            });
            if opaque { Shape::Leaf } else { Shape::Map(map) }
        }
        Value::Array(items) if schema.is_some_and(|s| s.list_type != ListType::Atomic) => {
            Shape::List(items)
        }
        _ => Shape::Leaf,
    }
}

/// The step that names an item of a list.
pub(super) fn item_step(schema: &Schema, item: &Value) -> Result<String, String> {
    if schema.list_type == ListType::Set {
        return Ok(format!("v:{item}"));
    }
    let mut keys = BTreeMap::new();
    for key in &schema.list_keys {
        let stated = schema
            .items
            .as_ref()
            .and_then(|s| s.child(key))
            .and_then(|s| s.default.as_ref());
        let found = match item.get(key) {
            Some(value) if !value.is_null() => value.clone(),
            _ => match (key.as_str(), stated) {
                (_, Some(default)) => default.clone(),
                // The one built-in default of a key.
                ("protocol", None) => "TCP".into(),
                _ => continue,
            },
        };
        keys.insert(key.as_str(), found);
    }
    if keys.is_empty() {
        let missing = schema
            .list_keys
            .first()
            .map(String::as_str)
            .unwrap_or_default();
        return Err(format!(
            "associative list with keys has an element that omits key field {missing:?} (and doesn't have default value)"
        ));
    }
    serde_json::to_string(&keys)
        .map(|keys| format!("k:{keys}"))
        .map_err(|e| e.to_string())
}

/// All fields of an object.
///
/// # Errors
/// A field that the schema lacks, an item without its keys or there twice.
pub(super) fn fields(schema: &Schema, object: &Value) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    collect(Some(schema), object, &mut set, "")?;
    Ok(set)
}

fn collect(
    schema: Option<&Schema>,
    value: &Value,
    set: &mut FieldSet,
    path: &str,
) -> Result<(), String> {
    match shape(schema, value) {
        Shape::Leaf => set.member = true,
        Shape::Map(map) => {
            for (name, value) in map {
                let child = schema.and_then(|s| s.child(name));
                if let Some(schema) = schema.filter(|_| child.is_none())
                    && !schema.preserve_unknown
                    && schema.kind != Kind::Any
                {
                    return Err(format!("{path}.{name}: field not declared in schema"));
                }
                let declared = schema.is_some_and(|s| s.properties.contains_key(name));
                let below = set.children.entry(format!("f:{name}")).or_default();
                collect(child, value, below, &format!("{path}.{name}"))?;
                let empty = value.is_null() || value.as_object().is_some_and(|m| m.is_empty());
                below.member |= empty || !declared;
                if below.is_empty() {
                    set.children.remove(&format!("f:{name}"));
                }
            }
        }
        Shape::List(items) => {
            let Some(schema) = schema else {
                return Ok(());
            };
            for (index, item) in items.iter().enumerate() {
                let step =
                    item_step(schema, item).map_err(|e| format!("{path}: element {index}: {e}"))?;
                if set.children.contains_key(&step) {
                    return Err(format!(
                        "{path}: duplicate entries for key {}",
                        in_brackets(&step)
                    ));
                }
                let below = set.children.entry(step).or_default();
                collect(schema.items.as_ref(), item, below, path)?;
                below.member = true;
            }
        }
    }
    Ok(())
}

fn in_brackets(step: &str) -> String {
    let mut set = FieldSet::default();
    set.insert(&[step.to_owned()]);
    set.paths().concat()
}

/// What differs from `old` to `new`.
pub(super) fn compare(schema: &Schema, custom: bool, old: &Value, new: &Value) -> Changes {
    Walker { custom }.both(Some(schema), Some(old), Some(new), "")
}

impl Changes {
    /// Puts the changes of a part under the step that leads to it; each step is made once.
    fn take(&mut self, step: String, below: Self) {
        let sets = [
            (&mut self.added, below.added),
            (&mut self.modified, below.modified),
            (&mut self.removed, below.removed),
        ];
        let mut left = sets
            .into_iter()
            .filter(|(_, below)| !below.is_empty())
            .peekable();
        while let Some((set, below)) = left.next() {
            // The last set gets the step itself, those before it a copy: mostly there is only one.
            if left.peek().is_some() {
                set.children.insert(step.clone(), below);
            } else {
                set.children.insert(step, below);
                return;
            }
        }
    }
}

struct Walker {
    custom: bool,
}

impl Walker {
    /// The changes of one value; `last` is the step that leads to it.
    fn both(
        &self,
        schema: Option<&Schema>,
        old: Option<&Value>,
        new: Option<&Value>,
        last: &str,
    ) -> Changes {
        let mut changes = Changes::default();
        let old = old.filter(|v| !v.is_null());
        let new = new.filter(|v| !v.is_null());
        if old == new {
            return changes;
        }
        match (old.map(|v| shape(schema, v)), new.map(|v| shape(schema, v))) {
            (Some(Shape::Map(old)), Some(Shape::Map(new))) => {
                self.maps(schema, old, new, &mut changes)
            }
            (Some(Shape::List(old)), Some(Shape::List(new))) => {
                self.lists(schema, old, new, &mut changes)
            }
            (None, Some(Shape::Map(new))) => {
                self.maps(schema, &Map::new(), new, &mut changes);
                changes.added.member = self.counts(last);
            }
            (Some(Shape::Map(old)), None) => {
                self.maps(schema, old, &Map::new(), &mut changes);
                changes.removed.member = !last.is_empty();
            }
            (None, Some(Shape::List(new))) => {
                self.lists(schema, &[], new, &mut changes);
                changes.added.member = self.counts(last);
            }
            (Some(Shape::List(old)), None) => {
                self.lists(schema, old, &[], &mut changes);
                changes.removed.member = !last.is_empty();
            }
            (None, Some(Shape::Leaf)) => changes.added.member = true,
            (Some(Shape::Leaf), None) => changes.removed.member = true,
            (Some(_), Some(_)) => changes.modified.member = true,
            (None, None) => {}
        }
        changes
    }

    fn maps(
        &self,
        schema: Option<&Schema>,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        changes: &mut Changes,
    ) {
        let gone = old
            .iter()
            .map(|(name, value)| (name, Some(value), new.get(name)));
        let come = new
            .iter()
            .filter(|(name, _)| !old.contains_key(*name))
            .map(|(name, value)| (name, None, Some(value)));
        for (name, before, after) in gone.chain(come) {
            if before == after {
                continue;
            }
            let step = format!("f:{name}");
            let below = self.both(schema.and_then(|s| s.child(name)), before, after, &step);
            changes.take(step, below);
        }
    }

    fn lists(&self, schema: Option<&Schema>, old: &[Value], new: &[Value], changes: &mut Changes) {
        let Some(schema) = schema else {
            return;
        };
        let index = |items: &'_ [Value]| -> BTreeMap<String, usize> {
            items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| Some((item_step(schema, item).ok()?, at)))
                .collect()
        };
        let (before, mut after) = (index(old), index(new));
        for (step, at) in before {
            let now = after.remove(&step).map(|at| &new[at]);
            let below = self.both(schema.items.as_ref(), Some(&old[at]), now, &step);
            changes.take(step, below);
        }
        for (step, at) in after {
            let below = self.both(schema.items.as_ref(), None, Some(&new[at]), &step);
            changes.take(step, below);
        }
    }

    /// A new map or list is itself part of the change, except where the original's types always have it.
    fn counts(&self, last: &str) -> bool {
        const ALWAYS_THERE: [&str; 11] = [
            "f:metadata",
            "f:spec",
            "f:status",
            "f:template",
            "f:strategy",
            "f:updateStrategy",
            "f:resources",
            "f:jobTemplate",
            "f:containers",
            "f:loadBalancer",
            "f:roleRef",
        ];
        let there = if self.custom {
            last == "f:metadata"
        } else {
            ALWAYS_THERE.contains(&last)
        };
        !last.is_empty() && !there
    }
}

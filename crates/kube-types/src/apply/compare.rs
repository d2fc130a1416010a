//! Which fields an object has, and which differ between two.

use std::collections::BTreeMap;

use serde_json::Value;

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
    Map(&'a serde_json::Map<String, Value>),
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
    let mut walker = Walker {
        changes: Changes::default(),
        path: Vec::new(),
        custom,
    };
    walker.both(Some(schema), Some(old), Some(new));
    walker.changes
}

struct Walker {
    changes: Changes,
    path: Vec<String>,
    custom: bool,
}

impl Walker {
    fn both(&mut self, schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>) {
        let old = old.filter(|v| !v.is_null());
        let new = new.filter(|v| !v.is_null());
        if old == new {
            return;
        }
        let old_shape = old.map(|v| shape(schema, v));
        let new_shape = new.map(|v| shape(schema, v));
        match (old_shape, new_shape) {
            (Some(Shape::Map(old)), Some(Shape::Map(new))) => {
                for (name, value) in old {
                    self.step(
                        format!("f:{name}"),
                        schema.and_then(|s| s.child(name)),
                        Some(value),
                        new.get(name),
                    );
                }
                for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                    self.step(
                        format!("f:{name}"),
                        schema.and_then(|s| s.child(name)),
                        None,
                        Some(value),
                    );
                }
            }
            (Some(Shape::List(old)), Some(Shape::List(new))) => self.lists(schema, old, new),
            (None, Some(Shape::Map(new))) => {
                for (name, value) in new {
                    self.step(
                        format!("f:{name}"),
                        schema.and_then(|s| s.child(name)),
                        None,
                        Some(value),
                    );
                }
                self.one_sided(new.is_empty(), true);
            }
            (Some(Shape::Map(old)), None) => {
                for (name, value) in old {
                    self.step(
                        format!("f:{name}"),
                        schema.and_then(|s| s.child(name)),
                        Some(value),
                        None,
                    );
                }
                self.one_sided(true, false);
            }
            (None, Some(Shape::List(new))) => {
                self.lists(schema, &[], new);
                self.one_sided(new.is_empty(), true);
            }
            (Some(Shape::List(old)), None) => {
                self.lists(schema, old, &[]);
                self.one_sided(true, false);
            }
            (None, Some(Shape::Leaf)) => self.changes.added.insert(&self.path),
            (Some(Shape::Leaf), None) => self.changes.removed.insert(&self.path),
            (Some(_), Some(_)) => self.changes.modified.insert(&self.path),
            (None, None) => {}
        }
    }

    fn step(
        &mut self,
        step: String,
        schema: Option<&Schema>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        self.path.push(step);
        self.both(schema, old, new);
        self.path.pop();
    }

    fn lists(&mut self, schema: Option<&Schema>, old: &[Value], new: &[Value]) {
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
        let (before, after) = (index(old), index(new));
        for (step, at) in &before {
            let now = after.get(step).map(|at| &new[*at]);
            self.step(step.clone(), schema.items.as_ref(), Some(&old[*at]), now);
        }
        for (step, at) in after.iter().filter(|(step, _)| !before.contains_key(*step)) {
            self.step(step.clone(), schema.items.as_ref(), None, Some(&new[*at]));
        }
    }

    /// A map or list that is on one side only is itself part of the change, except where the original's types always
    /// have it.
    fn one_sided(&mut self, certain: bool, added: bool) {
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
        let last = self.path.last().map(String::as_str).unwrap_or_default();
        let there = if self.custom {
            last == "f:metadata"
        } else {
            ALWAYS_THERE.contains(&last)
        };
        if self.path.is_empty() || there && !certain {
            return;
        }
        let set = if added {
            &mut self.changes.added
        } else {
            &mut self.changes.removed
        };
        if !(there && added) {
            set.insert(&self.path);
        }
    }
}

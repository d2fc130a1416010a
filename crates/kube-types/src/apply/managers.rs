//! The managed fields of an object: a set for each manager, operation and subresource.

use serde_json::{Value, json};

use super::compare::Changes;
use super::set::FieldSet;
use super::{Conflict, Manager, in_words};
use crate::object;

/// So many managers that update are kept apart; older ones are joined.
const UPDATERS_MAX: usize = 10;
const JOINED: &str = "ancient-changes";

/// What identifies a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    name: String,
    operation: String,
    /// Of updates only: who applies is the same in every version.
    api_version: String,
    subresource: String,
}

#[derive(Clone, Debug)]
struct Entry {
    id: Id,
    api_version: String,
    time: String,
    set: FieldSet,
}

/// The managers of an object.
#[derive(Clone, Debug, Default)]
pub struct Managers {
    entries: Vec<Entry>,
}

impl Managers {
    /// Reads them from an object's metadata.
    pub fn read(object: &Value) -> Self {
        let mut out = Self::default();
        for entry in object::list(object, "metadata.managedFields") {
            let text = |field: &str| object::text(entry, field).to_owned();
            let operation = text("operation");
            if operation.is_empty() {
                continue;
            }
            let applied = operation == "Apply";
            let id = Id {
                name: text("manager"),
                api_version: if applied {
                    String::new()
                } else {
                    text("apiVersion")
                },
                operation,
                subresource: text("subresource"),
            };
            let set = FieldSet::from_value(&entry["fieldsV1"]);
            match out.entries.iter_mut().find(|e| e.id == id) {
                Some(known) => known.set = known.set.union(&set),
                None => out.entries.push(Entry {
                    id,
                    api_version: text("apiVersion"),
                    time: text("time"),
                    set,
                }),
            }
        }
        out
    }

    /// Those an update starts from: a client may edit them, and `[{}]` forgets all.
    pub(super) fn of_update(live: &Value, new: &Value) -> Self {
        match object::list(new, "metadata.managedFields") {
            [] => Self::read(live),
            [Value::Object(one)] if one.is_empty() => Self::default(),
            _ => {
                let given = Self::read(new);
                if given.is_empty() {
                    Self::read(live)
                } else {
                    given
                }
            }
        }
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn id(manager: &Manager<'_>, operation: &str) -> Id {
        let applied = operation == "Apply";
        Id {
            name: manager.name.to_owned(),
            operation: operation.to_owned(),
            api_version: if applied {
                String::new()
            } else {
                manager.api_version.to_owned()
            },
            subresource: manager.subresource.to_owned(),
        }
    }

    pub(super) fn set(&self, id: &Id) -> Option<&FieldSet> {
        self.entries.iter().find(|e| e.id == *id).map(|e| &e.set)
    }

    /// Everything that others own.
    pub(super) fn union_of_others(&self, id: &Id) -> FieldSet {
        self.entries
            .iter()
            .filter(|e| e.id != *id)
            .fold(FieldSet::default(), |all, e| all.union(&e.set))
    }

    /// Gives all fields of an object that was written before anybody applied to one manager.
    pub(super) fn adopt(&mut self, set: FieldSet, manager: Manager<'_>) {
        let id = Self::id(
            &Manager {
                name: "before-first-apply",
                subresource: "",
                ..manager
            },
            "Update",
        );
        let api_version = manager.api_version.to_owned();
        self.entries.push(Entry {
            id,
            api_version,
            time: manager.now.to_owned(),
            set,
        });
    }

    /// What others own of what changes, managers in order.
    pub(super) fn conflicts(&self, changes: &Changes, id: &Id) -> Vec<Conflict> {
        let changed = changes.modified.union(&changes.added);
        let mut out = Vec::new();
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|e| e.id != *id).collect();
        entries.sort_by(|a, b| a.id.name.cmp(&b.id.name));
        for entry in entries {
            let manager = in_words(&entry.to_value());
            for field in entry.set.intersection(&changed).paths() {
                out.push(Conflict {
                    manager: manager.clone(),
                    field,
                });
            }
        }
        out
    }

    /// Takes from all others what changed.
    pub(super) fn lose(&mut self, changes: &Changes, id: &Id) {
        for entry in self.entries.iter_mut().filter(|e| e.id != *id) {
            entry.set = entry
                .set
                .difference(&changes.modified)
                .difference(&changes.added)
                .difference(&changes.removed);
        }
        self.entries.retain(|e| e.id == *id || !e.set.is_empty());
    }

    /// Sets what a manager owns; its time only moves when that changes.
    pub(super) fn put(&mut self, id: &Id, set: FieldSet, manager: Manager<'_>) {
        let (time, api_version) = (manager.now.to_owned(), manager.api_version.to_owned());
        match self.entries.iter_mut().find(|e| e.id == *id) {
            Some(entry) if entry.set == set && entry.api_version == api_version => {}
            Some(entry) => {
                *entry = Entry {
                    id: id.clone(),
                    api_version,
                    time,
                    set,
                }
            }
            None => self.entries.push(Entry {
                id: id.clone(),
                api_version,
                time,
                set,
            }),
        }
        // Who applies an empty configuration still is a manager of nothing, and is dropped as in the original.
        self.entries.retain(|e| !e.set.is_empty());
        self.join_oldest();
    }

    fn join_oldest(&mut self) {
        let mut updaters: Vec<usize> = (0..self.entries.len())
            .filter(|at| self.entries[*at].id.operation == "Update")
            .collect();
        if updaters.len() <= UPDATERS_MAX {
            return;
        }
        updaters.sort_by(|a, b| self.entries[*a].time.cmp(&self.entries[*b].time));
        let mut joined: Vec<usize> = updaters[..updaters.len() - UPDATERS_MAX + 1].to_vec();
        joined.sort_unstable();
        let mut all = FieldSet::default();
        let mut last: Option<Entry> = None;
        for at in joined.into_iter().rev() {
            let entry = self.entries.remove(at);
            all = all.union(&entry.set);
            last = Some(last.filter(|l| l.time >= entry.time).unwrap_or(entry));
        }
        if let Some(mut entry) = last {
            entry.id.name = JOINED.to_owned();
            entry.id.subresource.clear();
            entry.set = all;
            self.entries.push(entry);
        }
    }

    /// Writes them into an object's metadata, those who apply first, then by time.
    pub(super) fn write(&mut self, object: &mut Value) {
        self.entries.sort_by(|a, b| {
            let key = |e: &Entry| {
                (
                    e.id.operation.clone(),
                    e.time.clone(),
                    e.id.name.clone(),
                    e.api_version.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let entries: Vec<Value> = self.entries.iter().map(Entry::to_value).collect();
        let meta = object::metadata_mut(object);
        if entries.is_empty() {
            meta.shift_remove("managedFields");
        } else {
            meta.insert("managedFields".to_owned(), entries.into());
        }
    }
}

impl Entry {
    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.id.name, "operation": self.id.operation, "apiVersion": self.api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.set.to_value(),
        });
        if !self.id.subresource.is_empty() {
            entry["subresource"] = self.id.subresource.as_str().into();
        }
        entry
    }
}

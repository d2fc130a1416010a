//! The garbage collector: dependents go after their last owner, before it in the foreground, or are let go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use wharf_kube_types::Status;

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::object::{Object, Owner};
use crate::registry::Kind;
use crate::verbs::delete::{self, FOREGROUND, ORPHAN, Options};
use crate::verbs::update::{Demand, Made, change};

/// Who owns what, by uid.
#[derive(Default)]
pub struct Garbage {
    /// Keys of the objects that exist.
    keys: HashMap<Box<str>, String>,
    /// Keys of the objects that name a uid as an owner.
    dependents: HashMap<Box<str>, HashSet<String>>,
    /// The owners that a key named last.
    owners: HashMap<String, Vec<Owner>>,
}

impl Garbage {
    fn note(&mut self, object: &Object, gone: bool) {
        let key = object.key.to_string();
        let now = if gone {
            Vec::new()
        } else {
            object.facts.owners.clone()
        };
        let before = match now.is_empty() {
            true => self.owners.remove(&key).unwrap_or_default(),
            false => self
                .owners
                .insert(key.clone(), now.clone())
                .unwrap_or_default(),
        };
        for owner in &before {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(&key);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        for owner in &now {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(key.clone());
        }
        if gone {
            self.keys.remove(&object.facts.uid);
        } else {
            self.keys.insert(object.facts.uid.clone(), key);
        }
    }

    fn of(&self, uid: &str) -> Vec<String> {
        let set = self.dependents.get(uid);
        set.map(|set| set.iter().cloned().collect())
            .unwrap_or_default()
    }
}

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        self.note(object, gone);
        let facts = &object.facts;
        let mut keys = Vec::new();
        if gone {
            keys.extend(self.of(&facts.uid));
        }
        // An owner in the foreground waits for this one to go, or to let go of it.
        let owners = facts
            .owners
            .iter()
            .filter_map(|owner| self.keys.get(&owner.uid));
        if gone || facts.deleting {
            keys.extend(owners.cloned());
        }
        let waits = facts.deleting
            && facts
                .finalizers
                .iter()
                .any(|f| **f == *FOREGROUND || **f == *ORPHAN);
        if !gone && (waits || !facts.owners.is_empty()) {
            keys.push(object.key.to_string());
        }
        keys
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            let Some((kind, object)) = find(api, key) else {
                return Ok(None);
            };
            let has = |finalizer: &str| object.facts.finalizers.iter().any(|f| **f == *finalizer);
            if object.facts.deleting && has(ORPHAN) {
                self.orphan(api, &object).await?;
                drop_finalizer(api, &kind, &object, ORPHAN).await?;
            } else if object.facts.deleting && has(FOREGROUND) {
                self.foreground(api, &kind, &object).await?;
            } else if !object.facts.deleting && !object.facts.owners.is_empty() {
                self.attempt(api, &kind, &object).await?;
            }
            Ok(None)
        })
    }
}

fn find(api: &Api, key: &str) -> Option<(Arc<Kind>, Arc<Object>)> {
    let kind = api.registry().of_key(key)?;
    let object = kind.cache.get(key)?;
    Some((kind, object))
}

fn call(api: &Arc<Api>, kind: &Arc<Kind>, object: &Object) -> Call {
    let (namespace, name) = object.names();
    Call::internal(api, kind, namespace, name, "garbage-collector")
}

/// What is gone already needs nothing more.
fn done<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

async fn drop_finalizer(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    object: &Object,
    finalizer: &str,
) -> Result<(), Status> {
    let changed = change(
        &mut call(api, kind, object),
        &Demand::default(),
        |_, old| {
            let mut new = old.clone();
            if let Some(list) = new["metadata"]["finalizers"].as_array_mut() {
                list.retain(|f| f != finalizer);
            }
            Ok(Made::plain(new))
        },
    )
    .await;
    done(changed)
}

async fn drop_owners(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    object: &Object,
    uids: &[Box<str>],
) -> Result<(), Status> {
    let changed = change(
        &mut call(api, kind, object),
        &Demand::default(),
        |_, old| {
            let mut new = old.clone();
            if let Some(list) = new["metadata"]["ownerReferences"].as_array_mut() {
                list.retain(|o| !uids.iter().any(|uid| o["uid"] == **uid));
            }
            Ok(Made::plain(new))
        },
    )
    .await;
    done(changed)
}

async fn remove(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    object: &Object,
    policy: &str,
) -> Result<(), Status> {
    let options = Options {
        uid: Some(object.facts.uid.to_string()),
        propagation: Some(policy.to_owned()),
        ..Options::default()
    };
    let deleted = delete::delete(&mut call(api, kind, object), &options).await;
    match deleted {
        // Another object has the name now.
        Err(status) if status.reason == "Conflict" => Ok(()),
        deleted => done(deleted),
    }
}

impl Garbage {
    async fn orphan(&self, api: &Arc<Api>, owner: &Object) -> Result<(), Status> {
        for key in self.of(&owner.facts.uid) {
            if let Some((kind, dependent)) = find(api, &key) {
                let uids = [owner.facts.uid.clone()];
                drop_owners(api, &kind, &dependent, &uids).await?;
            }
        }
        Ok(())
    }

    async fn foreground(
        &self,
        api: &Arc<Api>,
        kind: &Arc<Kind>,
        owner: &Object,
    ) -> Result<(), Status> {
        let mut blocked = false;
        for key in self.of(&owner.facts.uid) {
            let Some((kind, dependent)) = find(api, &key) else {
                continue;
            };
            let uid = &owner.facts.uid;
            let own = dependent.facts.owners.iter().find(|o| o.uid == *uid);
            blocked |= own.is_some_and(|o| o.block_owner_deletion == Some(true));
            if !dependent.facts.deleting {
                remove(api, &kind, &dependent, "Foreground").await?;
            }
        }
        if blocked {
            // The last dependent's end brings this owner back.
            return Ok(());
        }
        drop_finalizer(api, kind, owner, FOREGROUND).await
    }

    /// Deletes an object that nobody owns any more.
    async fn attempt(
        &self,
        api: &Arc<Api>,
        kind: &Arc<Kind>,
        object: &Object,
    ) -> Result<(), Status> {
        let (mut gone, mut waiting, mut solid) = (Vec::new(), Vec::new(), 0);
        for owner in &object.facts.owners {
            match self.owner(api, object, owner).await? {
                None => gone.push(owner.uid.clone()),
                Some(there) => {
                    let foreground = there.finalizers.iter().any(|f| **f == *FOREGROUND);
                    if there.deleting && foreground && owner.block_owner_deletion == Some(true) {
                        waiting.push(owner.uid.clone());
                    } else {
                        solid += 1;
                    }
                }
            }
        }
        let lost: Vec<Box<str>> = gone.iter().chain(&waiting).cloned().collect();
        match (solid, waiting.is_empty(), gone.is_empty()) {
            (0, false, _) => remove(api, kind, object, "Foreground").await,
            (0, true, false) => remove(api, kind, object, "Background").await,
            _ if !lost.is_empty() => drop_owners(api, kind, object, &lost).await,
            _ => Ok(()),
        }
    }

    /// An owner, if it exists: by the caches, and if it is not there, by the store.
    async fn owner(
        &self,
        api: &Arc<Api>,
        object: &Object,
        owner: &Owner,
    ) -> Result<Option<crate::object::Facts>, Status> {
        if let Some(found) = self.keys.get(&owner.uid).and_then(|key| find(api, key)) {
            return Ok(Some(found.1.facts.clone()));
        }
        let registry = api.registry();
        let Some(kind) = registry.by_kind(&owner.api_version, &owner.kind) else {
            // Of a kind that is not served nobody can say that it is gone.
            return Err(Status::not_found_in("", &owner.kind, &owner.name)).map_err(|mut s| {
                s.code = 503;
                s
            });
        };
        let namespace = object.names().0;
        if kind.resource.namespaced && namespace.is_empty() {
            // A cluster's object can't be owned by a namespace's: such a reference is ignored.
            return Ok(Some(crate::object::Facts::default()));
        }
        let key = kind.key(namespace, &owner.name);
        let Some(record) = api.read(&key).await? else {
            return Ok(None);
        };
        let there = Object::read(key.into(), record, None, &[]);
        Ok((there.facts.uid == owner.uid).then(|| there.facts.clone()))
    }
}

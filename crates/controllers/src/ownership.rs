//! Who controls an object: owner references, and taking and letting go of objects as selectors say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::OnceCell;
use wharf_client::{Key, Patch};

use crate::writes::{Error, Kind, Writes};

/// The one owner that controls an object.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Whether this owner controls the object.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|found| Some(&found.uid) == owner.uid.as_ref())
}

/// The key of the controlling owner, if it is of this kind.
pub(crate) fn owner_key<O: k8s_openapi::Resource>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller_of(meta)?;
    let same_group = owner
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group)
        == O::GROUP;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (owner.kind == O::KIND && same_group).then(|| Key::new(namespace, &owner.name))
}

/// What an object that this owner controls says of it.
pub(crate) fn reference<O: Kind>(owner: &O) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Takes what its selector selects and lets go of what it does not any more.
pub(crate) struct Claims<'a, O> {
    writes: &'a Writes,
    owner: &'a O,
    /// Asked for at most once, and only when something is to be adopted: an owner that was deleted, or replaced by one
    /// of the same name, must not take anything, whatever the cache shows.
    may_adopt: OnceCell<bool>,
    finalizer: Option<&'a str>,
}

impl<'a, O: Kind> Claims<'a, O> {
    pub(crate) fn new(writes: &'a Writes, owner: &'a O) -> Claims<'a, O> {
        Claims {
            writes,
            owner,
            may_adopt: OnceCell::new(),
            finalizer: None,
        }
    }

    /// What is adopted gets this finalizer besides.
    pub(crate) fn with_finalizer(mut self, finalizer: &'a str) -> Self {
        self.finalizer = Some(finalizer);
        self
    }

    /// The objects among these that the owner controls from now on.
    pub(crate) async fn claim<K: Kind>(
        &self,
        objects: Vec<Arc<K>>,
        selects: impl Fn(&K) -> bool,
    ) -> Result<Vec<Arc<K>>, Error> {
        let mut mine = Vec::with_capacity(objects.len());
        for object in objects {
            if let Some(object) = self.claim_one(object, &selects).await? {
                mine.push(object);
            }
        }
        Ok(mine)
    }

    async fn claim_one<K: Kind>(
        &self,
        object: Arc<K>,
        selects: &impl Fn(&K) -> bool,
    ) -> Result<Option<Arc<K>>, Error> {
        let owner_is_deleted = self.owner.meta().deletion_timestamp.is_some();
        if let Some(owner) = controller_of(object.meta()) {
            if Some(&owner.uid) != self.owner.meta().uid.as_ref() {
                return Ok(None);
            }
            if selects(&object) {
                return Ok(Some(object));
            }
            if !owner_is_deleted {
                self.release(&*object).await?;
            }
            return Ok(None);
        }
        let is_deleted = object.meta().deletion_timestamp.is_some();
        if owner_is_deleted || is_deleted || !selects(&object) {
            return Ok(None);
        }
        Ok(self.adopt(&*object).await?.map(Arc::new))
    }

    async fn may_adopt(&self) -> Result<bool, Error> {
        let ask = || async {
            match self.writes.get::<O>(&self.owner.key()).await {
                Ok(live) => Ok(live.meta().uid == self.owner.meta().uid
                    && live.meta().deletion_timestamp.is_none()),
                Err(error) if error.is_not_found() => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.may_adopt.get_or_try_init(ask).await.copied()
    }

    async fn adopt<K: Kind>(&self, object: &K) -> Result<Option<K>, Error> {
        if !self.may_adopt().await? {
            return Ok(None);
        }
        let mut meta =
            json!({"uid": object.meta().uid, "ownerReferences": [reference(self.owner)]});
        if let Some(finalizer) = self.finalizer {
            meta["finalizers"] = json!([finalizer]);
        }
        let patch = Patch::Strategic(json!({ "metadata": meta }));
        match self.writes.patch(&object.key(), patch).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn release<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let mut meta = json!({
            "uid": object.meta().uid,
            "ownerReferences": [{"$patch": "delete", "uid": self.owner.meta().uid}],
        });
        if let Some(finalizer) = self.finalizer {
            meta["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        let patch = Patch::Strategic(json!({ "metadata": meta }));
        match self.writes.patch::<K>(&object.key(), patch).await {
            Ok(_) => Ok(()),
            // Gone, or another of the same name: either way it is not ours.
            Err(error) if error.is_not_found() || error.reason() == "Invalid" => Ok(()),
            Err(error) => Err(error),
        }
    }
}

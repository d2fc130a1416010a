//! Typed reading and writing of the server's objects.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_client::{Api, Deletion, Key, Object, Patch, Resource, Target};

/// How often a change is tried on a newer version before it is left to the queue.
const CONFLICTS_MAX: usize = 5;

/// A kind that is read and written.
pub(crate) trait Kind: Object + k8s_openapi::Resource + Serialize + Clone {}

impl<K: Object + k8s_openapi::Resource + Serialize + Clone> Kind for K {}

/// The resource of a kind.
pub(crate) fn resource<K: k8s_openapi::Resource>() -> Resource {
    Resource {
        group: Cow::Borrowed(K::GROUP),
        version: Cow::Borrowed(K::VERSION),
        plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
    }
}

/// Why a step of a controller failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server did not do it.
    #[error("{operation} {kind} {key}")]
    Request {
        operation: &'static str,
        kind: &'static str,
        key: Key,
        #[source]
        source: Box<wharf_client::Error>,
    },
    /// What is there does not fit its schema.
    #[error("read {what}")]
    Malformed {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    /// Nothing failed, but what has to be known first is not known yet.
    #[error("{0}")]
    NotYet(String),
}

impl Error {
    fn source(&self) -> Option<&wharf_client::Error> {
        match self {
            Error::Request { source, .. } => Some(source),
            Error::Malformed { .. } | Error::NotYet(_) => None,
        }
    }

    /// Somebody else was quicker.
    pub(crate) fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// There is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        self.source().is_some_and(|source| source.is_not_found())
    }

    /// There is one of this name.
    pub(crate) fn already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The server's reason; empty where there is none.
    pub(crate) fn reason(&self) -> &str {
        match self.source() {
            Some(wharf_client::Error::Refused { reason, .. }) => reason,
            _ => "",
        }
    }

    /// The namespace is on its way out, so that nothing is made in it any more.
    pub(crate) fn namespace_is_terminating(&self) -> bool {
        self.reason() == "Forbidden" && self.message().contains("because it is being terminated")
    }

    /// What the server said, for a person.
    pub(crate) fn message(&self) -> String {
        match self.source() {
            Some(source) => source.to_string(),
            None => self.to_string(),
        }
    }

    /// The whole story on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}

/// The way to the server.
#[derive(Clone)]
pub(crate) struct Writes(Arc<dyn Api>);

impl Writes {
    pub(crate) fn new(api: Arc<dyn Api>) -> Writes {
        Writes(api)
    }

    /// The server itself.
    pub(crate) fn api(&self) -> &Arc<dyn Api> {
        &self.0
    }

    /// The object as the server has it now.
    pub(crate) async fn get<K: Kind>(&self, key: &Key) -> Result<K, Error> {
        let answer = self.0.get(target::<K>(key)).await;
        read(failed::<K, _>("read", key, answer)?)
    }

    /// Makes an object; its key is that of the answer where the server makes the name.
    pub(crate) async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let key = object.key();
        let at = Target::new(resource::<K>(), &key.namespace, "");
        let answer = self.0.create(at, value(object)?).await;
        read(failed::<K, _>("create", &key, answer)?)
    }

    /// Replaces an object of the version that it has; a conflict if there is a newer one.
    pub(crate) async fn update<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let key = object.key();
        let answer = self.0.update(target::<K>(&key), value(object)?).await;
        read(failed::<K, _>("update", &key, answer)?)
    }

    /// Replaces the status of an object of the version that it has.
    pub(crate) async fn update_status<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let key = object.key();
        let at = target::<K>(&key).with_subresource("status");
        let answer = self.0.update(at, value(object)?).await;
        read(failed::<K, _>("update the status of", &key, answer)?)
    }

    /// Reads, changes and writes an object until nobody is quicker; nothing is written if the change says so.
    pub(crate) async fn change<K: Kind>(
        &self,
        from: &K,
        change: impl Fn(&mut K) -> bool,
    ) -> Result<K, Error> {
        let mut object = from.clone();
        for attempt in 0.. {
            if !change(&mut object) {
                break;
            }
            match self.update(&object).await {
                Err(error) if error.is_conflict() && attempt < CONFLICTS_MAX => {
                    object = self.get(&from.key()).await?;
                }
                outcome => return outcome,
            }
        }
        Ok(object)
    }

    /// Changes a part of an object.
    pub(crate) async fn patch<K: Kind>(&self, key: &Key, patch: Patch) -> Result<K, Error> {
        let answer = self.0.patch(target::<K>(key), patch).await;
        read(failed::<K, _>("patch", key, answer)?)
    }

    /// Changes a part of an object's status.
    pub(crate) async fn patch_status<K: Kind>(&self, key: &Key, patch: Patch) -> Result<K, Error> {
        let at = target::<K>(key).with_subresource("status");
        let answer = self.0.patch(at, patch).await;
        read(failed::<K, _>("patch the status of", key, answer)?)
    }

    /// Deletes an object, only if it is still this one.
    pub(crate) async fn delete<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let deletion = Deletion {
            uid: object.meta().uid.clone(),
            ..Deletion::default()
        };
        self.delete_so(object, deletion).await
    }

    /// Deletes an object in a certain way.
    pub(crate) async fn delete_so<K: Kind>(
        &self,
        object: &K,
        deletion: Deletion,
    ) -> Result<(), Error> {
        let key = object.key();
        let answer = self.0.delete(target::<K>(&key), deletion).await;
        failed::<K, _>("delete", &key, answer).map(|_| ())
    }
}

fn target<K: k8s_openapi::Resource>(key: &Key) -> Target {
    Target::new(resource::<K>(), &key.namespace, &key.name)
}

fn failed<K: k8s_openapi::Resource, T>(
    operation: &'static str,
    key: &Key,
    answer: wharf_client::Result<T>,
) -> Result<T, Error> {
    answer.map_err(|source| Error::Request {
        operation,
        kind: K::KIND,
        key: key.clone(),
        source: Box::new(source),
    })
}

/// An object as JSON.
pub(crate) fn value<T: Serialize>(object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Malformed {
        what: "an object that was to be written".to_owned(),
        source,
    })
}

/// An object from JSON.
pub(crate) fn read<T: DeserializeOwned>(object: Value) -> Result<T, Error> {
    serde_json::from_value(object).map_err(|source| Error::Malformed {
        what: "what the server answered".to_owned(),
        source,
    })
}

//! The server's state, shared by every request and controller.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use wharf_kube_types::Status;
use wharf_store::{Error, Expect, Revision, Seen, Store, Write};

use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::cache::Caches;
use crate::discovery::Documents;
use crate::metrics::Metrics;
use crate::object::Record;
use crate::registry::{Kind, Registry};

/// The server's state.
pub struct Api {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// What was read from there.
    pub caches: Arc<Caches>,
    registry: RwLock<Arc<Registry>>,
    generations: watch::Sender<u64>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// What they may.
    pub authorizer: Authorizer,
    /// Discovery and OpenAPI, made once for each generation of the registry.
    pub documents: Documents,
    /// Counters.
    pub metrics: Metrics,
    /// Certificate authority of clients and servers.
    pub authority: Arc<crate::certificates::Authority>,
    /// Ranges of addresses and ports given to services.
    pub allocator: crate::admission::allocate::Allocator,
    /// APIs that other servers serve.
    pub aggregated: crate::aggregation::Aggregated,
    /// Requests that others answer.
    pub relay: crate::relay::Relay,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// The error of a store as clients see it.
pub fn store_status(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired(format!(
            "The resourceVersion for the provided list is too old. ({error})"
        )),
        Error::Future { asked, newest } => Status::too_large_resource_version(*asked, *newest),
        Error::Closed => Status::unavailable("the server is shutting down"),
        Error::Commit { source, .. } => Status::internal(&format!("{error}: {source}")),
        other => Status::internal(&other.to_string()),
    }
}

/// Why a write to the store did not happen.
#[derive(Debug)]
pub enum Refused {
    /// The key is not as expected.
    Conflict,
    /// Something else, as clients see it.
    Status(Status),
}

impl Api {
    /// The parts put together.
    pub fn new(
        store: Arc<dyn Store>,
        caches: Arc<Caches>,
        registry: Registry,
        authenticator: Authenticator,
        authority: Arc<crate::certificates::Authority>,
        relay: crate::relay::Relay,
    ) -> Self {
        let authorizer = Authorizer::new(&caches);
        Self {
            store,
            caches,
            generations: watch::Sender::new(registry.generation),
            registry: RwLock::new(Arc::new(registry)),
            authenticator,
            authorizer,
            documents: Documents::default(),
            metrics: Metrics::default(),
            authority,
            allocator: crate::admission::allocate::Allocator::default(),
            aggregated: crate::aggregation::Aggregated::default(),
            relay,
        }
    }

    /// What is served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes whenever the documents about what is served do.
    pub fn edition(&self) -> u64 {
        self.registry().generation + (self.aggregated.changes() << 32)
    }

    /// Tells when something else is served.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }

    /// Serves something else from now on.
    pub fn set_registry(&self, registry: Registry) {
        let generation = registry.generation;
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.generations.send_replace(generation);
    }

    /// A built-in resource, in the version that it is stored in.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn builtin(&self, group: &str, plural: &str) -> Result<Arc<Kind>, Status> {
        let registry = self.registry();
        let mut all = registry.order.iter();
        all.find(|k| {
            k.resource.group == group && k.resource.plural == plural && k.is_stored_version()
        })
        .cloned()
        .ok_or_else(|| Status::internal(&format!("no resource {plural} in group {group:?}")))
    }

    /// The newest state of an object.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&self, key: &str) -> Result<Option<Record>, Status> {
        let seen = self.seen(key).await?;
        let Some(entry) = seen.entry else {
            return Ok(None);
        };
        let record = Record::open(key, entry.value, entry.revision);
        record
            .map(Some)
            .ok_or_else(|| Status::internal(&format!("the store's entry {key} is damaged")))
    }

    async fn seen(&self, key: &str) -> Result<Seen, Status> {
        self.store.get(key).await.map_err(|e| store_status(&e))
    }

    /// The newest committed revision.
    ///
    /// # Errors
    /// The store's.
    pub async fn revision(&self) -> Result<Revision, Status> {
        Ok(self.seen("").await?.revision)
    }

    /// Writes an object (or deletes it) and gives the revision.
    ///
    /// # Errors
    /// The key is not as expected, or the store can't write.
    pub async fn commit(
        &self,
        key: &str,
        expect: Expect,
        record: Option<&Record>,
    ) -> Result<Revision, Refused> {
        let write = Write {
            key: key.to_owned(),
            expect,
            value: record.map(|record| record.stored(key)),
        };
        match self.store.write(write).await {
            Ok(revision) => Ok(revision),
            Err(Error::Conflict { .. }) => Err(Refused::Conflict),
            Err(error) => Err(Refused::Status(store_status(&error))),
        }
    }
}

//! Every container by ID, name and unique prefix.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::watch;
use wharf_shim::client::{AttachStreams, Supervisor};

use crate::record::Record;
use crate::{Error, Exit, Kind, Result};

/// A client attached before the start: its socket for the shim, and what it takes part in.
pub(crate) type Waiting = (std::os::unix::net::UnixStream, AttachStreams);

/// A container in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub id: String,
    record: Mutex<Record>,
    /// Held through every operation that changes the life of the container. Lock order: this before `record`.
    pub gate: tokio::sync::Mutex<()>,
    /// The shim of a running container.
    pub supervisor: Mutex<Option<Arc<Supervisor>>>,
    /// Clients that attached before the start.
    pub waiting: Mutex<Vec<Waiting>>,
    /// Told of every exit and of the removal.
    pub progress: watch::Sender<Progress>,
    /// The name server of a container on networks of the user's own.
    pub dns: Mutex<Option<wharf_dns::Server>>,
    /// Where the time of the latest start went.
    pub trace: Mutex<Vec<(String, u64)>>,
    /// When the latest start was, for the restart policy's back-off.
    pub started: Mutex<Option<Instant>>,
}

/// How far a container's life has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Exits so far, failed starts included.
    pub exits: u64,
    /// The latest.
    pub last: Option<Exit>,
    /// It is gone.
    pub removed: bool,
}

impl Entry {
    pub fn new(record: Record) -> Arc<Entry> {
        Arc::new(Entry {
            id: record.id.clone(),
            record: Mutex::new(record),
            gate: tokio::sync::Mutex::default(),
            supervisor: Mutex::default(),
            waiting: Mutex::default(),
            progress: watch::Sender::default(),
            dns: Mutex::default(),
            trace: Mutex::default(),
            started: Mutex::default(),
        })
    }

    /// The record; held for moments only, never over an await.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// The shim, or the reference's words for a container that does not run.
    pub fn running(&self) -> Result<Arc<Supervisor>> {
        lock(&self.supervisor).clone().ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                format!("Container {} is not running", self.id),
            )
        })
    }
}

/// A lock whose holder panicked protects data that is still whole: every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All containers.
#[derive(Debug, Default)]
pub(crate) struct Index(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    by_id: BTreeMap<String, Arc<Entry>>,
    /// Names in use, those of creations under way included.
    names: HashMap<String, String>,
}

impl Index {
    /// Takes a name for an ID, or says who has it.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = maps.names.get(name) {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
                     You have to remove (or rename) that container to be able to reuse that name."
                ),
            ));
        }
        maps.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives a name back.
    pub fn release(&self, name: &str) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .names
            .remove(name);
    }

    /// Makes a container findable.
    pub fn insert(&self, entry: Arc<Entry>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .insert(entry.id.clone(), entry);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str, name: &str) {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_id.remove(id);
        if maps.names.get(name).is_some_and(|holder| holder == id) {
            maps.names.remove(name);
        }
    }

    /// By full ID, then name, then unique prefix of an ID.
    pub fn find(&self, wanted: &str) -> Result<Arc<Entry>> {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        let by_name = || maps.names.get(name).and_then(|id| maps.by_id.get(id));
        if let Some(entry) = maps.by_id.get(wanted).or_else(by_name) {
            return Ok(entry.clone());
        }
        let mut fitting = maps
            .by_id
            .range(wanted.to_owned()..)
            .take_while(|(id, _)| id.starts_with(wanted));
        match (wanted.is_empty(), fitting.next(), fitting.next()) {
            (false, Some((_, entry)), None) => Ok(entry.clone()),
            (false, Some(_), Some(_)) => Err(Error::new(
                Kind::InvalidParameter,
                format!("Multiple IDs found with provided prefix: {wanted}"),
            )),
            _ => Err(Error::new(
                Kind::NotFound,
                format!("No such container: {wanted}"),
            )),
        }
    }

    /// All of them, by ID.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .values()
            .cloned()
            .collect()
    }
}

//! The embedded store: one database file, one committer thread that writes for everyone.
//!
//! The committer takes every write that waits, checks each against the newest state (its own batch included), appends
//! them in one durable commit and only then publishes and answers. Readers look at memory and never wait for the disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

use crate::record::{self, LAYOUT, LOG, META, META_FLOOR, META_LAYOUT, META_REVISION, OBJECTS};
use crate::state::{Keep, State};
use crate::{
    Answer, Change, Entry, Error, Expect, Page, Range, Result, Revision, Seen, Store, Watch, Write,
};

/// Writes that may share one commit.
const BATCH_WRITES_MAX: usize = 4096;
const DATABASE_CACHE_BYTES: usize = 8 << 20;

/// How much history the store keeps for watchers and for listings of the past.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Changes kept at most.
    pub history_changes_max: usize,
    /// Bytes of changes kept at most.
    pub history_bytes_max: usize,
    /// Age from which a change is forgotten.
    pub history_age_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_changes_max: 16_384,
            history_bytes_max: 32 << 20,
            history_age_max: Duration::from_secs(600),
        }
    }
}

enum Request {
    Write(Write, oneshot::Sender<Result<Revision>>),
    Compact(Revision, oneshot::Sender<Result<()>>),
}

/// A store in one file.
#[derive(Debug)]
pub struct Embedded {
    state: Arc<RwLock<State>>,
    database: Arc<Database>,
    path: PathBuf,
    requests: Option<Sender<Request>>,
    committer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the database file, making it and its folder when they are missing. Blocks.
    ///
    /// # Errors
    /// [`Error::Open`] and [`Error::Damaged`] say what to do about a file that can't be used.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let database = open_database(path)?;
        let state = load(&database, path)?;
        let state = Arc::new(RwLock::new(state));
        let database = Arc::new(database);
        let (requests, waiting) = channel();
        let committer = Committer {
            state: state.clone(),
            database: database.clone(),
            path: path.to_owned(),
            options,
            broken: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run(&waiting))
            .map_err(|source| Error::File {
                operation: "start the committer of",
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            state,
            database,
            path: path.to_owned(),
            requests: Some(requests),
            committer: Some(thread),
        })
    }

    /// Writes everything that is committed now to a new database file. Blocks; writes go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Snapshot`] or [`Error::File`]; an unfinished file never has the given name.
    pub fn snapshot(&self, to: &Path) -> Result<Revision> {
        crate::snapshot::write(&self.database, &self.path, to)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        read(&self.state)
    }

    fn send(&self, request: Request) -> Result<()> {
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request).map_err(|_| Error::Closed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.committer.take() {
            let _ = thread.join();
        }
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Seen> {
        let state = self.read();
        let seen = Seen {
            revision: state.revision(),
            entry: state.get(key).cloned(),
        };
        Box::pin(std::future::ready(Ok(seen)))
    }

    fn list(&self, range: Range) -> Answer<'_, Page> {
        let page = self.read().list(&range);
        Box::pin(std::future::ready(page))
    }

    fn write(&self, write: Write) -> Answer<'_, Revision> {
        let (answer, answered) = oneshot::channel();
        let sent = self.send(Request::Write(write, answer));
        Box::pin(async move {
            sent?;
            answered.await.map_err(|_| Error::Closed)?
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Answer<'a, Watch> {
        let watch = write(&self.state).watch(prefix, after);
        Box::pin(std::future::ready(watch))
    }

    fn request_progress(&self) -> Answer<'_, ()> {
        write(&self.state).announce_progress();
        Box::pin(std::future::ready(Ok(())))
    }

    fn compact(&self, up_to: Revision) -> Answer<'_, ()> {
        let (answer, answered) = oneshot::channel();
        let sent = self.send(Request::Compact(up_to, answer));
        Box::pin(async move {
            sent?;
            answered.await.map_err(|_| Error::Closed)?
        })
    }
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open_database(path: &Path) -> Result<Database> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            operation: "make the folder",
            path: folder.to_owned(),
            source,
        })?;
    }
    Builder::new()
        .set_cache_size(DATABASE_CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create(path)
        .map_err(|source| {
            let advice = match &source {
                redb::DatabaseError::DatabaseAlreadyOpen => {
                    "another process uses it: stop that one first"
                }
                redb::DatabaseError::UpgradeRequired(_) => {
                    "it was written by another version: use that one"
                }
                _ => "if the file is damaged, restore a snapshot in its place",
            };
            Error::Open {
                path: path.to_owned(),
                advice,
                source: Box::new(source.into()),
            }
        })
}

/// Reads everything into memory by one scan of each table.
fn load(database: &Database, path: &Path) -> Result<State> {
    let open = |source: redb::Error| Error::Open {
        path: path.to_owned(),
        advice: "if the file is damaged, restore a snapshot in its place",
        source: Box::new(source),
    };
    prepare(database).map_err(open)?;
    let damaged = |what: String| Error::Damaged {
        path: path.to_owned(),
        what,
    };
    let transaction = database.begin_read().map_err(|e| open(e.into()))?;
    let meta = transaction.open_table(META).map_err(|e| open(e.into()))?;
    let number = |name: &str| -> Result<u64> {
        let value = meta.get(name).map_err(|e| open(e.into()))?;
        value
            .map(|value| value.value())
            .ok_or_else(|| damaged(format!("no {name}")))
    };
    if number(META_LAYOUT)? != LAYOUT {
        return Err(damaged(format!(
            "layout {} is unknown",
            number(META_LAYOUT)?
        )));
    }
    let (revision, floor) = (number(META_REVISION)?, number(META_FLOOR)?);
    let mut entries = BTreeMap::new();
    let objects = transaction
        .open_table(OBJECTS)
        .map_err(|e| open(e.into()))?;
    for row in objects.iter().map_err(|e| open(e.into()))? {
        let (key, value) = row.map_err(|e| open(e.into()))?;
        let key: Arc<str> = key.value().into();
        let entry = record::parse_object(key.clone(), value.value())
            .filter(|entry| entry.revision <= revision)
            .ok_or_else(|| damaged(format!("object {key}")))?;
        entries.insert(key, entry);
    }
    let mut recent = Vec::new();
    let log = transaction.open_table(LOG).map_err(|e| open(e.into()))?;
    for row in log.iter().map_err(|e| open(e.into()))? {
        let (at, value) = row.map_err(|e| open(e.into()))?;
        let change = record::parse_change(at.value(), value.value())
            .ok_or_else(|| damaged(format!("change {}", at.value())))?;
        recent.push(change);
    }
    Ok(State::restore(entries, recent, revision, floor))
}

/// Makes the tables of a new file.
fn prepare(database: &Database) -> std::result::Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let fresh = {
        transaction.open_table(OBJECTS)?;
        transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        let fresh = meta.get(META_LAYOUT)?.is_none();
        if fresh {
            meta.insert(META_LAYOUT, LAYOUT)?;
            meta.insert(META_REVISION, 1)?;
            meta.insert(META_FLOOR, 1)?;
        }
        fresh
    };
    if fresh {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(())
}

type Waiting = Vec<(oneshot::Sender<Result<Revision>>, Revision)>;

struct Committer {
    state: Arc<RwLock<State>>,
    database: Arc<Database>,
    path: PathBuf,
    options: Options,
    /// Set by the first failed commit: whether it reached the disk is unknown until the file is read again.
    broken: Option<Arc<redb::Error>>,
}

impl Committer {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let first = match self.patience() {
                Some(patience) => requests.recv_timeout(patience),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(first) => {
                    let rest = requests.try_iter().take(BATCH_WRITES_MAX - 1);
                    let batch: Vec<Request> = std::iter::once(first).chain(rest).collect();
                    self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.commit(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long to wait for requests before the oldest change must be forgotten.
    fn patience(&self) -> Option<Duration> {
        if self.broken.is_some() {
            return None;
        }
        let oldest = read(&self.state).oldest_change()?;
        // Rounded up, so that an idle store forgets many changes at once and not one at a time.
        let slack = self.options.history_age_max / 10;
        Some((self.options.history_age_max + slack).saturating_sub(oldest.elapsed()))
    }

    fn commit(&mut self, batch: Vec<Request>) {
        let mut changes = Vec::with_capacity(batch.len());
        let mut waiting: Waiting = Vec::new();
        let mut compactions = Vec::new();
        let mut floor = 0;
        self.decide(
            batch,
            &mut changes,
            &mut waiting,
            &mut compactions,
            &mut floor,
        );
        let keep = Keep {
            changes_max: self.options.history_changes_max,
            bytes_max: self.options.history_bytes_max,
        };
        let oldest = Instant::now().checked_sub(self.options.history_age_max);
        let floor = floor.max(read(&self.state).excess(keep, oldest));
        let outcome = self.persist(&changes, floor);
        if outcome.is_ok() {
            let mut state = write(&self.state);
            for change in changes {
                state.publish(Arc::new(change));
            }
            state.forget(floor);
        }
        for (answer, revision) in waiting {
            let _ = answer.send(
                outcome
                    .as_ref()
                    .map(|()| revision)
                    .map_err(|e| self.failure(e)),
            );
        }
        for answer in compactions {
            let answered = outcome.as_ref().copied().map_err(|e| self.failure(e));
            let _ = answer.send(answered);
        }
    }

    fn failure(&self, source: &Arc<redb::Error>) -> Error {
        Error::Commit {
            path: self.path.clone(),
            source: source.clone(),
        }
    }

    /// Turns writes whose expectation holds into changes; answers the others at once.
    fn decide(
        &self,
        batch: Vec<Request>,
        changes: &mut Vec<Change>,
        waiting: &mut Waiting,
        compactions: &mut Vec<oneshot::Sender<Result<()>>>,
        floor: &mut Revision,
    ) {
        let state = read(&self.state);
        let mut newest: HashMap<Arc<str>, Option<Entry>> = HashMap::new();
        let mut revision = state.revision();
        for request in batch {
            let (write, answer) = match request {
                Request::Write(write, answer) => (write, answer),
                Request::Compact(up_to, answer) => {
                    *floor = (*floor).max(up_to.min(state.revision()));
                    compactions.push(answer);
                    continue;
                }
            };
            let before = match newest.get(&*write.key) {
                Some(entry) => entry.clone(),
                None => state.get(&write.key).cloned(),
            };
            let holds = match (write.expect, &before) {
                (Expect::Absent, None) => true,
                (Expect::Revision(expected), Some(entry)) => entry.revision == expected,
                _ => false,
            };
            if !holds {
                // What the writer is shown may be in this very batch: answered with it, after it is durable.
                let _ = answer.send(Err(Error::Conflict {
                    key: write.key,
                    current: state_entry(&state, &newest, before),
                }));
                continue;
            }
            revision += 1;
            let change = next_change(write, before, revision);
            newest.insert(change.key.clone(), change.now.clone());
            waiting.push((answer, revision));
            changes.push(change);
        }
    }

    /// One durable transaction for the whole batch.
    fn persist(
        &mut self,
        changes: &[Change],
        floor: Revision,
    ) -> std::result::Result<(), Arc<redb::Error>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        if changes.is_empty() && floor == 0 {
            return Ok(());
        }
        append(&self.database, changes, floor).map_err(|error| {
            let error = Arc::new(error);
            tracing::error!(path = %self.path.display(), %error, "commit failed: writes are refused");
            self.broken = Some(error.clone());
            error
        })
    }
}

/// The committed entry of a key that a pending write of the same batch may be about to change.
fn state_entry(
    state: &State,
    newest: &HashMap<Arc<str>, Option<Entry>>,
    before: Option<Entry>,
) -> Option<Entry> {
    let key = before.as_ref().map(|entry| entry.key.clone());
    match key {
        Some(key) if newest.contains_key(&key) => state.get(&key).cloned(),
        _ => before,
    }
}

fn next_change(write: Write, before: Option<Entry>, revision: Revision) -> Change {
    let key = before
        .as_ref()
        .map_or_else(|| write.key.as_str().into(), |entry| entry.key.clone());
    let created = before.as_ref().map_or(revision, |entry| entry.created);
    let now = write.value.map(|value| Entry {
        key: key.clone(),
        value,
        created,
        revision,
    });
    Change {
        revision,
        key,
        now,
        before,
    }
}

fn append(
    database: &Database,
    changes: &[Change],
    floor: Revision,
) -> std::result::Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        for change in changes {
            match &change.now {
                Some(entry) => objects.insert(&*change.key, &*record::object(entry))?,
                None => objects.remove(&*change.key)?,
            };
            log.insert(change.revision, &*record::change(change))?;
        }
        if let Some(last) = changes.last() {
            meta.insert(META_REVISION, last.revision)?;
        }
        if meta.get(META_FLOOR)?.is_none_or(|old| old.value() < floor) {
            log.retain_in(..=floor, |_, _| false)?;
            meta.insert(META_FLOOR, floor)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

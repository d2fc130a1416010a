//! A revisioned key-value store with watch: embedded in one file (redb), or on etcd, behind one trait.
//!
//! Every write gets the next revision. A write is acknowledged only after it is durable, and is seen by readers and
//! watchers only after that, in the order of revisions, each once. This crate knows nothing of what the values mean.
#![forbid(unsafe_code)]

mod embedded;
mod error;
mod etcd;
mod record;
mod snapshot;
mod state;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use embedded::{Embedded, Options};
pub use error::{Error, Result};
pub use etcd::{Etcd, EtcdOptions};
pub use watch::Watch;

/// Number of a committed write; grows by one with each, and never goes back.
pub type Revision = u64;

/// What an operation of the store returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A key with the newest value it has at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// Revision of the write that made the key.
    pub created: Revision,
    /// Revision of the write that set this value.
    pub revision: Revision,
}

/// What a key looked like, and the store's revision at that moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The store's newest committed revision.
    pub revision: Revision,
    /// The key's entry, when it exists.
    pub entry: Option<Entry>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// Keys that start with this.
    pub prefix: String,
    /// Only keys that sort after this one: the last key of the page before.
    pub after: Option<String>,
    /// Most entries to return; 0 for all.
    pub limit: usize,
    /// As of this revision instead of the newest.
    pub at: Option<Revision>,
}

/// A part of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    /// The revision that the listing shows.
    pub revision: Revision,
    /// The entries in the order of their keys.
    pub entries: Vec<Entry>,
    /// How many entries of the range follow after these.
    pub remaining: usize,
}

/// What must be true of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key doesn't exist.
    Absent,
    /// The key's newest value was set by this revision.
    Revision(Revision),
}

/// One write to one key.
#[derive(Debug, Clone)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What must be true.
    pub expect: Expect,
    /// The new value, or nothing to delete the key.
    pub value: Option<Bytes>,
}

/// A committed write as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Revision of the write.
    pub revision: Revision,
    /// The key.
    pub key: Arc<str>,
    /// The key's entry after the write; nothing when it was deleted.
    pub now: Option<Entry>,
    /// The key's entry before the write; nothing when it was made.
    pub before: Option<Entry>,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A committed write.
    Change(Arc<Change>),
    /// Every change up to this revision has been delivered.
    Progress(Revision),
}

/// A store. Implementations are cheap to share behind an `Arc`.
pub trait Store: Send + Sync + 'static {
    /// The newest entry of a key.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Seen>;

    /// Entries of a range, at the newest revision or at an older one.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] when the asked revision is not there.
    fn list(&self, range: Range) -> Answer<'_, Page>;

    /// Performs one write and returns its revision once it is durable and visible.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the key's entry when the expectation does not hold.
    fn write(&self, write: Write) -> Answer<'_, Revision>;

    /// All changes after a revision of keys that start with a prefix.
    ///
    /// # Errors
    /// [`Error::Compacted`] when changes after that revision are gone; [`Error::Future`] when it has not happened yet.
    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Answer<'a, Watch>;

    /// Asks for an [`Event::Progress`] on every open watch.
    fn request_progress(&self) -> Answer<'_, ()>;

    /// Forgets changes up to and including this revision.
    fn compact(&self, up_to: Revision) -> Answer<'_, ()>;

    /// Makes a key.
    fn create<'a>(&'a self, key: &str, value: Bytes) -> Answer<'a, Revision> {
        self.write(Write {
            key: key.to_owned(),
            expect: Expect::Absent,
            value: Some(value),
        })
    }

    /// Replaces the value that `revision` set.
    fn update<'a>(&'a self, key: &str, revision: Revision, value: Bytes) -> Answer<'a, Revision> {
        self.write(Write {
            key: key.to_owned(),
            expect: Expect::Revision(revision),
            value: Some(value),
        })
    }

    /// Deletes the key whose value `revision` set.
    fn delete<'a>(&'a self, key: &str, revision: Revision) -> Answer<'a, Revision> {
        self.write(Write {
            key: key.to_owned(),
            expect: Expect::Revision(revision),
            value: None,
        })
    }
}

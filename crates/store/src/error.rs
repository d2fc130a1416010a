//! What can go wrong with a store, one variant for each failed operation.

use std::path::PathBuf;

use crate::{Entry, Revision};

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write's expectation did not hold; nothing was written.
    #[error("key {key} is not as expected: {}", describe(current.as_ref()))]
    Conflict {
        /// The key.
        key: String,
        /// What the key holds instead.
        current: Option<Entry>,
    },
    /// The asked revision is older than what is kept.
    #[error("revision {asked} is compacted: the oldest that is kept is {oldest}")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The oldest revision that can be asked for.
        oldest: Revision,
    },
    /// The asked revision has not been written yet.
    #[error("revision {asked} has not happened: the newest is {newest}")]
    Future {
        /// The revision that was asked for.
        asked: Revision,
        /// The newest committed revision.
        newest: Revision,
    },
    /// A watcher did not read fast enough.
    #[error(
        "the watcher fell more than {queued} events behind and was dropped: list again and watch from there"
    )]
    Lagged {
        /// How many events were waiting for it.
        queued: usize,
    },
    /// The store was shut down.
    #[error("the store is closed")]
    Closed,
    /// Writing failed; reads go on.
    #[error(
        "commit to {path}: writes are refused until a restart; make sure that the disk has room and is healthy"
    )]
    Commit {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::sync::Arc<redb::Error>,
    },
    /// The database file could not be opened.
    #[error("open the database {path}; {advice}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The database file holds something that this program did not write.
    #[error("database {path} is damaged ({what}): restore a snapshot in its place")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A snapshot could not be written.
    #[error("write the snapshot {path}")]
    Snapshot {
        /// The snapshot's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// etcd did not do what it was asked for. Whether a write was done is not known.
    #[error("{operation} {object} in etcd: {why}; make sure that a majority of its members is up")]
    Etcd {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// In etcd's words.
        why: String,
    },
    /// A folder or file of the store could not be used.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn describe(current: Option<&Entry>) -> String {
    current.map_or_else(
        || "it does not exist".to_owned(),
        |entry| format!("it was last written by revision {}", entry.revision),
    )
}

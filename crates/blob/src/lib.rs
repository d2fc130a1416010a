//! Content-addressed store: ingest, verify, lease, garbage-collect. Does not know what the bytes mean.
//!
//! ```text
//! ROOT/lock                      held by the one process that uses the store
//! ROOT/boot                      boot ID of the machine when the store was last opened
//! ROOT/blobs/sha256/HEX          a whole blob; mode 0444: known durable, 0600: not synced yet
//! ROOT/ingest/KEY                a blob that is still being written; survives a crash and is resumed
//! ```
//!
//! A blob appears under its digest by rename and never changes afterwards. With [`Durability::Deferred`] the rename
//! comes before the data is on disk; such a blob has mode 0600 until [`Store::sync`] went through. After a loss of
//! power (another boot ID) every 0600 blob is hashed again when the store is opened, and removed when it does not match.
#![forbid(unsafe_code)]

mod collect;
mod digest;
mod error;
mod ingest;
mod lease;
mod recover;
mod store;

pub use collect::Collected;
pub use digest::{Algorithm, Digest, Hasher};
pub use error::{Error, Result};
pub use ingest::{Check, Durability, Ingest};
pub use lease::Lease;
pub use store::{Blob, Claim, Partial, Store};

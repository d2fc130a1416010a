//! Garbage collection: what nobody refers to and no lease holds goes.

use std::time::{Duration, SystemTime};

use crate::store::{Store, lock};
use crate::{Digest, Error, Result};

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: usize,
    /// Their size.
    pub size_bytes: u64,
}

impl Store {
    /// Removes every blob that `live` does not want, that no lease holds and that is older than `min_age`.
    ///
    /// `live` is asked without any lock held. An operation that is about to refer to a blob takes a lease first
    /// ([`crate::Lease::hold`]); then it either finds the blob and keeps it, or finds that it is gone.
    pub fn collect(&self, live: &dyn Fn(&Digest) -> bool, min_age: Duration) -> Result<Collected> {
        let mut collected = Collected::default();
        let now = SystemTime::now();
        for blob in self.list()? {
            let age = now.duration_since(blob.modified).unwrap_or_default();
            if age < min_age || live(&blob.digest) || !self.remove_unless_held(&blob.digest)? {
                continue;
            }
            collected.blobs += 1;
            collected.size_bytes += blob.size_bytes;
        }
        Ok(collected)
    }

    /// Removes a blob that turned out to be of no use, leases or not: its holders know, or will find it gone.
    pub fn discard(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove blob", path)(e))
            }
            _ => Ok(()),
        }
    }

    /// Removes one blob unless a lease holds it; says whether it went.
    pub fn remove_unless_held(&self, digest: &Digest) -> Result<bool> {
        // Lock order: pins only. Held over the unlink, so that a lease taken now sees the blob either way.
        let pins = lock(&self.inner.pins);
        if pins.contains(digest) {
            return Ok(false);
        }
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove blob", path)(e)),
        }
    }
}

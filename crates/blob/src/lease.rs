//! Leases: blobs that must not be collected although nothing refers to them yet.
//!
//! They live in memory only. A lease protects a running operation; when the process dies, its operations are dead too,
//! and the one process that may use the store next starts with none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::store::{Inner, lock};
use crate::{Digest, Result};

/// How many leases hold a blob.
#[derive(Debug, Default)]
pub(crate) struct Pins(HashMap<Digest, usize>);

impl Pins {
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }

    fn release(&mut self, digest: &Digest) {
        if let Some(count) = self.0.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(digest);
            }
        }
    }
}

/// Keeps blobs from being collected until dropped.
#[derive(Debug)]
pub struct Lease {
    pub(crate) store: Arc<Inner>,
    pub(crate) held: Mutex<Vec<Digest>>,
}

impl Lease {
    /// Protects a blob, then says whether (and how large) it is here: what is seen stays until the lease ends.
    pub fn hold(&self, digest: &Digest) -> Result<Option<u64>> {
        self.pin(digest);
        self.store.size_of(digest)
    }

    pub(crate) fn pin(&self, digest: &Digest) {
        *lock(&self.store.pins).0.entry(digest.clone()).or_insert(0) += 1;
        lock(&self.held).push(digest.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pins = lock(&self.store.pins);
        for digest in lock(&self.held).iter() {
            pins.release(digest);
        }
    }
}

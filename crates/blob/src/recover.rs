//! Opening a store: the lock, the folders, and the doubt about blobs written before a loss of power.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::ingest::rehash;
use crate::store::{Inner, MODE_DURABLE, Store, lock, sync_folder};
use crate::{Algorithm, Error, Hasher, Result};

impl Store {
    /// Opens (or makes) the store in a folder. One process at a time may have it open; clones share it.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process (or another `open` in this one) has it.
    pub fn open(root: &Path) -> Result<Store> {
        make_folder(root)?;
        let lock_path = root.join("lock");
        let held = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(Error::io("open", &lock_path))?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse(root.to_owned())),
            Err(e) => return Err(Error::io("lock", lock_path)(e)),
        }
        for algorithm in Algorithm::ALL {
            make_folder(&root.join("blobs").join(algorithm.as_str()))?;
        }
        make_folder(&root.join("ingest"))?;
        let store = Store::from_inner(Inner::new(root.to_owned(), held));
        store.recover(&boot_id())?;
        Ok(store)
    }

    /// Finds blobs that were never synced. In the same boot the page cache still has them; after another boot their
    /// bytes are checked.
    pub(crate) fn recover(&self, boot: &str) -> Result<()> {
        let record = self.root().join("boot");
        let same_boot =
            !boot.is_empty() && std::fs::read_to_string(&record).is_ok_and(|text| text == boot);
        for blob in self.list()? {
            let path = self.path(&blob.digest);
            let meta = std::fs::metadata(&path).map_err(Error::io("stat", &path))?;
            if meta.permissions().mode() & 0o7777 == MODE_DURABLE {
                continue;
            }
            if same_boot || self.verify(&blob.digest).is_ok() {
                lock(&self.inner.unsynced).push(blob.digest);
            } else {
                std::fs::remove_file(&path).map_err(Error::io("remove damaged blob", path))?;
            }
        }
        if !same_boot {
            // Doubtful blobs become trusted by this sync before the new boot ID makes them so.
            self.sync()?;
            write_atomically(&record, boot.as_bytes())?;
        }
        Ok(())
    }

    /// Reads a blob and compares it with its digest.
    pub fn verify(&self, digest: &crate::Digest) -> Result<()> {
        let mut file = self.reader(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        rehash(&mut file, &mut hasher).map_err(Error::io("read blob", self.path(digest)))?;
        let actual = hasher.finish();
        if actual == *digest {
            Ok(())
        } else {
            Err(Error::Mismatch {
                expected: digest.clone(),
                actual,
            })
        }
    }
}

/// Identifies this run of the kernel; empty where it can't be told, which counts as another one each time.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io("make folder", path))
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut file = File::create(&temporary)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(Error::io("write", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

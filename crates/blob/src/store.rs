//! The store itself: where blobs are, who writes which, reading.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::SystemTime;

use crate::lease::Pins;
use crate::{Algorithm, Check, Digest, Durability, Error, Ingest, Lease, Result};

/// Mode of a blob whose data is known to be on disk.
pub(crate) const MODE_DURABLE: u32 = 0o444;
/// Mode of a blob that awaits [`Store::sync`].
pub(crate) const MODE_UNSYNCED: u32 = 0o600;

/// A content-addressed store. Cheap to clone. Every method blocks on the file system.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What clones of a [`Store`] share.
#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    /// Keys of ingests that are being written.
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
    pub(crate) pins: Mutex<Pins>,
    pub(crate) unsynced: Mutex<Vec<Digest>>,
    /// Open for as long as the store is: carries the lock.
    _lock: File,
}

/// A blob that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Blob {
    pub digest: Digest,
    pub size_bytes: u64,
    pub modified: SystemTime,
}

/// An interrupted ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Partial {
    pub key: String,
    pub size_bytes: u64,
    pub modified: SystemTime,
}

/// Answer to "I need this blob".
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Claim {
    /// It is here, of this size.
    Present(u64),
    /// The caller is the one to fetch it.
    Ingest(Ingest),
}

impl Inner {
    pub(crate) fn new(root: PathBuf, held: File) -> Inner {
        Inner {
            root,
            busy: Mutex::default(),
            freed: Condvar::new(),
            pins: Mutex::default(),
            unsynced: Mutex::default(),
            _lock: held,
        }
    }

    pub(crate) fn blob_folder(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_folder(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn ingest_path(&self, key: &str) -> PathBuf {
        self.root.join("ingest").join(key)
    }

    pub(crate) fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("stat", path)(e)),
        }
    }

    pub(crate) fn release(&self, key: &str) {
        lock(&self.busy).remove(key);
        self.freed.notify_all();
    }
}

impl Store {
    pub(crate) fn from_inner(inner: Inner) -> Store {
        Store {
            inner: Arc::new(inner),
        }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where a blob is (or would be).
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.blob_path(digest)
    }

    /// Size of a blob; `None`: not here.
    pub fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.size_of(digest)
    }

    /// Opens a blob for reading. An open blob stays readable when it is removed.
    pub fn reader(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NotFound(digest.clone()))
            }
            Err(e) => Err(Error::io("open blob", path)(e)),
        }
    }

    /// Reads a small blob whole and checks it.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>> {
        let file = self.reader(digest)?;
        let path = self.path(digest);
        let size_bytes = file.metadata().map_err(Error::io("stat", &path))?.len();
        if size_bytes > limit_bytes {
            return Err(Error::TooLarge {
                digest: digest.clone(),
                size_bytes,
                limit_bytes,
            });
        }
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.take(limit_bytes)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read blob", path))?;
        let mut hasher = crate::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(Error::Mismatch {
                expected: digest.clone(),
                actual,
            })
        }
    }

    /// Keeps small bytes; returns their SHA-256.
    pub fn put(&self, bytes: &[u8], durability: Durability, lease: &Lease) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let check = Check {
            digest: Some(digest.clone()),
            size_bytes: Some(bytes.len() as u64),
        };
        match self.claim(check, lease)? {
            Claim::Present(_) => Ok(digest),
            Claim::Ingest(mut ingest) => {
                ingest.reset()?;
                ingest.append(bytes)?;
                ingest.commit(durability, lease)
            }
        }
    }

    /// A new, empty lease.
    pub fn lease(&self) -> Lease {
        Lease {
            store: self.inner.clone(),
            held: Mutex::default(),
        }
    }

    /// Asks for a blob whose digest is known (`check.digest` must be set): it is here already, or the caller gets the
    /// ingest to write it. Waits while somebody else is writing it, so that the work is done once.
    pub fn claim(&self, check: Check, lease: &Lease) -> Result<Claim> {
        let digest = check
            .digest
            .clone()
            .ok_or_else(|| Error::InvalidDigest(String::new()))?;
        let key = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        let mut busy = lock(&self.inner.busy);
        while busy.contains(&key) {
            busy = self
                .inner
                .freed
                .wait(busy)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if let Some(size_bytes) = lease.hold(&digest)? {
            return Ok(Claim::Present(size_bytes));
        }
        busy.insert(key.clone());
        drop(busy);
        Ok(Claim::Ingest(Ingest::open(self.inner.clone(), key, check)?))
    }

    /// Opens an ingest by a key of the caller's own, new or interrupted.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody else writes it.
    pub fn ingest(&self, key: &str, check: Check) -> Result<Ingest> {
        check_key(key)?;
        if !lock(&self.inner.busy).insert(key.to_owned()) {
            return Err(Error::Busy(key.to_owned()));
        }
        Ingest::open(self.inner.clone(), key.to_owned(), check)
    }

    /// Size of an interrupted (or running) ingest; `None`: there is none.
    pub fn ingest_size(&self, key: &str) -> Result<Option<u64>> {
        check_key(key)?;
        let path = self.inner.ingest_path(key);
        match std::fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("stat", path)(e)),
        }
    }

    /// Ingests that nobody is writing at this moment.
    pub fn partials(&self) -> Result<Vec<Partial>> {
        let folder = self.root().join("ingest");
        let mut partials = Vec::new();
        for (key, meta) in files_of(&folder)? {
            if !lock(&self.inner.busy).contains(&key) {
                let modified = meta
                    .modified()
                    .map_err(Error::io("stat", folder.join(&key)))?;
                partials.push(Partial {
                    key,
                    size_bytes: meta.len(),
                    modified,
                });
            }
        }
        Ok(partials)
    }

    /// Removes an interrupted ingest; one that is being written is [`Error::Busy`], an absent one is not an error.
    pub fn remove_partial(&self, key: &str) -> Result<()> {
        check_key(key)?;
        // Held over the unlink, so that nobody opens the ingest in between.
        let busy = lock(&self.inner.busy);
        if busy.contains(key) {
            return Err(Error::Busy(key.to_owned()));
        }
        let path = self.inner.ingest_path(key);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove ingest", path)(e))
            }
            _ => Ok(()),
        }
    }

    /// Every blob, in no particular order.
    pub fn list(&self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = self.inner.blob_folder(algorithm);
            for (name, meta) in files_of(&folder)? {
                let Ok(digest) = Digest::parse(&format!("{}:{name}", algorithm.as_str())) else {
                    continue;
                };
                let modified = meta
                    .modified()
                    .map_err(Error::io("stat", folder.join(&name)))?;
                blobs.push(Blob {
                    digest,
                    size_bytes: meta.len(),
                    modified,
                });
            }
        }
        Ok(blobs)
    }

    /// Brings everything committed with [`Durability::Deferred`] to disk (and whatever else the file system holds back).
    pub fn sync(&self) -> Result<()> {
        let pending = std::mem::take(&mut *lock(&self.inner.unsynced));
        let result = self.sync_blobs(&pending);
        if result.is_err() {
            lock(&self.inner.unsynced).extend(pending);
        }
        result
    }

    fn sync_blobs(&self, pending: &[Digest]) -> Result<()> {
        let folder = File::open(self.root()).map_err(Error::io("open", self.root()))?;
        rustix::fs::syncfs(&folder).map_err(Error::io("sync file system of", self.root()))?;
        for digest in pending {
            let path = self.path(digest);
            match std::fs::set_permissions(&path, std::fs::Permissions::from_mode(MODE_DURABLE)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("set mode of", path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A key is a file name: nothing that could leave the folder.
fn check_key(key: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if key.is_empty() || key.len() > 160 || key.starts_with('.') || !key.bytes().all(fine) {
        return Err(Error::InvalidKey(key.chars().take(160).collect()));
    }
    Ok(())
}

fn files_of(folder: &Path) -> Result<Vec<(String, std::fs::Metadata)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match entry.metadata() {
            Ok(meta) if meta.is_file() => files.push((name, meta)),
            Ok(_) => {}
            // Removed between the listing and now.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("stat", entry.path())(e)),
        }
    }
    Ok(files)
}

pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("sync folder", path))
}

/// A poisoned lock only means that another thread panicked; the sets behind these locks are valid after every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

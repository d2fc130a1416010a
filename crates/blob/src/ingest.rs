//! Writing a blob: running digest, size check, commit by rename.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::{Inner, MODE_DURABLE, lock, sync_folder};
use crate::{Algorithm, Digest, Error, Hasher, Lease, Result};

/// When a committed blob reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before `commit` returns.
    Now,
    /// With the next [`crate::Store::sync`], one for many blobs. Until then a loss of power may lose the blob, but never
    /// leaves a damaged one.
    Deferred,
}

/// What a blob must turn out to be.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// Its digest; `None`: whatever comes, hashed with SHA-256.
    pub digest: Option<Digest>,
    /// Its size.
    pub size_bytes: Option<u64>,
}

/// A blob being written. Dropped without `commit` or `abandon` it stays as a partial ingest and is resumed by the next
/// one with its key.
#[derive(Debug)]
pub struct Ingest {
    store: Arc<Inner>,
    key: String,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    check: Check,
    written_bytes: u64,
    done: bool,
}

impl Ingest {
    /// The caller has marked the key as busy; that mark is given back here on every way out.
    pub(crate) fn open(store: Arc<Inner>, key: String, check: Check) -> Result<Ingest> {
        let path = store.ingest_path(&key);
        let opened = (|| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options
                .open(&path)
                .map_err(Error::io("open ingest", &path))?;
            let algorithm = check
                .digest
                .as_ref()
                .map_or(Algorithm::Sha256, Digest::algorithm);
            let mut hasher = Hasher::new(algorithm);
            let written_bytes =
                rehash(&mut file, &mut hasher).map_err(Error::io("read ingest", &path))?;
            Ok((file, hasher, written_bytes))
        })();
        let (file, hasher, written_bytes) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                store.release(&key);
                return Err(e);
            }
        };
        let mut ingest = Ingest {
            store,
            key,
            path,
            file,
            hasher,
            check,
            written_bytes,
            done: false,
        };
        if ingest
            .check
            .size_bytes
            .is_some_and(|size| ingest.written_bytes > size)
        {
            ingest.reset()?;
        }
        Ok(ingest)
    }

    /// Bytes that are here, those of an earlier, interrupted attempt included: where to go on.
    pub fn offset_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// The key this ingest is known by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Throws away what was written and starts from the first byte again.
    pub fn reset(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(Error::io("truncate ingest", &self.path))?;
        let algorithm = self
            .check
            .digest
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm);
        self.hasher = Hasher::new(algorithm);
        self.written_bytes = 0;
        Ok(())
    }

    /// Appends. More bytes than promised are an error at once, not only at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let total_bytes = self.written_bytes + bytes.len() as u64;
        if let Some(expected_bytes) = self.check.size_bytes.filter(|size| total_bytes > *size) {
            return Err(Error::Size {
                what: self.what(),
                expected_bytes,
                actual_bytes: total_bytes,
            });
        }
        if let Err(e) = self.file.write_all(bytes) {
            // A part may have been written that the hash does not know: cut it off, or give up what is here.
            let cut = self
                .file
                .set_len(self.written_bytes)
                .and_then(|()| self.file.seek(std::io::SeekFrom::End(0)));
            if cut.is_err() {
                self.reset()?;
            }
            return Err(Error::io("write ingest", &self.path)(e));
        }
        self.hasher.update(bytes);
        self.written_bytes = total_bytes;
        Ok(())
    }

    /// Copies everything from a reader.
    pub fn append_all(&mut self, from: &mut dyn Read) -> Result<u64> {
        let mut buffer = vec![0; 256 * 1024];
        let mut total_bytes = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(total_bytes),
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io("read data for", &self.path)(e)),
            };
            self.append(&buffer[..count])?;
            total_bytes += count as u64;
        }
    }

    /// A second handle on the bytes written so far (for readers beside the writer).
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::io("open ingest", &self.path))
    }

    /// Digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Checks digest and size and moves the blob to its place, held by `lease`. Wrong bytes are thrown away; too few are
    /// kept, so that the rest can follow.
    ///
    /// # Errors
    /// [`Error::Mismatch`], [`Error::Size`], or the file system's.
    pub fn commit(mut self, durability: Durability, lease: &Lease) -> Result<Digest> {
        if let Some(expected_bytes) = self
            .check
            .size_bytes
            .filter(|size| *size != self.written_bytes)
        {
            return Err(Error::Size {
                what: self.what(),
                expected_bytes,
                actual_bytes: self.written_bytes,
            });
        }
        let actual = self.digest();
        if let Some(expected) = self
            .check
            .digest
            .clone()
            .filter(|expected| *expected != actual)
        {
            self.remove()?;
            return Err(Error::Mismatch { expected, actual });
        }
        lease.pin(&actual);
        self.place(&actual, durability)?;
        self.done = true;
        Ok(actual)
    }

    /// The same with a digest that became known only at the end (a registry's upload).
    pub fn commit_as(
        mut self,
        expected: &Digest,
        durability: Durability,
        lease: &Lease,
    ) -> Result<Digest> {
        if expected.algorithm() != self.digest().algorithm() {
            let mut hasher = Hasher::new(expected.algorithm());
            rehash(&mut self.file, &mut hasher).map_err(Error::io("read ingest", &self.path))?;
            self.hasher = hasher;
        }
        self.check.digest = Some(expected.clone());
        self.commit(durability, lease)
    }

    fn place(&self, digest: &Digest, durability: Durability) -> Result<()> {
        let target = self.store.blob_path(digest);
        if durability == Durability::Now {
            let mode = std::fs::Permissions::from_mode(MODE_DURABLE);
            self.file
                .set_permissions(mode)
                .map_err(Error::io("set mode of", &self.path))?;
            self.file
                .sync_all()
                .map_err(Error::io("sync", &self.path))?;
        } else {
            let mode = std::fs::Permissions::from_mode(crate::store::MODE_UNSYNCED);
            self.file
                .set_permissions(mode)
                .map_err(Error::io("set mode of", &self.path))?;
            lock(&self.store.unsynced).push(digest.clone());
        }
        std::fs::rename(&self.path, &target).map_err(Error::io("rename ingest to", &target))?;
        if durability == Durability::Now {
            sync_folder(&self.store.blob_folder(digest.algorithm()))?;
        }
        Ok(())
    }

    /// Gives up and removes what was written.
    pub fn abandon(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        self.done = true;
        std::fs::remove_file(&self.path).map_err(Error::io("remove ingest", &self.path))
    }

    fn what(&self) -> String {
        self.check
            .digest
            .as_ref()
            .map_or_else(|| self.key.clone(), Digest::to_string)
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes).map_err(|e| match e {
            Error::Io { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.done && self.written_bytes == 0 {
            // Nothing to resume; a failure leaves an empty file that the next attempt takes over.
            let _ = std::fs::remove_file(&self.path);
        }
        self.store.release(&self.key);
    }
}

/// Hashes a file from its start to its end, where it stays positioned.
pub(crate) fn rehash(file: &mut File, hasher: &mut Hasher) -> std::io::Result<u64> {
    file.rewind()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut total_bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(total_bytes),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                total_bytes += count as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

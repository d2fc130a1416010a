//! Records of steps that were done: from a step's key to the image it made. A record is a hint; the image store decides
//! whether the image is still here.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, io_at};

/// What a step's result depends on, as 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// Raised when the meaning of keys changes: older records are never found again.
    const VERSION: u32 = 1;

    /// Of parts in their order; each is delimited, so that no two lists of parts give the same key.
    pub fn of(parts: &[&str]) -> Key {
        let mut hash = Sha256::new();
        hash.update(Self::VERSION.to_le_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Key(hex::encode(hash.finalize()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    image: String,
}

type InWork = Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>;

/// The records below one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
    in_work: InWork,
}

/// Held while a step is worked on: who wants the same waits, and then finds the record.
pub(crate) struct Working {
    key: Key,
    in_work: InWork,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut in_work = self.in_work.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.guard.take());
        // One reference is the map's own: nobody waits.
        if in_work
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            in_work.remove(&self.key);
        }
    }
}

impl Cache {
    pub fn open(root: &Path) -> Result<Cache, Error> {
        let folder = root.join("steps");
        std::fs::create_dir_all(&folder).map_err(io_at("make folder", &folder))?;
        let cache = Cache {
            folder,
            in_work: InWork::default(),
        };
        for (path, _) in cache.files()? {
            // Left by a write that was interrupted.
            if path.extension().is_some_and(|extension| extension == "new") {
                std::fs::remove_file(&path).map_err(io_at("remove", &path))?;
            }
        }
        Ok(cache)
    }

    /// Waits for others that work on the same step, in this build or another.
    pub async fn work_on(&self, key: &Key) -> Working {
        let lock = {
            let mut in_work = self.in_work.lock().unwrap_or_else(PoisonError::into_inner);
            in_work.entry(key.clone()).or_default().clone()
        };
        Working {
            key: key.clone(),
            in_work: self.in_work.clone(),
            guard: Some(lock.lock_owned().await),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.json", key.as_str()))
    }

    /// The image a step made. A record that can't be read is as good as none.
    pub fn find(&self, key: &Key) -> Option<String> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        serde_json::from_slice::<Record>(&bytes)
            .ok()
            .map(|record| record.image)
    }

    /// Remembers a step's image, by write, sync and rename.
    pub fn remember(&self, key: &Key, image: &str) -> Result<(), Error> {
        let path = self.path(key);
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let record = serde_json::json!({ "image": image }).to_string();
        let write = || {
            let mut file = std::fs::File::create(&new)?;
            file.write_all(record.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().map_err(io_at("write", &path))
    }

    /// Removes records whose image `keep` does not want; returns their bytes and images.
    pub fn prune(&self, keep: &dyn Fn(&str) -> bool) -> Result<(u64, Vec<String>), Error> {
        let (mut freed_bytes, mut images) = (0, Vec::new());
        for (path, size_bytes) in self.files()? {
            let record = std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            if record.as_ref().is_some_and(|record| keep(&record.image)) {
                continue;
            }
            std::fs::remove_file(&path).map_err(io_at("remove", &path))?;
            freed_bytes += size_bytes;
            images.extend(record.map(|record| record.image));
        }
        Ok((freed_bytes, images))
    }

    fn files(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let failed = || io_at("list", &self.folder);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let size_bytes = entry.metadata().map_or(0, |meta| meta.len());
            files.push((entry.path(), size_bytes));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_delimited() {
        assert_ne!(Key::of(&["ab", "c"]), Key::of(&["a", "bc"]));
        assert_ne!(Key::of(&["a"]), Key::of(&["a", ""]));
        assert_eq!(Key::of(&["a", "b"]), Key::of(&["a", "b"]));
    }

    #[test]
    fn records_survive_and_broken_ones_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Key::of(&["1"]), Key::of(&["2"]));
        let cache = Cache::open(folder.path()).unwrap();
        cache.remember(&one, "sha256:a").unwrap();
        cache.remember(&two, "sha256:b").unwrap();
        std::fs::write(cache.path(&two), "{\"ima").unwrap();
        std::fs::write(cache.folder.join("x.1.new"), "").unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert_eq!(cache.find(&one).as_deref(), Some("sha256:a"));
        assert_eq!(cache.find(&two), None);
        assert_eq!(cache.files().unwrap().len(), 2);
        let (bytes, images) = cache.prune(&|image| image == "sha256:a").unwrap();
        assert!(bytes > 0 && images.is_empty());
        assert!(cache.find(&one).is_some());
        assert_eq!(cache.prune(&|_| false).unwrap().1, ["sha256:a"]);
    }

    #[tokio::test]
    async fn the_same_step_is_worked_on_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::of(&["x"]);
        let first = cache.work_on(&key).await;
        let other = cache.work_on(&Key::of(&["y"])).await;
        let mut second = Box::pin(cache.work_on(&key));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        drop(second.await);
        drop(other);
        assert!(cache.in_work.lock().unwrap().is_empty());
    }
}

//! What the registry keeps on disk. Content lies once in the blob store; a repository is a folder of small link files,
//! each written whole or not at all:
//!
//! ```text
//! DATA/content/…                                        wharf-blob's store
//! DATA/repositories/NAME/_blobs/sha256/HEX              the repository has this blob (empty file)
//! DATA/repositories/NAME/_manifests/sha256/HEX          … this manifest: its media type
//! DATA/repositories/NAME/_tags/TAG                      digest the tag leads to
//! DATA/repositories/NAME/_referrers/sha256/HEX/sha256-HEX   descriptor of a manifest whose subject is HEX
//! ```
//!
//! No component of a name begins with `_`, so folders of repositories and of links never meet.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wharf_blob::{Algorithm, Digest, Store};

/// Content younger than this is never collected: its manifest may still be on the way.
const COLLECT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// An upload that nobody went on with for this long is given up.
const UPLOAD_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of a registry.
#[derive(Debug)]
pub struct Storage {
    /// Every byte pushed.
    pub blobs: Store,
    repositories: PathBuf,
    temporary: AtomicU64,
}

impl Storage {
    /// Opens (or makes) the folder; gives up old uploads and removes content that nothing links to.
    pub fn open(data: &Path) -> Result<Storage, Box<dyn std::error::Error + Send + Sync>> {
        let repositories = data.join("repositories");
        fs::create_dir_all(&repositories)?;
        let blobs = Store::open(&data.join("content"))?;
        let storage = Storage {
            blobs,
            repositories,
            temporary: AtomicU64::new(0),
        };
        storage.remove_leftovers(data)?;
        storage.collect()?;
        Ok(storage)
    }

    /// Uploads given up, and link files that a crash left half written.
    fn remove_leftovers(
        &self,
        data: &Path,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for partial in self.blobs.partials()? {
            if partial
                .modified
                .elapsed()
                .is_ok_and(|age| age > UPLOAD_LIFETIME)
            {
                self.blobs.remove_partial(&partial.key)?;
            }
        }
        for name in list(data)?.iter().filter(|name| name.starts_with("link-")) {
            fs::remove_file(data.join(name))?;
        }
        Ok(())
    }

    /// Removes content that no repository links to.
    pub fn collect(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let linked = self.linked()?;
        let collected = self
            .blobs
            .collect(&|digest| linked.contains(digest), COLLECT_AFTER)?;
        if collected.blobs > 0 {
            tracing::info!(
                blobs = collected.blobs,
                bytes = collected.size_bytes,
                "removed content nothing links to"
            );
        }
        Ok(())
    }

    /// Every digest that a repository links to.
    fn linked(&self) -> io::Result<HashSet<Digest>> {
        let mut linked = HashSet::new();
        for name in self.names()? {
            for kind in ["_blobs", "_manifests"] {
                for algorithm in Algorithm::ALL.map(Algorithm::as_str) {
                    let digests = list(&self.repository(&name).join(kind).join(algorithm))?;
                    linked.extend(
                        digests
                            .iter()
                            .filter_map(|hex| Digest::parse(&format!("{algorithm}:{hex}")).ok()),
                    );
                }
            }
        }
        Ok(linked)
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.repositories.join(name)
    }

    fn blob_link(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name)
            .join("_blobs")
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    fn manifest_link(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name)
            .join("_manifests")
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    fn tag_link(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_tags").join(tag)
    }

    fn referrers_folder(&self, name: &str, subject: &Digest) -> PathBuf {
        self.repository(name)
            .join("_referrers")
            .join(subject.algorithm().as_str())
            .join(subject.hex())
    }

    /// Whether anything was ever pushed to the repository.
    pub fn has_repository(&self, name: &str) -> bool {
        self.repository(name).join("_manifests").is_dir()
            || self.repository(name).join("_blobs").is_dir()
    }

    /// Whether the repository has the blob.
    pub fn has_blob(&self, name: &str, digest: &Digest) -> bool {
        self.blob_link(name, digest).exists()
    }

    /// Gives the repository a blob that the store holds.
    pub fn link_blob(&self, name: &str, digest: &Digest) -> io::Result<()> {
        self.write(&self.blob_link(name, digest), b"")
    }

    /// Takes a blob from the repository; `false`: it did not have it.
    pub fn unlink_blob(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        remove(&self.blob_link(name, digest))
    }

    /// Media type of a manifest of the repository.
    pub fn media_type(&self, name: &str, digest: &Digest) -> Option<String> {
        fs::read_to_string(self.manifest_link(name, digest)).ok()
    }

    /// Gives the repository a manifest.
    pub fn link_manifest(&self, name: &str, digest: &Digest, media_type: &str) -> io::Result<()> {
        self.write(&self.manifest_link(name, digest), media_type.as_bytes())
    }

    /// Takes a manifest from the repository, with the tags that lead to it; `false`: it did not have it.
    pub fn unlink_manifest(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        // Tags first: a tag must never lead to a manifest that is gone.
        for tag in self.tags(name)? {
            if self.tag(name, &tag).as_ref() == Some(digest) {
                self.untag(name, &tag)?;
            }
        }
        remove(&self.manifest_link(name, digest))
    }

    /// Digest a tag leads to.
    pub fn tag(&self, name: &str, tag: &str) -> Option<Digest> {
        Digest::parse(&fs::read_to_string(self.tag_link(name, tag)).ok()?).ok()
    }

    /// Lets a tag lead to a manifest.
    pub fn set_tag(&self, name: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        self.write(&self.tag_link(name, tag), digest.as_str().as_bytes())
    }

    /// Removes a tag; `false`: there was none.
    pub fn untag(&self, name: &str, tag: &str) -> io::Result<bool> {
        remove(&self.tag_link(name, tag))
    }

    /// Tags of a repository in lexical order.
    pub fn tags(&self, name: &str) -> io::Result<Vec<String>> {
        list(&self.repository(name).join("_tags"))
    }

    /// Remembers a manifest that has a subject.
    pub fn add_referrer(
        &self,
        name: &str,
        subject: &Digest,
        referrer: &Digest,
        descriptor: &[u8],
    ) -> io::Result<()> {
        let file = format!("{}-{}", referrer.algorithm().as_str(), referrer.hex());
        self.write(&self.referrers_folder(name, subject).join(file), descriptor)
    }

    /// Forgets a manifest that had a subject.
    pub fn remove_referrer(
        &self,
        name: &str,
        subject: &Digest,
        referrer: &Digest,
    ) -> io::Result<bool> {
        let file = format!("{}-{}", referrer.algorithm().as_str(), referrer.hex());
        remove(&self.referrers_folder(name, subject).join(file))
    }

    /// Descriptors of the manifests whose subject this is.
    pub fn referrers(&self, name: &str, subject: &Digest) -> io::Result<Vec<Vec<u8>>> {
        let folder = self.referrers_folder(name, subject);
        list(&folder)?
            .into_iter()
            .map(|file| fs::read(folder.join(file)))
            .collect()
    }

    /// Names of all repositories that hold a manifest, in lexical order.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.repositories.join(&folder))? {
                let entry = entry?;
                let Ok(component) = entry.file_name().into_string() else {
                    continue;
                };
                if component == "_manifests" || component == "_blobs" {
                    names.push(folder.clone());
                } else if !component.starts_with('_') && entry.file_type()?.is_dir() {
                    folders.push(if folder.is_empty() {
                        component
                    } else {
                        format!("{folder}/{component}")
                    });
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Writes a link file: whole and on disk before this returns, or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        // Outside every repository: an interrupted write is never listed as a tag.
        let temporary = self
            .repositories
            .with_file_name(format!("link-{}-{number}", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

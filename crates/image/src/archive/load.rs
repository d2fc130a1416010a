//! Loading `docker save` and OCI-layout archives.
//!
//! The index of an archive may come last, so the stream is taken in first: every large file becomes a blob (checked
//! where its name is a digest), small ones stay in memory. Then the images are put together, their layers side by side.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use wharf_blob::{Check, Digest, Durability, Lease};

use super::layout::{self, SavedImage};
use crate::images::Settle;
use crate::intake::{decompress, take_in};
use crate::layers::LayerBlob;
use crate::manifest::{self, Descriptor, Document, LAYERS_MAX};
use crate::store::ManifestRef;
use crate::tar::{Entry, Kind, TarReader};
use crate::{Error, Images, Progress, ProgressSink, Reference, Result};

/// Files of an archive, and how much of small ones is kept.
const FILES_MAX: usize = 100_000;
const SMALL_BYTES: u64 = 8 << 20;
const LINKS_MAX: usize = 8;

/// What a file of the archive became.
#[derive(Debug, Clone)]
enum Item {
    Blob(Digest, u64),
    Link(String),
}

struct Contents<'a> {
    images: &'a Images,
    lease: Lease,
    items: HashMap<String, Item>,
}

/// An image as the archive describes it.
struct Wanted {
    config: Vec<u8>,
    /// Packed layers, lowest first.
    layers: Vec<(Digest, u64)>,
    names: Vec<Reference>,
    manifest: Option<(ManifestRef, Vec<u8>)>,
}

impl Images {
    /// Loads a `docker save` or OCI-layout archive (plain or compressed); returns `Loaded image: …` lines' subjects:
    /// names, or IDs of unnamed images.
    pub fn load(&self, archive: &mut dyn Read, progress: ProgressSink) -> Result<Vec<String>> {
        let (stream, _) = decompress(archive)?;
        let mut contents = Contents {
            images: self,
            lease: self.inner.blobs.lease(),
            items: HashMap::new(),
        };
        let wanted = contents.take_in(stream).and_then(|()| contents.wanted());
        let loaded = wanted.and_then(|wanted| {
            let mut loaded = Vec::new();
            for image in wanted {
                loaded.extend(contents.load_image(image, &progress)?);
            }
            Ok(loaded)
        });
        let items = std::mem::take(&mut contents.items);
        drop(contents);
        // What no image took over goes at once, also after a failure.
        self.drop_unused(&items)?;
        loaded
    }

    fn drop_unused(&self, items: &HashMap<String, Item>) -> Result<()> {
        let used = self.inner.read(|state| {
            let layers = state
                .layers
                .values()
                .filter_map(|entry| entry.record.blob.as_ref().map(|blob| blob.digest.clone()));
            let images = state.images.values().flat_map(|image| {
                image
                    .record
                    .manifests
                    .iter()
                    .map(|m| m.digest.clone())
                    .chain([image.record.id.clone()])
            });
            layers.chain(images).collect::<HashSet<String>>()
        });
        for item in items.values() {
            if let Item::Blob(digest, _) = item
                && !used.contains(digest.as_str())
            {
                self.inner.blobs.remove_unless_held(digest)?;
            }
        }
        Ok(())
    }
}

impl Contents<'_> {
    fn take_in(&mut self, stream: Box<dyn Read + '_>) -> Result<()> {
        let mut reader = TarReader::new(std::io::BufReader::with_capacity(256 * 1024, stream));
        while let Some(entry) = reader.next_entry()? {
            let path =
                crate::unpack::clean(&entry.path).and_then(|path| String::from_utf8(path).ok());
            let path = path.ok_or_else(|| {
                Error::Invalid("archive refused: a path in it leaves the archive".to_owned())
            })?;
            if self.items.len() >= FILES_MAX {
                return Err(Error::Invalid(format!(
                    "archive refused: more than {FILES_MAX} files"
                )));
            }
            match entry.kind {
                Kind::File => self.take_file(path, &entry, &mut reader)?,
                Kind::Symlink | Kind::HardLink => self.take_link(path, &entry)?,
                Kind::Folder => {}
                _ => {
                    return Err(Error::Invalid(format!(
                        "archive refused: {path} is neither file, folder nor link"
                    )));
                }
            }
        }
        Ok(())
    }

    fn take_file<R: Read>(
        &mut self,
        path: String,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        let expected = path
            .strip_prefix("blobs/")
            .map(|rest| rest.replacen('/', ":", 1));
        let expected = expected.map(|text| Digest::parse(&text)).transpose()?;
        let blobs = &self.images.inner.blobs;
        let key = format!(
            "load-{}-{}",
            std::process::id(),
            self.images.inner.next_number()
        );
        let check = Check {
            digest: expected,
            size_bytes: Some(entry.size_bytes),
        };
        let mut ingest = blobs.ingest(&key, check)?;
        ingest.reset()?;
        let mut buffer = vec![0; 256 * 1024];
        let copied = loop {
            match reader.read_data(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(e) = ingest.append(&buffer[..count]) {
                        break Err(Error::from(e));
                    }
                }
                Err(e) => break Err(e),
            }
        };
        if let Err(e) = copied {
            ingest.abandon()?;
            return Err(e);
        }
        let digest = ingest.commit(Durability::Deferred, &self.lease)?;
        self.items
            .insert(path, Item::Blob(digest, entry.size_bytes));
        Ok(())
    }

    /// Older archives share layers by links.
    fn take_link(&mut self, path: String, entry: &Entry) -> Result<()> {
        let (folder, _) = crate::unpack::split(path.as_bytes());
        let target = match entry.kind {
            Kind::HardLink => entry.link.clone(),
            _ => [folder, b"/", entry.link.as_slice()].concat(),
        };
        let target =
            crate::unpack::clean(&target).and_then(|target| String::from_utf8(target).ok());
        let target = target.ok_or_else(|| {
            Error::Invalid(format!(
                "archive refused: the link {path} leaves the archive"
            ))
        })?;
        self.items.insert(path, Item::Link(target));
        Ok(())
    }

    fn find(&self, path: &str) -> Result<(Digest, u64)> {
        let mut path = crate::unpack::clean(path.as_bytes())
            .and_then(|path| String::from_utf8(path).ok())
            .ok_or_else(|| Error::Invalid(format!("invalid archive: {path} leaves it")))?;
        for _ in 0..LINKS_MAX {
            match self.items.get(&path) {
                Some(Item::Blob(digest, size_bytes)) => return Ok((digest.clone(), *size_bytes)),
                Some(Item::Link(target)) => path = target.clone(),
                None => break,
            }
        }
        Err(Error::Invalid(format!(
            "invalid archive: {path} is missing"
        )))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let (digest, _) = self.find(path)?;
        Ok(self.images.inner.blobs.read(&digest, SMALL_BYTES)?)
    }

    fn wanted(&self) -> Result<Vec<Wanted>> {
        if self.items.contains_key(layout::MANIFEST) {
            return self.wanted_by_docker();
        }
        if self.items.contains_key(layout::INDEX) {
            return self.wanted_by_oci();
        }
        Err(Error::Invalid(
            "invalid archive: neither manifest.json nor index.json is in it".to_owned(),
        ))
    }

    fn wanted_by_docker(&self) -> Result<Vec<Wanted>> {
        let saved: Vec<SavedImage> = serde_json::from_slice(&self.read(layout::MANIFEST)?)
            .map_err(|e| {
                Error::Invalid(format!("invalid archive: malformed manifest.json: {e}"))
            })?;
        // An archive of both kinds also has the manifests, so that the image can be pushed with the same digest.
        let oci = if self.items.contains_key(layout::INDEX) {
            self.wanted_by_oci().unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut wanted = Vec::new();
        for image in saved {
            let config = self.read(&image.config)?;
            let paths = image.layers.unwrap_or_default();
            if paths.len() > LAYERS_MAX {
                return Err(Error::Invalid(format!(
                    "invalid archive: more than {LAYERS_MAX} layers"
                )));
            }
            let layers = paths
                .iter()
                .map(|path| self.find(path))
                .collect::<Result<Vec<_>>>()?;
            let mut names = Vec::new();
            for name in image.repo_tags.unwrap_or_default() {
                names.push(Reference::parse(&name)?.or_latest());
            }
            let twin = oci
                .iter()
                .find(|other| other.config == config && other.layers == layers);
            let manifest = twin.and_then(|other| other.manifest.clone());
            wanted.push(Wanted {
                config,
                layers,
                names,
                manifest,
            });
        }
        Ok(wanted)
    }

    fn wanted_by_oci(&self) -> Result<Vec<Wanted>> {
        let Document::Index(index) = manifest::parse(&self.read(layout::INDEX)?, "")? else {
            return Err(Error::Invalid(
                "invalid archive: index.json is not an index".to_owned(),
            ));
        };
        let mut wanted = Vec::new();
        for entry in &index.manifests {
            let names = names_of(entry)?;
            if let Some(image) = self.wanted_image(entry, names, 0)? {
                wanted.push(image);
            }
        }
        Ok(wanted)
    }

    /// Follows an entry down to the image for this machine. `None`: not an image.
    fn wanted_image(
        &self,
        entry: &Descriptor,
        names: Vec<Reference>,
        depth: usize,
    ) -> Result<Option<Wanted>> {
        let path = layout::blob_path(&entry.digest);
        let bytes = self.read(&path)?;
        let manifest = match manifest::parse(&bytes, &entry.media_type)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) if depth < 3 => {
                let chosen = manifest::select(&index, &manifest::parse_platform(None)?)?;
                return self.wanted_image(chosen, names, depth + 1);
            }
            Document::Index(_) => {
                return Err(Error::Invalid(
                    "invalid archive: indexes are nested too deeply".to_owned(),
                ));
            }
        };
        let is_image = matches!(
            manifest.config.media_type.as_str(),
            manifest::OCI_CONFIG | manifest::DOCKER_CONFIG | ""
        );
        if !is_image {
            return Ok(None);
        }
        let config = self.read(&layout::blob_path(&manifest.config.digest))?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self.find(&layout::blob_path(&layer.digest)));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let media_type = manifest::media_type_of(&Document::Manifest(manifest)).to_owned();
        let size_bytes = bytes.len() as u64;
        let reference = ManifestRef {
            digest: Digest::of(&bytes).to_string(),
            media_type,
            size_bytes,
        };
        Ok(Some(Wanted {
            config,
            layers,
            names,
            manifest: Some((reference, bytes)),
        }))
    }

    fn load_image(&self, wanted: Wanted, progress: &ProgressSink) -> Result<Vec<String>> {
        let config = manifest::parse_config(&wanted.config)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != wanted.layers.len() {
            return Err(Error::Invalid(format!(
                "invalid archive: invalid manifest, layers length mismatch: expected {}, got {}",
                diff_ids.len(),
                wanted.layers.len()
            )));
        }
        let inner = &self.images.inner;
        let (_hold, here) = inner.hold(diff_ids);
        let missing: Vec<usize> = (0..diff_ids.len())
            .filter(|i| !here.contains(&diff_ids[*i]))
            .collect();
        self.unpack_missing(&missing, diff_ids, &wanted.layers, progress)?;
        let id = Digest::of(&wanted.config).to_string();
        let manifest = match &wanted.manifest {
            Some((reference, bytes)) => {
                inner.blobs.put(bytes, Durability::Deferred, &self.lease)?;
                Some(reference.clone())
            }
            None => None,
        };
        self.images
            .register(&wanted.config, None, Settle::Soon, manifest)?;
        if wanted.names.is_empty() {
            return Ok(vec![id]);
        }
        self.images.name(&id, &wanted.names)?;
        Ok(wanted.names.iter().map(Reference::familiar).collect())
    }

    fn unpack_missing(
        &self,
        missing: &[usize],
        diff_ids: &[String],
        layers: &[(Digest, u64)],
        progress: &ProgressSink,
    ) -> Result<()> {
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(missing.len());
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(i) = missing.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                self.unpack_one(&diff_ids[*i], &layers[*i], progress)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let panicked = || Error::Invalid("unpacking a layer failed".to_owned());
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| panicked())?)
        })
    }

    fn unpack_one(
        &self,
        diff_id: &str,
        layer: &(Digest, u64),
        progress: &ProgressSink,
    ) -> Result<()> {
        let inner = &self.images.inner;
        let (digest, size_bytes) = layer;
        let mut reader = LoudReader {
            input: inner.blobs.reader(digest)?,
            current_bytes: 0,
            told_bytes: 0,
            total_bytes: *size_bytes,
            id: diff_id
                .trim_start_matches("sha256:")
                .chars()
                .take(12)
                .collect(),
            progress,
        };
        let intake = take_in(&mut reader, inner.stage()?)?;
        reader.tell();
        if intake.diff_id != diff_id {
            return Err(Error::Invalid(format!(
                "invalid archive: a layer's digest does not match: expected {diff_id}, got {}",
                intake.diff_id
            )));
        }
        let blob = intake.compression.media_type().map(|media_type| LayerBlob {
            digest: digest.to_string(),
            size_bytes: *size_bytes,
            media_type: media_type.to_owned(),
        });
        inner.adopt(intake, blob).map(|_| ())
    }
}

/// The whole name where it is given, else the tag-or-name of the specification where it is a whole name.
fn names_of(entry: &Descriptor) -> Result<Vec<Reference>> {
    let annotation = |key: &str| {
        entry
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(key))
    };
    if let Some(name) = annotation(layout::IMAGE_NAME) {
        return Ok(vec![Reference::parse(name)?.or_latest()]);
    }
    let whole = annotation(layout::REF_NAME).filter(|name| name.contains(['/', ':']));
    Ok(whole
        .and_then(|name| Reference::parse(name).ok())
        .map(Reference::or_latest)
        .into_iter()
        .collect())
}

/// Tells of its progress, about a hundred times in all.
struct LoudReader<'a> {
    input: std::fs::File,
    current_bytes: u64,
    told_bytes: u64,
    total_bytes: u64,
    id: String,
    progress: &'a ProgressSink,
}

impl LoudReader<'_> {
    fn tell(&mut self) {
        self.told_bytes = self.current_bytes;
        (self.progress)(Progress {
            id: Some(self.id.clone()),
            status: "Loading layer".to_owned(),
            current_bytes: Some(self.current_bytes),
            total_bytes: Some(self.total_bytes),
        });
    }
}

impl Read for LoudReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.current_bytes += count as u64;
        if self.current_bytes - self.told_bytes > (self.total_bytes / 100).max(512 * 1024) {
            self.tell();
        }
        Ok(count)
    }
}

//! Writing archives that both Docker (`manifest.json`) and OCI tools (`index.json`) can load.

use std::collections::HashSet;
use std::io::{Read, Write};

use super::layout::{self, SavedImage};
use crate::layers::LayerBlob;
use crate::manifest::{
    Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST,
};
use crate::mountpoints::Mountpoints;
use crate::store::Stored;
use crate::tar::{Entry, Kind, TarWriter};
use crate::{Error, Images, Reference, Result};

impl Images {
    /// Writes an archive that both Docker (`manifest.json`) and OCI tools (`index.json`) can load. A name without a tag
    /// (`nginx`) means its `latest`; an ID saves the image without names.
    pub fn save(&self, names: &[String], archive: &mut dyn Write) -> Result<()> {
        let mut images: Vec<(std::sync::Arc<Stored>, Vec<Reference>)> = Vec::new();
        for name in names {
            let id = self.resolve_id(name)?;
            let is_id = id
                .trim_start_matches("sha256:")
                .starts_with(name.trim_start_matches("sha256:"));
            let reference = if is_id {
                None
            } else {
                Reference::parse(name).ok().map(Reference::or_latest)
            };
            // The archive's names are tags only.
            let reference = reference.filter(|reference| reference.digest.is_none());
            match images.iter_mut().find(|(stored, _)| stored.record.id == id) {
                Some((_, references)) => references.extend(reference),
                None => images.push((self.stored(&id)?, reference.into_iter().collect())),
            }
        }
        let mut saver = Saver {
            images: self,
            tar: TarWriter::new(archive),
            written: HashSet::new(),
        };
        let mut saved = Vec::new();
        let mut entries = Vec::new();
        for (stored, references) in &images {
            saver.write_image(stored, references, &mut saved, &mut entries)?;
        }
        let index = Index {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests: entries,
        };
        saver.write_small(layout::OCI_LAYOUT, layout::OCI_LAYOUT_TEXT.as_bytes())?;
        saver.write_small(layout::INDEX, &json(&index)?)?;
        saver.write_small(layout::MANIFEST, &json(&saved)?)?;
        saver.tar.finish()?;
        Ok(())
    }

    /// The packed form of a layer that is in the content store, or its plain tar, to be made from its folder.
    pub(crate) fn packed_or_plain(&self, diff_id: &str) -> Result<LayerBlob> {
        let record = self.inner.layer_record(diff_id)?;
        let plain = LayerBlob {
            digest: record.diff_id.clone(),
            size_bytes: record.tar_bytes,
            media_type: OCI_LAYER_TAR.to_owned(),
        };
        Ok(record
            .blob
            .filter(|blob| self.inner.has_blob(&blob.digest))
            .unwrap_or(plain))
    }
}

struct Saver<'a> {
    images: &'a Images,
    tar: TarWriter<&'a mut dyn Write>,
    /// Digests that are in the archive.
    written: HashSet<String>,
}

impl Saver<'_> {
    fn write_image(
        &mut self,
        stored: &Stored,
        references: &[Reference],
        saved: &mut Vec<SavedImage>,
        entries: &mut Vec<Descriptor>,
    ) -> Result<()> {
        let mut layers = Vec::new();
        for diff_id in stored.config.rootfs().diff_ids() {
            let blob = self.images.packed_or_plain(diff_id)?;
            self.write_layer(diff_id, &blob)?;
            layers.push(blob);
        }
        let id = &stored.record.id;
        self.write_blob(id, &stored.config_bytes)?;
        let manifest = self.manifest_of(stored, &layers)?;
        let digest = wharf_blob::Digest::of(&manifest.0).to_string();
        self.write_blob(&digest, &manifest.0)?;
        saved.push(SavedImage {
            config: layout::blob_path(id),
            repo_tags: (!references.is_empty())
                .then(|| references.iter().map(Reference::familiar).collect()),
            layers: Some(
                layers
                    .iter()
                    .map(|blob| layout::blob_path(&blob.digest))
                    .collect(),
            ),
        });
        let mut entry = Descriptor {
            media_type: manifest.1,
            digest,
            size: manifest.0.len() as u64,
            annotations: None,
            platform: None,
        };
        if references.is_empty() {
            entries.push(entry.clone());
        }
        for reference in references {
            let pairs = [
                (layout::IMAGE_NAME, reference.to_string()),
                (layout::REF_NAME, reference.selector().to_owned()),
            ];
            entry.annotations = Some(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            );
            entries.push(entry.clone());
        }
        Ok(())
    }

    /// The manifest the image came with, if it speaks of these very blobs; else a new one.
    fn manifest_of(&self, stored: &Stored, layers: &[LayerBlob]) -> Result<(Vec<u8>, String)> {
        if let Some((bytes, reference)) = self.images.matching_manifest(stored, layers)? {
            return Ok((bytes, reference.media_type));
        }
        let describe = |media_type: &str, digest: &str, size| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: None,
            platform: None,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: describe(
                OCI_CONFIG,
                &stored.record.id,
                stored.config_bytes.len() as u64,
            ),
            layers: layers
                .iter()
                .map(|l| describe(oci_layer_type(&l.media_type), &l.digest, l.size_bytes))
                .collect(),
        };
        Ok((json(&manifest)?, OCI_MANIFEST.to_owned()))
    }

    fn write_layer(&mut self, diff_id: &str, blob: &LayerBlob) -> Result<()> {
        if !self.written.insert(blob.digest.clone()) {
            return Ok(());
        }
        self.tar
            .begin(&file(&layout::blob_path(&blob.digest), blob.size_bytes))?;
        let digest = wharf_blob::Digest::parse(&blob.digest)?;
        if self.images.inner.has_blob(&blob.digest) {
            let mut reader = self.images.inner.blobs.reader(&digest)?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let count = reader
                    .read(&mut buffer)
                    .map_err(crate::error::io(format!("read blob {digest}")))?;
                if count == 0 {
                    return Ok(());
                }
                self.tar.data(&buffer[..count])?;
            }
        }
        let tree = self.images.inner.layer_tree(diff_id)?;
        let mut checked = Checked {
            tar: &mut self.tar,
            hasher: wharf_blob::Hasher::new(digest.algorithm()),
        };
        crate::diff::write_layer_at(&tree, Mountpoints::default(), &mut checked)?;
        let actual = checked.hasher.finish();
        if actual != digest {
            return Err(Error::Invalid(format!(
                "the unpacked layer {diff_id} was changed from outside (it is {actual} now); remove and pull or build the image again"
            )));
        }
        Ok(())
    }

    fn write_blob(&mut self, digest: &str, bytes: &[u8]) -> Result<()> {
        if self.written.insert(digest.to_owned()) {
            self.write_small(&layout::blob_path(digest), bytes)
        } else {
            Ok(())
        }
    }

    fn write_small(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.tar.begin(&file(path, bytes.len() as u64))?;
        self.tar.data(bytes)
    }
}

/// Passes a layer's tar on and hashes it.
struct Checked<'a, 'b> {
    tar: &'a mut TarWriter<&'b mut dyn Write>,
    hasher: wharf_blob::Hasher,
}

impl Write for Checked<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(bytes);
        self.tar.data(bytes).map_err(|e| match e {
            Error::Io { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// OCI's name for Docker's layer types.
pub(crate) fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        crate::manifest::DOCKER_LAYER_GZIP => crate::manifest::OCI_LAYER_GZIP,
        other => other,
    }
}

fn file(path: &str, size_bytes: u64) -> Entry {
    let mut entry = Entry::new(Kind::File, path.as_bytes().to_vec());
    (entry.mode, entry.size_bytes) = (0o644, size_bytes);
    entry
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::Invalid(format!("can't write the archive's index: {e}")))
}

//! Packing a layer for a registry: once, then the packed form is kept and keeps its digest.

use std::io::{BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use wharf_blob::{Check, Digest, Durability, Hasher, Ingest};

use crate::error::{io, io_at};
use crate::layers::LayerBlob;
use crate::manifest::{OCI_LAYER_GZIP, OCI_LAYER_TAR};
use crate::mountpoints::Mountpoints;
use crate::{Error, Images, Result};

/// Between the fastest and gzip's usual level: twice as fast as that for a few hundredths more bytes.
const LEVEL: u32 = 4;

/// One lock for each layer that is being packed.
pub(crate) type Packing = Mutex<std::collections::HashMap<String, Arc<Mutex<()>>>>;

impl Images {
    /// The packed form of a layer, made if there is none. Layers that came packed stay as they came.
    pub(crate) fn pack(&self, diff_id: &str) -> Result<LayerBlob> {
        let turn = lock(&self.inner.packing)
            .entry(diff_id.to_owned())
            .or_default()
            .clone();
        let _turn = lock(&turn);
        let result = self.pack_alone(diff_id);
        lock(&self.inner.packing).remove(diff_id);
        result
    }

    fn pack_alone(&self, diff_id: &str) -> Result<LayerBlob> {
        let record = self.inner.layer_record(diff_id)?;
        let kept = record.blob.filter(|blob| self.inner.has_blob(&blob.digest));
        if let Some(blob) = kept
            .as_ref()
            .filter(|blob| blob.media_type != OCI_LAYER_TAR)
        {
            return Ok(blob.clone());
        }
        let lease = self.inner.blobs.lease();
        let key = format!("pack-{}-{}", std::process::id(), self.inner.next_number());
        let mut ingest = self.inner.blobs.ingest(&key, Check::default())?;
        ingest.reset()?;
        let packed = match &kept {
            Some(plain) => {
                let path = self.inner.blobs.path(&Digest::parse(&plain.digest)?);
                compress_file(&path, &mut ingest)
            }
            None => self.compress_tree(diff_id, &mut ingest),
        };
        if let Err(e) = packed {
            ingest.abandon()?;
            return Err(e);
        }
        let size_bytes = ingest.offset_bytes();
        let digest = ingest.commit(Durability::Deferred, &lease)?.to_string();
        let blob = LayerBlob {
            digest,
            size_bytes,
            media_type: OCI_LAYER_GZIP.to_owned(),
        };
        self.inner
            .update_layer(diff_id, |record| record.blob = Some(blob.clone()))?;
        if let Some(plain) = kept {
            // The packed form says the same in fewer bytes.
            self.inner
                .blobs
                .remove_unless_held(&Digest::parse(&plain.digest)?)?;
        }
        Ok(blob)
    }

    fn compress_tree(&self, diff_id: &str, ingest: &mut Ingest) -> Result<()> {
        let expected = Digest::parse(diff_id)?;
        let mut output = Hashed {
            output: GzEncoder::new(ingest, Level::new(LEVEL)),
            hasher: Hasher::new(expected.algorithm()),
        };
        crate::diff::write_layer_at(
            &self.inner.layer_tree(diff_id)?,
            Mountpoints::default(),
            &mut output,
        )?;
        let Hashed { output, hasher } = output;
        output.finish().map_err(io("compress a layer"))?;
        let actual = hasher.finish();
        if actual != expected {
            return Err(Error::Invalid(format!(
                "the unpacked layer {diff_id} was changed from outside (it is {actual} now); remove and pull or build \
                 the image again"
            )));
        }
        Ok(())
    }
}

fn compress_file(path: &std::path::Path, ingest: &mut Ingest) -> Result<()> {
    let mut file = BufReader::new(std::fs::File::open(path).map_err(io_at("open", path))?);
    let mut output = GzEncoder::new(ingest, Level::new(LEVEL));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(io_at("read", path))?;
        if count == 0 {
            break;
        }
        output
            .write_all(&buffer[..count])
            .map_err(io("compress a layer"))?;
    }
    output.finish().map_err(io("compress a layer")).map(|_| ())
}

struct Hashed<W> {
    output: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

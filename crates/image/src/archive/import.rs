//! One-layer images made of a root file system archive, and layers made of a stream.

use std::io::Read;

use oci_spec::image::{HistoryBuilder, ImageConfiguration};
use wharf_blob::{Check, Durability, Ingest};

use crate::error::io;
use crate::images::Settle;
use crate::intake::take_in;
use crate::layers::{Hold, LayerBlob, LayerRecord};
use crate::store::Inner;
use crate::{Error, Image, Images, Reference, Result};

impl Images {
    /// Makes a one-layer image of a root file system archive. `config` is completed: layer, history, times.
    pub fn import(
        &self,
        archive: &mut dyn Read,
        config: ImageConfiguration,
        target: Option<&Reference>,
    ) -> Result<Image> {
        let (layer, _hold) = ingest_layer(&self.inner, archive)?;
        let mut config = config;
        let now = jiff::Timestamp::now().to_string();
        if config.created().is_none() {
            config.set_created(Some(now.clone()));
        }
        config
            .rootfs_mut()
            .set_diff_ids(vec![layer.diff_id.clone()]);
        if config
            .history()
            .as_ref()
            .is_none_or(|history| history.is_empty())
        {
            let history = HistoryBuilder::default()
                .created(now)
                .comment("Imported from -")
                .build();
            let history = history
                .map_err(|e| Error::Invalid(format!("malformed image configuration: {e}")))?;
            config.set_history(Some(vec![history]));
        }
        let bytes = serde_json::to_vec(&config)
            .map_err(|e| Error::Invalid(format!("malformed image configuration: {e}")))?;
        let id = wharf_blob::Digest::of(&bytes).to_string();
        self.register(&bytes, None, Settle::Now, None)?;
        if let Some(target) = target {
            self.name(&id, &[target.clone().or_latest()])?;
        }
        self.image(&id)
    }
}

/// Reads a packed or plain layer once: it is kept as it came, hashed, unpacked and registered.
pub(crate) fn ingest_layer<'i>(
    inner: &'i Inner,
    archive: &mut dyn Read,
) -> Result<(LayerRecord, Hold<'i>)> {
    let lease = inner.blobs.lease();
    let key = format!("stream-{}-{}", std::process::id(), inner.next_number());
    let mut ingest = inner.blobs.ingest(&key, Check::default())?;
    ingest.reset()?;
    let staged = inner.stage()?;
    let mut tee = Tee {
        input: archive,
        ingest: &mut ingest,
    };
    let intake = take_in(&mut tee, staged).and_then(|intake| {
        // A compressed stream may go on after the end of what it compresses.
        std::io::copy(&mut tee, &mut std::io::sink()).map_err(io("read archive"))?;
        Ok(intake)
    });
    let intake = match intake {
        Ok(intake) => intake,
        Err(e) => {
            ingest.abandon()?;
            return Err(e);
        }
    };
    let size_bytes = ingest.offset_bytes();
    let digest = ingest.commit(Durability::Deferred, &lease)?;
    let blob = intake.compression.media_type().map(|media_type| LayerBlob {
        digest: digest.to_string(),
        size_bytes,
        media_type: media_type.to_owned(),
    });
    inner.adopt(intake, blob)
}

/// Keeps what passes.
struct Tee<'a> {
    input: &'a mut dyn Read,
    ingest: &'a mut Ingest,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.ingest.append(&buffer[..count]).map_err(|e| match e {
            wharf_blob::Error::Io { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        Ok(count)
    }
}

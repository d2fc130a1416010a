//! Push.
use crate::layers::LayerBlob;
use crate::store::{ManifestRef, Stored};
use crate::*;
impl Images {
    /// x
    pub async fn push(
        &self,
        _reference: &Reference,
        _credentials: Option<Credentials>,
        _progress: ProgressSink,
    ) -> Result<PushResult> {
        todo!()
    }
    /// A kept manifest that speaks of exactly these layers.
    pub(crate) fn matching_manifest(
        &self,
        stored: &Stored,
        layers: &[LayerBlob],
    ) -> Result<Option<(Vec<u8>, ManifestRef)>> {
        for reference in &stored.record.manifests {
            let digest = wharf_blob::Digest::parse(&reference.digest)?;
            if !self.inner.has_blob(&reference.digest) {
                continue;
            }
            let bytes = self
                .inner
                .blobs
                .read(&digest, crate::manifest::MANIFEST_BYTES_MAX)?;
            let crate::manifest::Document::Manifest(manifest) =
                crate::manifest::parse(&bytes, &reference.media_type)?
            else {
                continue;
            };
            let same_layers = manifest
                .layers
                .iter()
                .map(|layer| &layer.digest)
                .eq(layers.iter().map(|layer| &layer.digest));
            if same_layers && manifest.config.digest == stored.record.id {
                return Ok(Some((bytes, reference.clone())));
            }
        }
        Ok(None)
    }
}

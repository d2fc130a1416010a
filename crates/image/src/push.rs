//! Push: layers side by side, packed once, sent only where the registry lacks them.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;
use wharf_blob::{Digest, Durability};

use crate::images::Settle;
use crate::layers::LayerBlob;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::pull::blocking;
use crate::reference::HUB;
use crate::registry::{Purpose, Session, Upload};
use crate::store::{ManifestRef, Stored};
use crate::{Credentials, Error, Images, Progress, ProgressSink, PushResult, Reference, Result};

/// Layers of one push that are sent at the same time.
const PARALLEL: usize = 5;
const STEP_BYTES: u64 = 512 * 1024;

impl Images {
    /// Sends an image: layers in parallel, those that the registry has are not sent (HEAD, then cross-repository mount).
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        progress: ProgressSink,
    ) -> Result<PushResult> {
        let reference = reference.clone().or_latest();
        let Some(tag) = reference.tag.clone() else {
            return Err(Error::Invalid("cannot push a digest reference".to_owned()));
        };
        let id = self
            .inner
            .read(|state| state.names.get(&reference.to_string()).cloned());
        let Some(id) = id else {
            let name = reference.familiar_name();
            return Err(Error::NothingToPush(name));
        };
        (progress)(Progress {
            status: format!("The push refers to repository [{}]", reference.name()),
            ..Progress::default()
        });
        let anonymous = !credentials
            .as_ref()
            .is_some_and(crate::registry::is_meaningful);
        if reference.registry == HUB && anonymous {
            return Err(Error::Denied(refused_at_hub(&reference)));
        }
        let mut sessions = self
            .inner
            .registries
            .sessions(&reference, credentials, Purpose::Push)
            .await?;
        let session = sessions
            .pop()
            .ok_or_else(|| Error::NotFound(reference.familiar()))?;
        let stored = self.stored(&id)?;
        let pushing = Pushing {
            images: self,
            session,
            reference: &reference,
            progress,
        };
        pushing
            .run(&stored, tag)
            .await
            .map_err(|e| in_dockers_words(e, &reference))
    }

    /// A kept manifest that speaks of exactly these layers.
    pub(crate) fn matching_manifest(
        &self,
        stored: &Stored,
        layers: &[LayerBlob],
    ) -> Result<Option<(Vec<u8>, ManifestRef)>> {
        for reference in &stored.record.manifests {
            if !self.inner.has_blob(&reference.digest) {
                continue;
            }
            let digest = Digest::parse(&reference.digest)?;
            let bytes = self
                .inner
                .blobs
                .read(&digest, manifest::MANIFEST_BYTES_MAX)?;
            let Document::Manifest(manifest) = manifest::parse(&bytes, &reference.media_type)?
            else {
                continue;
            };
            let same_layers = manifest
                .layers
                .iter()
                .map(|l| &l.digest)
                .eq(layers.iter().map(|l| &l.digest));
            if same_layers && manifest.config.digest == stored.record.id {
                return Ok(Some((bytes, reference.clone())));
            }
        }
        Ok(None)
    }
}

struct Pushing<'a> {
    images: &'a Images,
    session: Session,
    reference: &'a Reference,
    progress: ProgressSink,
}

impl Pushing<'_> {
    async fn run(&self, stored: &Arc<Stored>, tag: String) -> Result<PushResult> {
        let diff_ids = stored.config.rootfs().diff_ids().clone();
        let (_hold, _) = self.images.inner.hold(&diff_ids);
        let layers = self.layers(&diff_ids).await?;
        let config = stored.config_bytes.clone();
        if !self.session.has_blob(&stored.record.id).await? {
            self.session.upload_bytes(&stored.record.id, config).await?;
        }
        let (images, image) = (self.images.clone(), stored.clone());
        let (bytes, record) = blocking(move || images.manifest_to_push(&image, &layers)).await?;
        self.session
            .put_manifest(&tag, &bytes, &record.media_type)
            .await?;
        let result = PushResult {
            digest: record.digest.clone(),
            size_bytes: record.size_bytes,
            tag,
        };
        let names = [self.reference.by_digest(&record.digest)];
        let (images, image) = (self.images.clone(), stored.clone());
        blocking(move || {
            images.register(&image.config_bytes, None, Settle::Soon, Some(record))?;
            images.name(&image.record.id, &names)
        })
        .await?;
        let (tag, digest, size) = (&result.tag, &result.digest, result.size_bytes);
        (self.progress)(Progress {
            status: format!("{tag}: digest: {digest} size: {size}"),
            ..Progress::default()
        });
        Ok(result)
    }

    /// Sends what is missing; returns the packed form of each layer.
    async fn layers(&self, diff_ids: &[String]) -> Result<Vec<LayerBlob>> {
        let limit = Arc::new(Semaphore::new(PARALLEL));
        let mut seen = HashSet::new();
        let unique: Vec<&String> = diff_ids
            .iter()
            .filter(|diff_id| seen.insert(diff_id.as_str()))
            .collect();
        for diff_id in unique.iter().rev() {
            self.say(diff_id, "Preparing");
        }
        for diff_id in unique.iter().rev().skip(PARALLEL) {
            self.say(diff_id, "Waiting");
        }
        let mut running: FuturesUnordered<_> = unique
            .iter()
            .rev()
            .map(|diff_id| self.layer((*diff_id).clone(), limit.clone()))
            .collect();
        let mut sent = std::collections::HashMap::new();
        while let Some(result) = running.next().await {
            let (diff_id, blob) = result?;
            sent.insert(diff_id, blob);
        }
        let packed = |diff_id: &String| {
            sent.get(diff_id)
                .cloned()
                .ok_or_else(|| Error::LayerNotFound(diff_id.clone()))
        };
        diff_ids.iter().map(packed).collect()
    }

    async fn layer(&self, diff_id: String, limit: Arc<Semaphore>) -> Result<(String, LayerBlob)> {
        let _permit = limit.acquire().await;
        let (images, id) = (self.images.clone(), diff_id.clone());
        let blob = blocking(move || images.pack(&id)).await?;
        let status = self.send(&diff_id, &blob).await?;
        self.say(&diff_id, &status);
        let source = self.reference.name();
        let (inner, id) = (self.images.inner.clone(), diff_id.clone());
        blocking(move || {
            if inner.layer_record(&id)?.sources.contains(&source) {
                return Ok(());
            }
            inner.update_layer(&id, |record| record.add_source(source))
        })
        .await?;
        Ok((diff_id, blob))
    }

    /// Gets a blob to the registry in the cheapest way; says which one it was.
    async fn send(&self, diff_id: &str, blob: &LayerBlob) -> Result<String> {
        if self.session.has_blob(&blob.digest).await? {
            return Ok("Layer already exists".to_owned());
        }
        let origin = self.origin(diff_id)?;
        let at = match self
            .session
            .begin_upload(&blob.digest, origin.as_deref())
            .await
        {
            Ok(Upload::Mounted) => {
                return Ok(format!("Mounted from {}", origin.unwrap_or_default()));
            }
            Ok(Upload::At(at)) => at,
            // A mount may be refused where an upload is not.
            Err(Error::Answer {
                status: 401..=405, ..
            }) if origin.is_some() => match self.session.begin_upload(&blob.digest, None).await? {
                Upload::At(at) => at,
                Upload::Mounted => return Ok("Layer already exists".to_owned()),
            },
            Err(e) => return Err(e),
        };
        let path = self.images.inner.blobs.path(&Digest::parse(&blob.digest)?);
        self.session
            .upload_file(at, &blob.digest, &path, self.sent(diff_id, blob.size_bytes))
            .await?;
        Ok("Pushed".to_owned())
    }

    /// Another repository of the same registry that is known to have the blob.
    fn origin(&self, diff_id: &str) -> Result<Option<String>> {
        let prefix = format!("{}/", self.reference.registry);
        let sources = self.images.inner.layer_record(diff_id)?.sources;
        let repositories = sources
            .iter()
            .filter_map(|source| source.strip_prefix(&prefix));
        Ok(repositories
            .map(str::to_owned)
            .find(|repository| *repository != self.reference.repository))
    }

    fn sent(&self, diff_id: &str, total_bytes: u64) -> crate::registry::Sent {
        let (progress, id) = (self.progress.clone(), short(diff_id));
        let told = std::sync::atomic::AtomicU64::new(0);
        Arc::new(move |current_bytes| {
            let before = told.load(std::sync::atomic::Ordering::Relaxed);
            if current_bytes == total_bytes || current_bytes.abs_diff(before) >= STEP_BYTES {
                told.store(current_bytes, std::sync::atomic::Ordering::Relaxed);
                progress(Progress {
                    id: Some(id.clone()),
                    status: "Pushing".to_owned(),
                    current_bytes: Some(current_bytes),
                    total_bytes: Some(total_bytes),
                });
            }
        })
    }

    fn say(&self, diff_id: &str, status: &str) {
        (self.progress)(Progress {
            id: Some(short(diff_id)),
            status: status.to_owned(),
            ..Progress::default()
        });
    }
}

impl Images {
    /// The manifest the image came with or was last pushed as, if it fits; else a new one, kept for the next time.
    fn manifest_to_push(
        &self,
        stored: &Stored,
        layers: &[LayerBlob],
    ) -> Result<(Vec<u8>, ManifestRef)> {
        let stored = self.stored(&stored.record.id)?;
        if let Some(found) = self.matching_manifest(&stored, layers)? {
            return Ok(found);
        }
        // Docker's types reach every registry and client; only zstd has no word there.
        let docker = layers
            .iter()
            .all(|layer| layer.media_type == manifest::OCI_LAYER_GZIP);
        let (media_type, config_type) = if docker {
            (manifest::DOCKER_MANIFEST, manifest::DOCKER_CONFIG)
        } else {
            (manifest::OCI_MANIFEST, manifest::OCI_CONFIG)
        };
        let describe = |media_type: &str, digest: &str, size| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: None,
            platform: None,
        };
        let layer_type = |layer: &LayerBlob| {
            if docker {
                manifest::DOCKER_LAYER_GZIP.to_owned()
            } else {
                layer.media_type.clone()
            }
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type.to_owned(),
            config: describe(
                config_type,
                &stored.record.id,
                stored.config_bytes.len() as u64,
            ),
            layers: layers
                .iter()
                .map(|l| describe(&layer_type(l), &l.digest, l.size_bytes))
                .collect(),
        };
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|e| Error::Invalid(format!("can't write a manifest: {e}")))?;
        let lease = self.inner.blobs.lease();
        let digest = self
            .inner
            .blobs
            .put(&bytes, Durability::Deferred, &lease)?
            .to_string();
        let reference = ManifestRef {
            digest,
            media_type: media_type.to_owned(),
            size_bytes: bytes.len() as u64,
        };
        // In the image's record before the lease ends.
        self.register(
            &stored.config_bytes,
            None,
            Settle::Soon,
            Some(reference.clone()),
        )?;
        Ok((bytes, reference))
    }
}

fn short(diff_id: &str) -> String {
    diff_id
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect()
}

fn refused_at_hub(reference: &Reference) -> String {
    let familiar = reference.familiar();
    let app = reference.repository.rsplit('/').next().unwrap_or_default();
    let tag = reference.tag.as_deref().unwrap_or("latest");
    format!(
        "push access denied for {}, repository does not exist or may require authorization: denied: requested access \
         to the resource is denied; log in with `docker login`, then `docker tag {familiar} USER/{app}:{tag}` and \
         `docker push USER/{app}:{tag}` with your own USER",
        reference.familiar_name()
    )
}

fn in_dockers_words(error: Error, reference: &Reference) -> Error {
    match error {
        Error::Answer {
            answer,
            status: 401 | 403,
            ..
        } => Error::Denied(format!(
            "push access denied for {}, repository does not exist or may require authorization: {answer}",
            reference.familiar_name()
        )),
        other => other,
    }
}

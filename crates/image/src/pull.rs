//! Pull: resolve → manifest → layers side by side, each one stream.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;
use wharf_blob::{Digest, Durability};

use crate::fetch::{Fetch, fetch_layer};
use crate::images::Settle;
use crate::manifest::{self, CONFIG_BYTES_MAX, Descriptor, Document, Manifest};
use crate::registry::{FetchedManifest, Purpose, Session};
use crate::store::ManifestRef;
use crate::{
    Credentials, Error, Image, Images, Progress, ProgressSink, PullResult, Reference, Result,
};

/// Layers of one pull that are fetched at the same time.
const PARALLEL: usize = 4;
const INDEX_DEPTH_MAX: usize = 3;

impl Images {
    /// Fetches an image: resolve → manifest → layers in parallel, each one stream of download, hash,
    /// decompress, hash, unpack. Resumes a layer that broke off. Returns the image and whether it is new.
    /// Progress ends with Docker's `Digest:` and `Status:` lines.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&str>,
        credentials: Option<Credentials>,
        progress: ProgressSink,
    ) -> Result<(Image, PullResult)> {
        let reference = reference.clone().or_latest();
        let platform = manifest::parse_platform(platform)?;
        let say = |id: Option<&str>, status: String| {
            progress(Progress {
                id: id.map(str::to_owned),
                status,
                ..Progress::default()
            });
        };
        say(
            Some(reference.selector()),
            format!("Pulling from {}", reference.repository),
        );
        let has_credentials = credentials.as_ref().is_some_and(|c| !c.username.is_empty());
        let sessions = self
            .inner
            .registries
            .sessions(&reference, credentials, Purpose::Pull)
            .await?;
        let mut result = Err(Error::NotFound(reference.familiar()));
        for session in sessions {
            let is_mirror = session.is_mirror();
            let pulling = Pulling {
                images: self,
                session,
                reference: &reference,
                platform: &platform,
                progress: &progress,
            };
            result = pulling.run().await;
            match &result {
                Err(error) if is_mirror => {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "a mirror could not serve the image"
                    );
                }
                _ => break,
            }
        }
        let (image, result) =
            result.map_err(|e| in_dockers_words(e, &reference, has_credentials))?;
        say(None, format!("Digest: {}", result.digest));
        let outcome = if result.newer {
            "Downloaded newer image for"
        } else {
            "Image is up to date for"
        };
        say(None, format!("Status: {outcome} {}", reference.familiar()));
        Ok((image, result))
    }
}

struct Pulling<'a> {
    images: &'a Images,
    session: Session,
    reference: &'a Reference,
    platform: &'a manifest::Platform,
    progress: &'a ProgressSink,
}

impl Pulling<'_> {
    async fn run(&self) -> Result<(Image, PullResult)> {
        let first = self.session.manifest(self.reference.selector()).await?;
        let digest = first.digest.to_string();
        let (fetched, manifest) = self.choose(first).await?;
        let config = self.config(&manifest).await?;
        let parsed = manifest::parse_config(&config)?;
        let os = parsed.os().to_string();
        if os != "linux" {
            return Err(Error::Invalid(format!(
                "image operating system {os:?} cannot be used on this platform"
            )));
        }
        let diff_ids = parsed.rootfs().diff_ids().clone();
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::Invalid(format!(
                "malformed image: {} layers in its manifest, {} in its configuration",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let lease = Arc::new(self.images.inner.blobs.lease());
        // Until the image is registered, nothing else keeps its layers.
        let (_hold, here) = self.images.inner.hold(&diff_ids);
        let fetched_any = self.layers(&manifest, &diff_ids, &here, &lease).await?;
        let record = ManifestRef {
            digest: fetched.digest.to_string(),
            media_type: manifest::media_type_of(&Document::Manifest(manifest)).to_owned(),
            size_bytes: fetched.bytes.len() as u64,
        };
        let images = self.images.clone();
        let names = [self.reference.clone(), self.reference.by_digest(&digest)];
        let names: Vec<Reference> = names
            .into_iter()
            .filter(|name| name.tag.is_none() || name.digest.is_none())
            .collect();
        let (image, is_new) = blocking(move || {
            images
                .inner
                .blobs
                .put(&fetched.bytes, Durability::Deferred, &lease)?;
            let is_new = images.register(&config, None, Settle::Soon, Some(record))?;
            let id = Digest::of(&config).to_string();
            let was_named = images
                .inner
                .read(|state| state.names.get(&names[0].to_string()) == Some(&id));
            images.name(&id, &names)?;
            Ok((images.image(&id)?, is_new || !was_named))
        })
        .await?;
        Ok((
            image,
            PullResult {
                digest,
                newer: is_new || fetched_any,
            },
        ))
    }

    /// Follows indexes down to the manifest for the platform.
    async fn choose(&self, mut fetched: FetchedManifest) -> Result<(FetchedManifest, Manifest)> {
        for _ in 0..INDEX_DEPTH_MAX {
            match manifest::parse(&fetched.bytes, &fetched.content_type)? {
                Document::Manifest(manifest) => return Ok((fetched, manifest)),
                Document::Index(index) => {
                    let digest = manifest::select(&index, self.platform)?.digest.clone();
                    Digest::parse(&digest)?;
                    fetched = self.session.manifest(&digest).await?;
                }
            }
        }
        Err(Error::Invalid(
            "malformed image: its indexes are nested too deeply".to_owned(),
        ))
    }

    async fn config(&self, manifest: &Manifest) -> Result<Vec<u8>> {
        let descriptor = &manifest.config;
        if !matches!(
            descriptor.media_type.as_str(),
            manifest::OCI_CONFIG | manifest::DOCKER_CONFIG | ""
        ) {
            let kind = &descriptor.media_type;
            return Err(Error::Invalid(format!(
                "{} is not a container image but {kind}",
                self.reference.familiar()
            )));
        }
        let digest = Digest::parse(&descriptor.digest)?;
        let (blobs, wanted) = (self.images.inner.blobs.clone(), digest.clone());
        let kept = blocking(move || Ok(blobs.read(&wanted, CONFIG_BYTES_MAX).ok())).await?;
        if let Some(bytes) = kept {
            return Ok(bytes);
        }
        self.session.small_blob(&digest, CONFIG_BYTES_MAX).await
    }

    /// Brings all layers here; says whether any was missing.
    async fn layers(
        &self,
        manifest: &Manifest,
        diff_ids: &[String],
        here: &std::collections::HashSet<String>,
        lease: &Arc<wharf_blob::Lease>,
    ) -> Result<bool> {
        let limit = Arc::new(Semaphore::new(PARALLEL));
        let mut running = FuturesUnordered::new();
        let mut seen = std::collections::HashSet::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let short = short(descriptor);
            let say = |status: &str| {
                (self.progress)(Progress {
                    id: Some(short.clone()),
                    status: status.to_owned(),
                    ..Progress::default()
                });
            };
            if here.contains(diff_id) {
                self.note_source(descriptor, diff_id, lease).await?;
                say("Already exists");
                continue;
            }
            if !seen.insert(diff_id) {
                continue;
            }
            say("Pulling fs layer");
            if running.len() >= PARALLEL {
                say("Waiting");
            }
            running.push(self.layer(
                descriptor.clone(),
                diff_id.clone(),
                limit.clone(),
                lease.clone(),
            ));
        }
        let any = !running.is_empty();
        while let Some(result) = running.next().await {
            result?;
        }
        Ok(any)
    }

    async fn layer(
        &self,
        descriptor: Descriptor,
        diff_id: String,
        limit: Arc<Semaphore>,
        lease: Arc<wharf_blob::Lease>,
    ) -> Result<()> {
        let _permit = limit.acquire().await;
        let fetch = Fetch {
            inner: self.images.inner.clone(),
            session: self.session.clone(),
            id: short(&descriptor),
            digest: Digest::parse(&descriptor.digest)?,
            size_bytes: descriptor.size,
            diff_id: diff_id.clone(),
            progress: self.progress.clone(),
            lease: lease.clone(),
        };
        fetch_layer(fetch).await?;
        self.note_source(&descriptor, &diff_id, &lease).await
    }

    /// Remembers that this repository has the layer: a push to the same registry mounts it from there.
    async fn note_source(
        &self,
        descriptor: &Descriptor,
        diff_id: &str,
        lease: &Arc<wharf_blob::Lease>,
    ) -> Result<()> {
        let source = self.reference.name();
        let record = self.images.inner.layer_record(diff_id)?;
        let same = record
            .blob
            .as_ref()
            .is_none_or(|blob| blob.digest == descriptor.digest);
        if !same || self.session.is_mirror() || record.sources.contains(&source) {
            return Ok(());
        }
        let (inner, lease) = (self.images.inner.clone(), lease.clone());
        let (digest, diff_id) = (Digest::parse(&descriptor.digest)?, diff_id.to_owned());
        blocking(move || {
            // What is noted is a place of the very blob that a push would send.
            if lease.hold(&digest)?.is_some() {
                inner.update_layer(&diff_id, |record| record.add_source(source))?;
            }
            Ok(())
        })
        .await
    }
}

/// Runs file-system work beside the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Registry {
            operation: "work on the image store".to_owned(),
            source: Box::new(e),
        }),
    }
}

/// The layer's short ID in progress lines.
pub(crate) fn short(descriptor: &Descriptor) -> String {
    let digits = descriptor
        .digest
        .split_once(':')
        .map_or("", |(_, digits)| digits);
    digits.chars().take(12).collect()
}

/// Registries answer with codes; people know Docker's sentences for them.
pub(crate) fn in_dockers_words(
    error: Error,
    reference: &Reference,
    has_credentials: bool,
) -> Error {
    let Error::Answer {
        operation,
        answer,
        status,
        code,
    } = error
    else {
        return error;
    };
    let name = reference.familiar_name();
    match (code.as_str(), status) {
        ("MANIFEST_UNKNOWN", _) => Error::RegistryNotFound(format!(
            "manifest for {} not found: {answer}",
            reference.familiar()
        )),
        ("NAME_UNKNOWN", _) => {
            Error::RegistryNotFound(format!("repository {name} not found: {answer}"))
        }
        ("", 404) => {
            let familiar = reference.familiar();
            Error::RegistryNotFound(format!(
                "manifest for {familiar} not found: manifest unknown: {answer}"
            ))
        }
        ("DENIED", _) | (_, 403) => Error::Denied(denied(&name)),
        // Without credentials a registry that hides what exists asks for them.
        ("UNAUTHORIZED", _) | (_, 401) if !has_credentials => Error::Denied(denied(&name)),
        ("UNAUTHORIZED", _) | (_, 401) => Error::Denied(format!("{operation}: {answer}")),
        _ => Error::Answer {
            operation,
            answer,
            status,
            code,
        },
    }
}

fn denied(name: &str) -> String {
    format!(
        "pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested \
         access to the resource is denied"
    )
}

//! What registries tell without anything being fetched: tags, an image's descriptor, whether a login is right.

use wharf_blob::Digest;

use crate::manifest::{self, CONFIG_BYTES_MAX, Document};
use crate::pull::in_dockers_words;
use crate::registry::{Purpose, Session};
use crate::{Credentials, Error, Images, Reference, RemoteImage, Result};

impl Images {
    /// Tags of a repository in its registry (for `pull --all-tags`).
    pub async fn remote_tags(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Vec<String>> {
        let has_credentials = credentials.as_ref().is_some_and(|c| !c.username.is_empty());
        let sessions = self
            .inner
            .registries
            .sessions(reference, credentials, Purpose::Pull)
            .await?;
        let mut result = Err(Error::NotFound(reference.familiar()));
        for session in sessions {
            result = session.tags().await;
            if result.is_ok() {
                break;
            }
        }
        result.map_err(|e| in_dockers_words(e, reference, has_credentials))
    }

    /// Checks credentials against a registry (`""` or the hub's address: docker.io).
    pub async fn login(&self, server: &str, credentials: Credentials) -> Result<()> {
        let session = self
            .inner
            .registries
            .login_session(server, credentials)
            .await?;
        session.check_login().await.map_err(|e| match e {
            Error::Answer {
                operation,
                answer,
                status: 401 | 403,
                ..
            } => Error::Denied(format!("{operation}: {answer}")),
            other => other,
        })
    }

    /// What a reference leads to in its registry.
    pub async fn remote_image(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<RemoteImage> {
        let reference = reference.clone().or_latest();
        let has_credentials = credentials.as_ref().is_some_and(|c| !c.username.is_empty());
        let sessions = self
            .inner
            .registries
            .sessions(&reference, credentials, Purpose::Pull)
            .await?;
        let mut result = Err(Error::NotFound(reference.familiar()));
        for session in sessions {
            result = describe(&session, reference.selector()).await;
            if result.is_ok() {
                break;
            }
        }
        result.map_err(|e| in_dockers_words(e, &reference, has_credentials))
    }
}

async fn describe(session: &Session, selector: &str) -> Result<RemoteImage> {
    let fetched = session.manifest(selector).await?;
    let document = manifest::parse(&fetched.bytes, &fetched.content_type)?;
    let media_type = manifest::media_type_of(&document).to_owned();
    let platforms = match document {
        Document::Index(index) => {
            let platforms = index.manifests.into_iter().filter_map(|m| m.platform);
            platforms.collect()
        }
        Document::Manifest(manifest) => {
            let digest = Digest::parse(&manifest.config.digest)?;
            let config = session.small_blob(&digest, CONFIG_BYTES_MAX).await?;
            let platform = serde_json::from_slice(&config)
                .map_err(|e| Error::Invalid(format!("malformed image configuration: {e}")))?;
            vec![platform]
        }
    };
    Ok(RemoteImage {
        media_type,
        digest: fetched.digest.to_string(),
        size_bytes: fetched.bytes.len() as u64,
        platforms,
    })
}

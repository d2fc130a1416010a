//! Sending blobs: mount from another repository, or upload (distribution-spec, "Pushing a blob").

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::io::AsyncReadExt;

use super::session::Session;
use super::{answer, retry};
use crate::{Error, Result};

const CHUNK_BYTES: usize = 256 * 1024;

/// How an upload begins.
pub(crate) enum Upload {
    /// The registry had the blob in the other repository.
    Mounted,
    /// Bytes go here.
    At(Url),
}

/// Called with the bytes sent so far.
pub(crate) type Sent = Arc<dyn Fn(u64) + Send + Sync>;

impl Session {
    /// Begins an upload; with `from`, asks to mount the blob from that repository instead.
    pub(crate) async fn begin_upload(&self, digest: &str, from: Option<&str>) -> Result<Upload> {
        let url = self.url("blobs/uploads/");
        let operation = format!("Post {url:?}");
        let mut scopes = self.push_scope();
        let mut query = Vec::new();
        if let Some(from) = from {
            query = vec![("mount", digest), ("from", from)];
            scopes.push(format!("repository:{from}:pull"));
        }
        let build =
            |client: &reqwest::Client| client.post(&url).query(&query).header(CONTENT_LENGTH, 0);
        let response = self.request(&operation, &scopes, build).await?;
        match response.status() {
            StatusCode::CREATED if from.is_some() => Ok(Upload::Mounted),
            StatusCode::ACCEPTED => Ok(Upload::At(self.location(&operation, &response)?)),
            _ => Err(answer::error(&operation, response).await),
        }
    }

    fn location(&self, operation: &str, response: &Response) -> Result<Url> {
        let text = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let text = text
            .ok_or_else(|| Error::Invalid(format!("{operation}: the answer names no location")))?;
        self.locate(response.url(), text)
    }

    /// Uploads a file; on a broken way or a busy registry from the start again, with a new upload.
    pub(crate) async fn upload_file(
        &self,
        mut at: Url,
        digest: &str,
        path: &std::path::Path,
        sent: Sent,
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.try_upload(&at, digest, path, sent.clone()).await {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            let passing = match &error {
                Error::Registry { .. } => true,
                Error::Answer { status, .. } => retry::is_transient(*status),
                _ => false,
            };
            if !passing || attempt >= retry::ATTEMPTS_MAX {
                return Err(error);
            }
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                digest,
                "an upload is repeated"
            );
            tokio::time::sleep(retry::delay(attempt)).await;
            match self.begin_upload(digest, None).await? {
                Upload::At(url) => at = url,
                Upload::Mounted => return Ok(()),
            }
        }
    }

    async fn try_upload(
        &self,
        at: &Url,
        digest: &str,
        path: &std::path::Path,
        sent: Sent,
    ) -> Result<()> {
        let file = std::fs::File::open(path).map_err(crate::error::io_at("open", path))?;
        let size_bytes = file
            .metadata()
            .map_err(crate::error::io_at("stat", path))?
            .len();
        let operation = format!("Patch \"{}\"", without_query(at));
        let response = self
            .request_at(&operation, Method::PATCH, at, |request| {
                let body = file.try_clone().map(|file| body_of(file, sent.clone()));
                let request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, size_bytes);
                match body {
                    Ok(body) => request.body(body),
                    Err(_) => request,
                }
            })
            .await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(answer::error(&operation, response).await);
        }
        let at = self.location(&operation, &response)?;
        self.finish_upload(at, digest, Bytes::new()).await
    }

    /// Uploads bytes in memory.
    pub(crate) async fn upload_bytes(&self, digest: &str, bytes: Bytes) -> Result<()> {
        match self.begin_upload(digest, None).await? {
            Upload::Mounted => Ok(()),
            Upload::At(at) => self.finish_upload(at, digest, bytes).await,
        }
    }

    async fn finish_upload(&self, mut at: Url, digest: &str, bytes: Bytes) -> Result<()> {
        at.query_pairs_mut().append_pair("digest", digest);
        let operation = format!("Put \"{}\"", without_query(&at));
        let response = self
            .request_at(&operation, Method::PUT, &at, |request| {
                request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, bytes.len())
                    .body(bytes.clone())
            })
            .await?;
        if response.status() == StatusCode::CREATED {
            Ok(())
        } else {
            Err(answer::error(&operation, response).await)
        }
    }
}

/// An upload's query may hold a secret of the registry.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// The file from its start, telling how far it is.
fn body_of(file: std::fs::File, sent: Sent) -> Body {
    let stream = futures_util::stream::try_unfold(
        (None::<tokio::fs::File>, Some(file), 0u64),
        move |state| {
            let sent = sent.clone();
            async move {
                let (open, fresh, done_bytes) = state;
                let mut file = match (open, fresh) {
                    (Some(file), _) => file,
                    (None, Some(file)) => {
                        let mut file = tokio::fs::File::from_std(file);
                        // A clone shares the position with the attempt before.
                        tokio::io::AsyncSeekExt::rewind(&mut file).await?;
                        file
                    }
                    (None, None) => return Ok(None),
                };
                let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
                if file.read_buf(&mut chunk).await? == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                let done_bytes = done_bytes + chunk.len() as u64;
                sent(done_bytes);
                Ok(Some((chunk.freeze(), (Some(file), None, done_bytes))))
            }
        },
    );
    Body::wrap_stream(stream)
}

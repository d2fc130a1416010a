//! Uploading blobs (distribution-spec, "Pushing blobs"): at once, as one stream, in chunks, or by mounting from another
//! repository.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use futures_util::StreamExt;
use wharf_blob::{Check, Digest, Durability, Ingest};

use crate::Registry;
use crate::error::{Outcome, Refusal};
use crate::request::{Query, empty, header_value};
use crate::route::check_name;

/// Uploads kept open between requests, so that going on does not read again what is there.
const PARKED_MAX: usize = 64;
/// Chunks that may wait between the network and the disk.
const CHUNKS_WAITING_MAX: usize = 16;

/// Uploads between two requests.
#[derive(Debug, Default)]
pub struct Parked(Mutex<HashMap<String, Ingest>>);

impl Parked {
    fn take(&self, id: &str) -> Option<Ingest> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    fn put(&self, ingest: Ingest) {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() >= PARKED_MAX {
            // Dropped, not lost: the next request reads it from the disk.
            let oldest = parked.keys().next().cloned();
            oldest.and_then(|key| parked.remove(&key));
        }
        parked.insert(ingest.key().to_owned(), ingest);
    }
}

/// `POST …/blobs/uploads/`: begins an upload, takes a whole blob at once, or mounts one.
pub async fn begin(
    registry: Arc<Registry>,
    name: String,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    if let Some(digest) = query.get("mount") {
        let digest = Digest::parse(digest)?;
        let from = query.get("from").map(check_name).transpose()?;
        if let Some(response) = mount(&registry, &name, from.as_deref(), &digest)? {
            return Ok(response);
        }
    }
    let id = new_id()?;
    if let Some(digest) = query.get("digest") {
        return finish(
            registry,
            name,
            id,
            true,
            Digest::parse(digest)?,
            headers,
            body,
        )
        .await;
    }
    let ingest = registry.storage.blobs.ingest(&id, Check::default())?;
    registry.parked.put(ingest);
    progress(StatusCode::ACCEPTED, &name, &id, 0)
}

/// A blob that another repository has is linked, not sent. `None`: it has not, so an upload begins.
fn mount(
    registry: &Registry,
    name: &str,
    from: Option<&str>,
    digest: &Digest,
) -> Outcome<Option<Response<Body>>> {
    let storage = &registry.storage;
    let lease = storage.blobs.lease();
    let present = lease.hold(digest)?.is_some();
    let linked =
        from.is_some_and(|from| storage.has_blob(from, digest)) || storage.has_blob(name, digest);
    if !present || !linked {
        return Ok(None);
    }
    storage.link_blob(name, digest)?;
    created(name, digest).map(Some)
}

/// `PATCH …/blobs/uploads/ID`: goes on.
pub async fn append(
    registry: Arc<Registry>,
    name: String,
    id: String,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let ingest = reopen(&registry, &id)?;
    if let Err(refusal) = check_range(&headers, ingest.offset_bytes()) {
        let offset = ingest.offset_bytes();
        registry.parked.put(ingest);
        return Err(with_position(refusal, &name, &id, offset));
    }
    let (ingest, outcome) = receive(ingest, body).await?;
    let offset = ingest.offset_bytes();
    registry.parked.put(ingest);
    outcome?;
    progress(StatusCode::ACCEPTED, &name, &id, offset)
}

/// `PUT …/blobs/uploads/ID?digest=…`: the last chunk, or none, and the digest.
pub async fn finish(
    registry: Arc<Registry>,
    name: String,
    id: String,
    new: bool,
    digest: Digest,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let ingest = match new {
        true => registry.storage.blobs.ingest(&id, Check::default())?,
        false => reopen(&registry, &id)?,
    };
    if let Err(refusal) = check_range(&headers, ingest.offset_bytes()) {
        let offset = ingest.offset_bytes();
        registry.parked.put(ingest);
        return Err(with_position(refusal, &name, &id, offset));
    }
    let (ingest, outcome) = receive(ingest, body).await?;
    if let Err(refusal) = outcome {
        registry.parked.put(ingest);
        return Err(refusal);
    }
    crate::blocking(move || {
        let lease = registry.storage.blobs.lease();
        ingest.commit_as(&digest, Durability::Now, &lease)?;
        registry.storage.link_blob(&name, &digest)?;
        created(&name, &digest)
    })
    .await
}

/// `GET …/blobs/uploads/ID`: how far it is.
pub fn status(registry: &Registry, name: &str, id: &str) -> Outcome {
    let offset = registry
        .storage
        .blobs
        .ingest_size(id)?
        .ok_or_else(|| Refusal::upload_unknown(id))?;
    progress(StatusCode::NO_CONTENT, name, id, offset)
}

/// `DELETE …/blobs/uploads/ID`: gives up.
pub fn cancel(registry: &Registry, id: &str) -> Outcome {
    reopen(registry, id)?.abandon()?;
    empty(StatusCode::NO_CONTENT, &[])
}

fn reopen(registry: &Registry, id: &str) -> Outcome<Ingest> {
    if let Some(ingest) = registry.parked.take(id) {
        return Ok(ingest);
    }
    registry
        .storage
        .blobs
        .ingest_size(id)?
        .ok_or_else(|| Refusal::upload_unknown(id))?;
    Ok(registry.storage.blobs.ingest(id, Check::default())?)
}

/// Writes the body to the ingest on a thread that may block. A client that breaks off leaves what came so far.
async fn receive(mut ingest: Ingest, body: Body) -> Outcome<(Ingest, Outcome<()>)> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(CHUNKS_WAITING_MAX);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            if let Err(error) = ingest.append(&chunk) {
                return (ingest, Err(Refusal::from(error)));
            }
        }
        (ingest, Ok(()))
    });
    let mut stream = body.into_data_stream();
    let mut broken = None;
    while let Some(chunk) = stream.next().await {
        match chunk {
            // Refused only when the writer failed; its error is the one that counts.
            Ok(chunk) => {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(Refusal::upload_invalid(format!(
                    "the upload broke off: {error}"
                )));
                break;
            }
        }
    }
    drop(sender);
    let (ingest, outcome) = writer.await.map_err(|e| Refusal::internal(&e))?;
    Ok((ingest, outcome.and(broken.map_or(Ok(()), Err))))
}

/// A chunk says where it begins; it must be where the upload is.
fn check_range(headers: &HeaderMap, offset_bytes: u64) -> Outcome<()> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else {
        return Ok(());
    };
    let range = range.to_str().unwrap_or_default();
    let numbers = range
        .strip_prefix("bytes ")
        .unwrap_or(range)
        .split('/')
        .next()
        .and_then(|r| r.split_once('-'));
    let parsed = numbers
        .and_then(|(start, end)| Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()?)));
    match parsed {
        Some((start, end)) if start == offset_bytes && (end >= start || end + 1 == start) => Ok(()),
        Some(_) => Err(Refusal::range_invalid(format!(
            "range {range} does not go on at byte {offset_bytes}"
        ))),
        None => Err(Refusal::range_invalid(format!(
            "Content-Range {range:?} is not START-END"
        ))),
    }
}

fn with_position(mut refusal: Refusal, name: &str, id: &str, offset_bytes: u64) -> Refusal {
    refusal
        .headers
        .push((header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}")));
    refusal.headers.push((
        header::RANGE,
        format!("0-{}", offset_bytes.saturating_sub(1)),
    ));
    refusal
}

fn progress(status: StatusCode, name: &str, id: &str, offset_bytes: u64) -> Outcome {
    let mut response = empty(
        status,
        &[
            (header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}")),
            (
                header::RANGE,
                format!("0-{}", offset_bytes.saturating_sub(1)),
            ),
        ],
    )?;
    response
        .headers_mut()
        .insert("docker-upload-uuid", header_value(id)?);
    Ok(response)
}

fn created(name: &str, digest: &Digest) -> Outcome {
    let mut response = empty(
        StatusCode::CREATED,
        &[(header::LOCATION, format!("/v2/{name}/blobs/{digest}"))],
    )?;
    response
        .headers_mut()
        .insert("docker-content-digest", header_value(digest.as_str())?);
    Ok(response)
}

/// 128 random bits: an upload can't be guessed by who did not begin it.
fn new_id() -> Outcome<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(range: &str, offset: u64) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
        check_range(&headers, offset).is_ok()
    }

    #[test]
    fn chunks_follow_each_other() {
        assert!(outcome("0-9", 0));
        assert!(outcome("bytes 10-19/*", 10));
        assert!(!outcome("10-19", 0));
        assert!(!outcome("5-19", 10));
        assert!(!outcome("x", 0));
        assert!(check_range(&HeaderMap::new(), 5).is_ok());
    }
}

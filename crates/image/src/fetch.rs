//! One layer on its way here: download → hash → (decompress → hash → unpack), each byte touched once.
//!
//! Three workers pass chunks on: the async one receives and resumes, the second hashes and keeps the packed bytes, the
//! third decompresses and unpacks. What the second has kept survives a crash; the next pull goes on from there.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_blob::{Check, Claim, Digest, Durability, Ingest, Lease};

use crate::error::io;
use crate::intake::{Intake, take_in};
use crate::layers::LayerBlob;
use crate::pull::blocking;
use crate::registry::{ATTEMPTS_MAX, Session, retry_delay};
use crate::store::Inner;
use crate::{Error, Progress, ProgressSink, Result};

/// Chunks under way between two workers.
const CHUNKS: usize = 64;
/// Progress is told once in so many bytes.
const STEP_BYTES: u64 = 512 * 1024;

/// Which layer, from where.
#[derive(Clone)]
pub(crate) struct Fetch {
    pub inner: Arc<Inner>,
    pub session: Session,
    /// Short ID in progress lines.
    pub id: String,
    pub digest: Digest,
    pub size_bytes: u64,
    pub diff_id: String,
    pub progress: ProgressSink,
    pub lease: Arc<Lease>,
}

impl Fetch {
    fn say(&self, status: &str) {
        (self.progress)(Progress {
            id: Some(self.id.clone()),
            status: status.to_owned(),
            ..Progress::default()
        });
    }

    fn tell(&self, status: &str, current_bytes: u64) {
        (self.progress)(Progress {
            id: Some(self.id.clone()),
            status: status.to_owned(),
            current_bytes: Some(current_bytes),
            total_bytes: Some(self.size_bytes),
        });
    }
}

/// Brings a layer here, unpacked and registered. Of a layer that is not what it should be nothing is kept.
pub(crate) async fn fetch_layer(fetch: Fetch) -> Result<()> {
    let claiming = fetch.clone();
    let claim = blocking(move || {
        let check = Check {
            digest: Some(claiming.digest.clone()),
            size_bytes: Some(claiming.size_bytes),
        };
        Ok(claiming.inner.blobs.claim(check, &claiming.lease)?)
    })
    .await?;
    match claim {
        // Another pull brought it while this one waited, or an image here has it packed.
        Claim::Present(_) if fetch.inner.layer_record(&fetch.diff_id).is_ok() => {
            fetch.say("Already exists");
            return Ok(());
        }
        Claim::Present(_) => unpack_kept(&fetch).await?,
        Claim::Ingest(ingest) => download(&fetch, ingest).await?,
    }
    fetch.say("Pull complete");
    Ok(())
}

/// The packed bytes are here, the folder is not (or not any more).
async fn unpack_kept(fetch: &Fetch) -> Result<()> {
    fetch.say("Download complete");
    let fetch = fetch.clone();
    blocking(move || {
        let file = fetch.inner.blobs.reader(&fetch.digest)?;
        let mut reader = Loud {
            input: file,
            fetch: fetch.clone(),
            done_bytes: 0,
            told_bytes: 0,
            loud: true,
        };
        let intake = take_in(&mut reader, fetch.inner.stage()?)?;
        register(&fetch, intake)
    })
    .await
}

async fn download(fetch: &Fetch, ingest: Ingest) -> Result<()> {
    let offset_bytes = ingest.offset_bytes();
    let (to_keeper, from_network) = mpsc::channel::<Bytes>(CHUNKS);
    let (to_unpacker, from_keeper) = sync_channel::<Bytes>(CHUNKS);
    let (keeping, unpacking) = (fetch.clone(), fetch.clone());
    let keeper = tokio::spawn(blocking(move || {
        keep(&keeping, ingest, from_network, to_unpacker)
    }));
    let unpacker = tokio::spawn(blocking(move || unpack_stream(&unpacking, from_keeper)));
    let received = receive(fetch, offset_bytes, to_keeper).await;
    let kept = flatten(keeper.await);
    let unpacked = flatten(unpacker.await);
    // The network's error first: it explains the others, which only saw the stream end. A wrong digest explains
    // whatever the unpacker made of the bytes.
    let result = match (received, kept, unpacked) {
        (Err(e @ Error::Registry { .. } | e @ Error::Answer { .. }), _, _) => Err(e),
        (_, Err(e @ Error::Blob(wharf_blob::Error::Mismatch { .. })), _) => Err(e),
        (_, _, Err(e)) => Err(e),
        (_, Err(e), _) => Err(e),
        (Err(e), ..) => Err(e),
        (Ok(()), Ok(()), Ok(intake)) => {
            let fetch = fetch.clone();
            blocking(move || register(&fetch, intake)).await
        }
    };
    if matches!(result, Err(Error::Invalid(_))) {
        // Hostile or damaged at the source: the packed bytes are right by their digest, but of no use.
        let (blobs, digest) = (fetch.inner.blobs.clone(), fetch.digest.clone());
        blocking(move || Ok(blobs.discard(&digest)?)).await?;
    }
    result
}

fn flatten<T>(joined: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined.unwrap_or_else(|e| {
        Err(Error::Registry {
            operation: "fetch a layer".to_owned(),
            source: Box::new(e),
        })
    })
}

/// Receives the bytes from `offset` on; a break is resumed where it happened, as long as attempts bring something.
async fn receive(
    fetch: &Fetch,
    mut offset_bytes: u64,
    to_keeper: mpsc::Sender<Bytes>,
) -> Result<()> {
    let mut attempt = 0;
    let mut told_bytes = 0;
    while offset_bytes < fetch.size_bytes {
        let before_bytes = offset_bytes;
        match receive_some(fetch, &mut offset_bytes, &mut told_bytes, &to_keeper).await {
            Ok(Flow::Complete) => break,
            Ok(Flow::Unwanted) => return Ok(()),
            Err(e) => {
                attempt = if offset_bytes > before_bytes {
                    1
                } else {
                    attempt + 1
                };
                let lasting = matches!(&e, Error::Answer { status, .. } if !(*status == 429 || *status >= 500));
                if attempt >= ATTEMPTS_MAX || lasting {
                    return Err(e);
                }
                let delay = retry_delay(attempt);
                tracing::debug!(error = &e as &dyn std::error::Error, layer = %fetch.digest, offset_bytes, "resuming");
                fetch.say(&format!(
                    "Retrying in {} second{}",
                    delay.as_secs().max(1),
                    plural(delay.as_secs())
                ));
                tokio::time::sleep(delay).await;
            }
        }
    }
    fetch.say("Verifying Checksum");
    Ok(())
}

fn plural(seconds: u64) -> &'static str {
    if seconds > 1 { "s" } else { "" }
}

enum Flow {
    Complete,
    /// The keeper gave up; it says why itself.
    Unwanted,
}

async fn receive_some(
    fetch: &Fetch,
    offset_bytes: &mut u64,
    told_bytes: &mut u64,
    to_keeper: &mpsc::Sender<Bytes>,
) -> Result<Flow> {
    let broken = |e: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
        operation: format!("download layer {}", fetch.digest),
        source: e,
    };
    let mut response = fetch
        .session
        .blob(fetch.digest.as_str(), *offset_bytes)
        .await?;
    // A server that ignores the range sends everything again.
    let partial = response.status() == reqwest::StatusCode::PARTIAL_CONTENT;
    let mut skip_bytes = if partial { 0 } else { *offset_bytes };
    if partial && range_start(&response) != Some(*offset_bytes) {
        return Err(broken(
            "the registry answered with another range than asked for".into(),
        ));
    }
    while let Some(mut chunk) = response.chunk().await.map_err(|e| broken(Box::new(e)))? {
        let skip = usize::try_from(skip_bytes)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        skip_bytes -= skip as u64;
        let chunk = chunk.split_off(skip);
        if chunk.is_empty() {
            continue;
        }
        *offset_bytes += chunk.len() as u64;
        if to_keeper.send(chunk).await.is_err() {
            return Ok(Flow::Unwanted);
        }
        if *offset_bytes - *told_bytes >= STEP_BYTES || *offset_bytes == fetch.size_bytes {
            *told_bytes = *offset_bytes;
            fetch.tell("Downloading", *offset_bytes);
        }
    }
    if *offset_bytes < fetch.size_bytes {
        return Err(broken("the connection ended early".into()));
    }
    Ok(Flow::Complete)
}

/// First byte of `Content-Range: bytes FIRST-LAST/SIZE`.
fn range_start(response: &reqwest::Response) -> Option<u64> {
    let text = response
        .headers()
        .get(reqwest::header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    text.strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Hashes and keeps what comes, and passes it on. Bytes of an earlier attempt are passed on first.
fn keep(
    fetch: &Fetch,
    mut ingest: Ingest,
    mut from: mpsc::Receiver<Bytes>,
    to: SyncSender<Bytes>,
) -> Result<()> {
    let mut wanted = true;
    if ingest.offset_bytes() > 0 {
        let mut file = ingest.reader()?;
        let mut buffer = vec![0; 256 * 1024];
        while wanted {
            let count = file
                .read(&mut buffer)
                .map_err(io("read an interrupted download"))?;
            if count == 0 {
                break;
            }
            wanted = to.send(Bytes::copy_from_slice(&buffer[..count])).is_ok();
        }
    }
    while wanted && let Some(chunk) = from.blocking_recv() {
        if let Err(e) = ingest.append(&chunk) {
            let e = Error::from(e);
            // Too long, or no room: nothing that a resumption could use.
            ingest.abandon()?;
            return Err(e);
        }
        wanted = to.send(chunk).is_ok();
    }
    drop(to);
    if !wanted {
        // The unpacker refused the layer.
        ingest.abandon()?;
        return Ok(());
    }
    ingest.commit(Durability::Deferred, &fetch.lease)?;
    fetch.say("Download complete");
    Ok(())
}

fn unpack_stream(fetch: &Fetch, from: Receiver<Bytes>) -> Result<Intake> {
    let input = Chunks {
        from,
        rest: Bytes::new(),
    };
    let mut reader = Loud {
        input,
        fetch: fetch.clone(),
        done_bytes: 0,
        told_bytes: 0,
        loud: false,
    };
    let intake = take_in(&mut reader, fetch.inner.stage()?)?;
    // The packed stream may go on after the end of what it compresses; the keeper must get rid of it.
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(io("read a layer"))?;
    fetch.tell("Extracting", fetch.size_bytes);
    Ok(intake)
}

fn register(fetch: &Fetch, intake: Intake) -> Result<()> {
    if intake.diff_id != fetch.diff_id {
        return Err(Error::Invalid(format!(
            "layer {} does not unpack to what the image's configuration says: expected {}, got {}",
            fetch.digest, fetch.diff_id, intake.diff_id
        )));
    }
    let blob = intake.compression.media_type().map(|media_type| LayerBlob {
        digest: fetch.digest.to_string(),
        size_bytes: fetch.size_bytes,
        media_type: media_type.to_owned(),
    });
    fetch.inner.adopt(intake, blob)?;
    Ok(())
}

/// Chunks as a stream of bytes.
struct Chunks {
    from: Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.recv() {
                Ok(chunk) => self.rest = chunk,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// Tells how far unpacking is, once the download no longer does.
struct Loud<R> {
    input: R,
    fetch: Fetch,
    done_bytes: u64,
    told_bytes: u64,
    loud: bool,
}

impl<R: Read> Read for Loud<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.done_bytes += count as u64;
        if self.loud && self.done_bytes - self.told_bytes >= STEP_BYTES {
            self.told_bytes = self.done_bytes;
            self.fetch.tell("Extracting", self.done_bytes);
        }
        Ok(count)
    }
}

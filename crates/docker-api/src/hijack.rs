//! Connections that become a process's streams: attach and exec.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_util::io::ReaderStream;
use wharf_engine::{Attached, Reader, Writer};

use crate::answer::{Outcome, Refusal};
use crate::route::Call;

/// One stream: a terminal's, or several in frames for clients that know no other name for them.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Several streams in frames.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
const BLOCK_BYTES: usize = 32 * 1024;
/// How long a client is waited for that has been told of the end.
const LINGER: Duration = Duration::from_secs(5);
const DETACH_KEYS_DEFAULT: &str = "ctrl-p,ctrl-q";

/// How a client wants to be connected.
pub struct Wish {
    /// One raw stream instead of frames.
    pub tty: bool,
    /// Keys that end the connection and not the process; terminals only.
    pub detach: Option<Vec<u8>>,
}

/// Gives the connection to streams: with `Upgrade` by 101, else by an answer without end. The head goes out first, what
/// makes the streams comes then: clients lose bytes that come together with the head.
pub fn hijack(
    call: &mut Call,
    wish: Wish,
    streams: impl Future<Output = Attached> + Send + 'static,
) -> Response<Body> {
    let content_type = if wish.tty || call.version < (1, 42) {
        RAW
    } else {
        MULTIPLEXED
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if call.parts.headers.get(header::UPGRADE).is_none() {
        let input = std::mem::replace(&mut call.body, Body::empty());
        let blocks = futures_util::stream::once(async move {
            let attached = streams.await;
            tokio::spawn(feed(input, attached.input));
            ReaderStream::with_capacity(attached.output, BLOCK_BYTES)
        });
        *response.body_mut() = Body::from_stream(blocks.flatten());
        return response;
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let Some(upgrade) = call.parts.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
        return Refusal::bad("the connection can't be upgraded").into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => join(TokioIo::new(connection), streams.await, wish.detach).await,
            Err(error) => tracing::debug!(%error, "a client went before its streams were there"),
        }
    });
    response
}

/// Both ways at once. The end of the client's input goes on to the process while its output still comes; the end of
/// the output, or the detach keys, end the connection.
async fn join(
    connection: TokioIo<hyper::upgrade::Upgraded>,
    attached: Attached,
    detach: Option<Vec<u8>>,
) {
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let (mut output, mut input) = (attached.output, attached.input);
    let (tell, told) = oneshot::channel();
    let (leave, left) = oneshot::channel();
    let sending = tokio::spawn(async move {
        let mut tell = Some(tell);
        if forward(&mut from_client, &mut input, detach.as_deref()).await {
            let _ = tell.take().map(|tell| tell.send(()));
        } else {
            let _ = input.shutdown().await;
        }
        // What the client still sends has to be read: closing over it resets the connection, and output is lost.
        let _ = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
        let _ = leave.send(());
        // Whoever waits for the keys waits on: they can't come any more.
        std::future::pending::<()>().await;
        drop(tell);
    });
    let mut buffered = tokio::io::BufReader::with_capacity(BLOCK_BYTES, &mut output);
    tokio::select! {
        _ = tokio::io::copy_buf(&mut buffered, &mut to_client) => {}
        _ = told => {}
    }
    let _ = to_client.shutdown().await;
    let _ = tokio::time::timeout(LINGER, left).await;
    sending.abort();
}

/// Hands a client's input on; returns whether it ended with the detach keys, which are kept back.
async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut Writer,
    detach: Option<&[u8]>,
) -> bool {
    let Some(keys) = detach.filter(|keys| !keys.is_empty()) else {
        let _ = tokio::io::copy(from, to).await;
        return false;
    };
    let mut block = vec![0; BLOCK_BYTES];
    let mut matched = 0;
    loop {
        let count = match from.read(&mut block).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        let (typed, detached) = scan(&block[..count], keys, &mut matched);
        if to.write_all(&typed).await.is_err() || detached {
            return detached;
        }
    }
}

/// What of some input goes on, and whether the keys are complete; `matched` of them are held back between calls.
fn scan(input: &[u8], keys: &[u8], matched: &mut usize) -> (Vec<u8>, bool) {
    let mut typed = Vec::with_capacity(input.len() + *matched);
    for &byte in input {
        if byte == keys[*matched] {
            *matched += 1;
            if *matched == keys.len() {
                return (typed, true);
            }
        } else {
            typed.extend_from_slice(&keys[..*matched]);
            *matched = usize::from(byte == keys[0]);
            if *matched == 0 {
                typed.push(byte);
            }
        }
    }
    (typed, false)
}

/// `ctrl-p,ctrl-q` and the like as bytes; empty: the default.
pub fn detach_keys(text: &str) -> Outcome<Vec<u8>> {
    let text = if text.is_empty() {
        DETACH_KEYS_DEFAULT
    } else {
        text
    };
    let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
        (Some(letter), _) => match letter.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [sign @ (b'@' | b'['..=b'_')] => Some(sign - b'@'),
            _ => None,
        },
        (None, [byte]) => Some(*byte),
        _ => None,
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| Refusal::bad(format!("Invalid detach keys ({text}) provided")))
}

/// Output without frames, put into frames of standard output: for who did not ask for a terminal and got one.
pub fn framed(output: Reader) -> Reader {
    let blocks = ReaderStream::with_capacity(output, BLOCK_BYTES)
        .map(|block| block.map(|bytes| frame(1, &bytes)));
    Box::pin(tokio_util::io::StreamReader::new(Box::pin(blocks)))
}

/// A block of a stream (1: standard output, 2: standard error) with its head.
pub fn frame(stream: u8, bytes: &[u8]) -> Bytes {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame.into()
}

async fn feed(body: Body, mut input: Writer) {
    let mut blocks = body.into_data_stream();
    while let Some(Ok(block)) = blocks.next().await {
        if input.write_all(&block).await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-_").unwrap(), [1, b'x', 31]);
        assert!(detach_keys("ctrl-pq").is_err() && detach_keys("ab").is_err());
    }

    #[test]
    fn keys_are_found_across_blocks_and_given_back_when_it_was_something_else() {
        let mut matched = 0;
        let keys = [16, 17];
        assert_eq!(
            scan(b"ab\x10", &keys, &mut matched),
            (b"ab".to_vec(), false)
        );
        assert_eq!(
            scan(b"c\x10\x10", &keys, &mut matched),
            (b"\x10c\x10".to_vec(), false)
        );
        assert_eq!(scan(b"\x11rest", &keys, &mut matched), (Vec::new(), true));
    }
}

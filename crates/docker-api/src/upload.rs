//! Bodies on their way in.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;

/// Reads a whole stream of input from a body: for archives.
pub fn reader(body: Body) -> wharf_engine::Reader {
    let blocks =
        Upload(Some(body.into_data_stream())).map(|block| block.map_err(std::io::Error::other));
    Box::pin(tokio_util::io::StreamReader::new(blocks).take(u64::MAX))
}

/// A body on its way in. What is left of it when nobody wants it any more is read and forgotten, so that a client that
/// is still sending sees the answer and not a closed connection.
struct Upload(Option<BodyDataStream>);

/// How long the rest of an unwanted body is listened to.
const UNWANTED_BODY: Duration = Duration::from_secs(30);

impl Stream for Upload {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let item = ready!(stream.poll_next_unpin(context));
        if !matches!(item, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(item)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(tokio::time::timeout(UNWANTED_BODY, async move {
            while let Some(Ok(_)) = rest.next().await {}
        }));
    }
}

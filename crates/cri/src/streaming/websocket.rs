//! WebSocket as a carrier: messages that begin with the number of their channel, or a plain stream of bytes.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// A client that is told the end may take this long to agree.
const FAREWELL: Duration = Duration::from_secs(1);
const TUNNEL_BYTES: usize = 64 << 10;

/// Reads of a tunnel's streams of bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// What an upgraded connection is.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

pub(super) type Socket<W> = WebSocketStream<W>;

/// The server's end of a socket whose handshake is over.
pub(super) async fn socket<W: Wire>(wire: W) -> Socket<W> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await
}

/// A message on a channel.
pub(super) fn message(channel: u8, data: &[u8], base64: bool) -> Message {
    if base64 {
        let mut text = String::from(char::from(b'0' + channel));
        BASE64_STANDARD.encode_string(data, &mut text);
        return Message::text(text);
    }
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.extend_from_slice(&[channel]);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.freeze())
}

/// Channel and data of a message; none for what carries no data.
pub(super) fn data(message: Message, base64: bool) -> Option<(u8, Bytes)> {
    let mut bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        _ => return None,
    };
    if bytes.is_empty() {
        return None;
    }
    let channel = bytes.split_to(1)[0];
    match base64 {
        false => Some((channel, bytes)),
        true => {
            let decoded = BASE64_STANDARD.decode(&bytes).ok()?;
            Some((channel.checked_sub(b'0')?, decoded.into()))
        }
    }
}

/// Clients take an end without this code for a failure.
fn farewell() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: Default::default(),
    }
}

/// Ends a socket in good order.
pub(super) async fn close<W: Wire>(mut socket: Socket<W>) {
    let goodbye = async {
        if socket.close(Some(farewell())).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(FAREWELL, goodbye).await;
}

/// A stream of bytes that travels in a socket's messages.
pub(super) fn tunnel<W: Wire>(socket: Socket<W>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let (mut sink, mut stream) = socket.split();
        let inwards = async {
            while let Some(Ok(message)) = stream.next().await {
                let bytes = match message {
                    Message::Binary(bytes) => bytes,
                    Message::Close(_) => break,
                    _ => continue,
                };
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        };
        let outwards = async {
            let mut block = BytesMut::new();
            loop {
                block.reserve(BLOCK_BYTES);
                match reader.read_buf(&mut block).await {
                    Ok(count) if count > 0 => {}
                    _ => break,
                }
                if sink
                    .send(Message::Binary(block.split().freeze()))
                    .await
                    .is_err()
                {
                    break;
                }
            }
            let _ = sink.send(Message::Close(Some(farewell()))).await;
            let _ = sink.close().await;
        };
        tokio::join!(inwards, outwards);
    });
    near
}

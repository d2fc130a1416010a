//! Port-forward: for each connection of the client a pair of SPDY streams, one for data and one for the words of a
//! failure, with the port in their header. Newer clients carry the SPDY connection in a WebSocket.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spdy::{Connection, Stream};
use super::upgrade::{Agreed, Protocols};
use super::websocket::{self, Wire};
use super::{Runner, spdy};
use crate::v1;

pub(super) const PROTOCOLS: Protocols = Protocols {
    websocket: &["SPDY/3.1+portforward.k8s.io"],
    spdy: &["portforward.k8s.io"],
};

/// Halves of pairs that wait for the other.
const HALVES_MAX: usize = 100;
const BLOCK_BYTES: usize = 32 << 10;

/// Serves a client until it hangs up.
pub(super) async fn serve<W: Wire>(
    wire: W,
    agreed: Agreed,
    asked: v1::PortForwardRequest,
    runner: Arc<dyn Runner>,
) {
    let connection = match agreed {
        Agreed::Spdy { .. } => spdy::serve(wire),
        Agreed::WebSocket { .. } => spdy::serve(websocket::tunnel(websocket::socket(wire).await)),
    };
    pairs(connection, &asked, &runner).await;
}

async fn pairs(
    mut connection: Connection,
    asked: &v1::PortForwardRequest,
    runner: &Arc<dyn Runner>,
) {
    let mut halves: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        let key = request_id(&stream);
        let Some(other) = halves.remove(&key) else {
            if halves.len() < HALVES_MAX {
                halves.insert(key, stream);
            }
            continue;
        };
        let (data, error) = match stream.header("streamtype") {
            "data" => (stream, other),
            _ => (other, stream),
        };
        let (sandbox, runner) = (asked.pod_sandbox_id.clone(), runner.clone());
        tokio::spawn(async move {
            if let Err(words) = forward(data, sandbox, runner).await {
                let _ = error.output.write(words.into()).await;
            }
            let _ = error.output.close().await;
        });
    }
    connection.close().await;
}

/// What makes two streams a pair. Clients that don't say open the one for errors first.
fn request_id(stream: &Stream) -> String {
    match (stream.header("requestid"), stream.header("streamtype")) {
        ("", "error") => stream.id().to_string(),
        ("", _) => stream.id().saturating_sub(2).to_string(),
        (id, _) => id.to_owned(),
    }
}

async fn forward(data: Stream, sandbox: String, runner: Arc<dyn Runner>) -> Result<(), String> {
    let Stream {
        headers,
        mut input,
        output,
    } = data;
    let text = headers.get("port").map_or("", String::as_str);
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    let connected = match port {
        Some(port) => runner.connect(sandbox, port).await,
        None => Err(tonic::Status::invalid_argument(format!(
            "unable to parse port {text:?}"
        ))),
    };
    let connected = match connected {
        Ok(connected) => connected,
        Err(status) => {
            let _ = output.close().await;
            return Err(status.message().to_owned());
        }
    };
    let (mut reader, mut writer) = connected.into_split();
    let inwards = async {
        while let Some(bytes) = input.recv().await {
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
            if output.write(block.split().freeze()).await.is_err() {
                break;
            }
        }
        let _ = output.close().await;
    };
    tokio::join!(inwards, outwards);
    Ok(())
}

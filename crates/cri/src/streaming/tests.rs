//! The server with a runner that echoes.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;

/// Gives back what it gets, then the command's first word as exit code.
struct Echo;

impl Runner for Echo {
    fn exec(&self, request: v1::ExecRequest, mut session: Session) -> Answer<'_, i32> {
        Box::pin(async move {
            if let Some(size) = match request.tty {
                true => session.sizes.recv().await,
                false => None,
            } {
                let words = format!("{}x{}", size.width, size.height);
                let _ = session.output.send((Channel::Stdout, words.into())).await;
            }
            while let Some(bytes) = session.input.recv().await {
                let _ = session.output.send((Channel::Stderr, bytes)).await;
            }
            request.cmd[0]
                .parse()
                .map_err(|_| Status::not_found("no such command"))
        })
    }

    fn attach(&self, _: v1::AttachRequest, _: Session) -> Answer<'_, i32> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn connect(&self, _: String, port: u16) -> Answer<'_, TcpStream> {
        Box::pin(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            stream.map_err(|error| Status::unavailable(error.to_string()))
        })
    }
}

fn command(word: &str, tty: bool) -> Asked {
    Asked::Exec(v1::ExecRequest {
        container_id: "c".into(),
        cmd: vec![word.into()],
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    })
}

async fn connect(
    streaming: &Streaming,
    url: &str,
    protocol: &'static str,
) -> tokio_tungstenite::tungstenite::Result<tokio_tungstenite::WebSocketStream<TcpStream>> {
    let mut request = url.replace("http:", "ws:").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
    let wire = TcpStream::connect(streaming.address).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async(request, wire).await?;
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    Ok(socket)
}

/// All that is said on each channel.
async fn read(mut socket: tokio_tungstenite::WebSocketStream<TcpStream>) -> HashMap<u8, Vec<u8>> {
    let mut said: HashMap<u8, Vec<u8>> = HashMap::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            said.entry(bytes[0]).or_default().extend(&bytes[1..]);
        }
    }
    said
}

#[tokio::test]
async fn a_command_over_websocket() {
    let streaming = Streaming::start(Arc::new(Echo)).await.unwrap();
    let url = streaming.url(command("3", true)).unwrap();
    let mut socket = connect(&streaming, &url, "v5.channel.k8s.io")
        .await
        .unwrap();
    let size = b"\x04{\"Width\":80,\"Height\":24}".to_vec();
    socket.send(Message::binary(size)).await.unwrap();
    socket
        .send(Message::binary(b"\x00hello".to_vec()))
        .await
        .unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let said = read(socket).await;
    assert_eq!(said[&1], b"80x24");
    assert_eq!(said[&2], b"hello");
    let ending: serde_json::Value = serde_json::from_slice(&said[&3]).unwrap();
    assert_eq!(ending["reason"], "NonZeroExitCode");
    assert_eq!(ending["details"]["causes"][0]["message"], "3");
    // A token is good once.
    assert!(
        connect(&streaming, &url, "v5.channel.k8s.io")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn failures_have_words() {
    let streaming = Streaming::start(Arc::new(Echo)).await.unwrap();
    for (protocol, has_reason) in [("v5.channel.k8s.io", true), ("channel.k8s.io", false)] {
        let url = streaming.url(command("none", false)).unwrap();
        let mut socket = connect(&streaming, &url, protocol).await.unwrap();
        socket.send(Message::binary(vec![255, 0])).await.unwrap();
        let text = String::from_utf8(read(socket).await.remove(&3).unwrap()).unwrap();
        assert!(text.contains("no such command"), "{text}");
        assert_eq!(text.contains("InternalError"), has_reason, "{text}");
    }
    let url = streaming.url(command("0", false)).unwrap();
    assert!(
        connect(&streaming, &url, "v9.channel.k8s.io")
            .await
            .is_err()
    );
}

/// A client's frame that opens a stream, with its header block in a stored block of zlib.
fn open(id: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend((text.len() as u32).to_be_bytes());
        plain.extend(text.as_bytes());
    }
    let length = plain.len() as u16;
    let mut block = if first { vec![0x78, 0x01] } else { Vec::new() };
    block.push(0);
    block.extend(length.to_le_bytes());
    block.extend((!length).to_le_bytes());
    block.extend(plain);
    let mut frame = vec![0x80, 3, 0, 1];
    frame.extend((10 + block.len() as u32).to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(block);
    frame
}

fn data(id: u32, bytes: &[u8], is_last: bool) -> Vec<u8> {
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend((u32::from(is_last) << 24 | bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    frame
}

/// Data by stream, of all that a server sent.
fn streams(mut bytes: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut streams: HashMap<u32, Vec<u8>> = HashMap::new();
    while bytes.len() >= 8 {
        let id = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let length = (u32::from_be_bytes(bytes[4..8].try_into().unwrap()) & 0xff_ffff) as usize;
        if id >> 31 == 0 {
            streams.entry(id).or_default().extend(&bytes[8..8 + length]);
        }
        bytes = &bytes[8 + length..];
    }
    streams
}

/// Sends a request to upgrade and frames; gives what follows the response's head.
async fn over_spdy(streaming: &Streaming, url: &str, protocol: &str, frames: &[u8]) -> Vec<u8> {
    let mut wire = TcpStream::connect(streaming.address).await.unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    );
    wire.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(wire.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
    wire.write_all(frames).await.unwrap();
    let mut rest = Vec::new();
    wire.read_to_end(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn a_command_over_spdy() {
    let streaming = Streaming::start(Arc::new(Echo)).await.unwrap();
    let url = streaming.url(command("7", false)).unwrap();
    let mut frames = Vec::new();
    for (place, name) in ["error", "stdin", "stdout", "stderr"].iter().enumerate() {
        let id = 1 + 2 * place as u32;
        frames.extend(open(id, place == 0, &[("streamtype", name)]));
    }
    frames.extend(data(3, b"typed", true));
    let said = over_spdy(&streaming, &url, "v4.channel.k8s.io", &frames).await;
    let streams = streams(&said);
    assert_eq!(streams[&7], b"typed");
    let ending: serde_json::Value = serde_json::from_slice(&streams[&1]).unwrap();
    assert_eq!(ending["details"]["causes"][0]["message"], "7");
}

#[tokio::test]
async fn ports_are_forwarded() {
    let streaming = Streaming::start(Arc::new(Echo)).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        stream
            .write_all(heard.to_uppercase().as_bytes())
            .await
            .unwrap();
    });
    let asked = Asked::PortForward(v1::PortForwardRequest::default());
    let url = streaming.url(asked).unwrap();
    let pair = |kind| {
        [
            ("streamtype", kind),
            ("port", port.as_str()),
            ("requestid", "0"),
        ]
    };
    let mut frames = open(1, true, &pair("error"));
    frames.extend(open(3, false, &pair("data")));
    frames.extend(data(3, b"quiet", true));
    frames.extend(open(5, false, &[("streamtype", "error"), ("port", "0")]));
    frames.extend(open(7, false, &[("streamtype", "data"), ("port", "0")]));
    let mut wire = TcpStream::connect(streaming.address).await.unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap();
    let head = format!(
        "GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
    );
    wire.write_all(head.as_bytes()).await.unwrap();
    wire.write_all(&frames).await.unwrap();
    let mut said = Vec::new();
    let begin = loop {
        said.push(wire.read_u8().await.unwrap());
        if said.ends_with(b"\r\n\r\n") {
            break said.len();
        }
    };
    let whole = |said: &[u8]| {
        let streams = streams(said);
        streams.get(&3).is_some_and(|data| data == b"QUIET")
            && streams.get(&5).is_some_and(|words| !words.is_empty())
    };
    while !whole_frames(&said[begin..]) || !whole(&said[begin..]) {
        said.push(wire.read_u8().await.unwrap());
    }
    let words = String::from_utf8(streams(&said[begin..]).remove(&5).unwrap()).unwrap();
    assert_eq!(words, "unable to parse port \"0\"");
    server.await.unwrap();
}

/// Nothing is cut off at the end.
fn whole_frames(mut bytes: &[u8]) -> bool {
    while bytes.len() >= 8 {
        let length = (u32::from_be_bytes(bytes[4..8].try_into().unwrap()) & 0xff_ffff) as usize;
        if bytes.len() < 8 + length {
            return false;
        }
        bytes = &bytes[8 + length..];
    }
    bytes.is_empty()
}

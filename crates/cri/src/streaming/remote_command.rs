//! Exec and attach: standard streams, a terminal's size and the ending, each on a channel or stream of its own.
//!
//! Channels of a WebSocket: 0 input, 1 output, 2 errors, 3 the ending, 4 sizes; version 5 adds 255, which closes the
//! channel that its data names. SPDY names its streams in their header `streamtype`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use super::session::{self, Carrier, ending};
use super::upgrade::{Agreed, Protocols};
use super::websocket::{self, Wire};
use super::{Asked, Channel, PATIENCE, Runner, Session, Size, spdy};

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const ENDING: u8 = 3;
const SIZES: u8 = 4;
const CLOSE: u8 = 255;

pub(super) const PROTOCOLS: Protocols = Protocols {
    websocket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ],
    spdy: &[
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
    ],
};

/// Which standard streams were asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn of(asked: &Asked) -> Wanted {
        let (stdin, stdout, stderr, tty) = match asked {
            Asked::Exec(one) => (one.stdin, one.stdout, one.stderr, one.tty),
            Asked::Attach(one) => (one.stdin, one.stdout, one.stderr, one.tty),
            Asked::PortForward(_) => (false, false, false, false),
        };
        Wanted {
            stdin,
            stdout,
            stderr,
            tty,
        }
    }
}

/// The version that a protocol's name begins with.
fn version(protocol: &str) -> u8 {
    let digit = protocol
        .strip_prefix('v')
        .and_then(|rest| rest.bytes().next());
    digit.map_or(1, |digit| digit.saturating_sub(b'0'))
}

/// Runs what was asked, its streams on the wire, until it has ended or the client is gone.
pub(super) async fn serve<W: Wire>(wire: W, agreed: Agreed, asked: Asked, runner: Arc<dyn Runner>) {
    let wanted = Wanted::of(&asked);
    let (session, carrier) = session::pair();
    match agreed {
        Agreed::WebSocket { protocol, .. } => {
            let running = run(runner, asked, session);
            over_websocket(wire, protocol, wanted, carrier, running).await;
        }
        Agreed::Spdy { protocol } => {
            let mut connection = spdy::serve(wire);
            let opened = tokio::time::timeout(PATIENCE, streams(&mut connection, wanted)).await;
            if let Ok(Some(streams)) = opened {
                let running = run(runner, asked, session);
                over_spdy(streams, version(protocol), carrier, running).await;
            }
            connection.close().await;
        }
    }
}

/// Ends with what it runs, or when it is dropped.
struct Running(JoinHandle<Result<i32, Status>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    async fn outcome(mut self) -> Result<i32, Status> {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Status::internal(format!(
                "a task ended abnormally: {error}"
            ))),
        }
    }
}

fn run(runner: Arc<dyn Runner>, asked: Asked, session: Session) -> Running {
    Running(tokio::spawn(async move {
        match asked {
            Asked::Exec(request) => runner.exec(request, session).await,
            Asked::Attach(request) => runner.attach(request, session).await,
            Asked::PortForward(_) => Err(Status::internal("ports have no command")),
        }
    }))
}

async fn over_websocket<W: Wire>(
    wire: W,
    protocol: &str,
    wanted: Wanted,
    carrier: Carrier,
    running: Running,
) {
    let base64 = protocol.contains("base64");
    let (mut sink, mut stream) = websocket::socket(wire).await.split();
    let Carrier {
        input,
        sizes,
        mut output,
    } = carrier;
    let reading = async {
        let mut input = wanted.stdin.then_some(input);
        while let Some(Ok(message)) = stream.next().await {
            match websocket::data(message, base64) {
                Some((INPUT, bytes)) => feed(&mut input, bytes).await,
                Some((SIZES, bytes)) => set_sizes(&sizes, &bytes).await,
                Some((CLOSE, bytes)) if bytes.first() == Some(&INPUT) => input = None,
                _ => {}
            }
        }
    };
    let writing = async {
        let first = match wanted {
            Wanted { stdout: true, .. } => OUTPUT,
            Wanted { stderr: true, .. } => ERRORS,
            _ => ENDING,
        };
        // An empty message says that the connection stands.
        sink.send(websocket::message(first, &[], base64)).await?;
        while let Some((channel, bytes)) = output.recv().await {
            let channel = match channel {
                Channel::Stdout => OUTPUT,
                Channel::Stderr => ERRORS,
            };
            sink.send(websocket::message(channel, &bytes, base64))
                .await?;
        }
        let ending = ending(&running.outcome().await, version(protocol));
        if !ending.is_empty() {
            sink.send(websocket::message(ENDING, &ending, base64))
                .await?;
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    let ended = tokio::select! {
        written = writing => written.is_ok(),
        () = reading => false,
    };
    if ended && let Ok(socket) = sink.reunite(stream) {
        websocket::close(socket).await;
    }
}

/// Passes input on; what nobody takes any more is dropped.
async fn feed(input: &mut Option<mpsc::Sender<Bytes>>, bytes: Bytes) {
    if let Some(sender) = input
        && !bytes.is_empty()
        && sender.send(bytes).await.is_err()
    {
        *input = None;
    }
}

/// Sizes are objects of JSON, one after the other.
async fn set_sizes(sizes: &mpsc::Sender<Size>, bytes: &[u8]) {
    let read = serde_json::Deserializer::from_slice(bytes).into_iter::<Size>();
    for size in read.map_while(Result::ok) {
        let _ = sizes.send(size).await;
    }
}

/// Streams by their type, once all that are needed were opened. None: the client went.
async fn streams(
    connection: &mut spdy::Connection,
    wanted: Wanted,
) -> Option<HashMap<String, spdy::Stream>> {
    let mut needed = vec!["error"];
    needed.extend(wanted.stdin.then_some("stdin"));
    needed.extend(wanted.stdout.then_some("stdout"));
    needed.extend((wanted.stderr && !wanted.tty).then_some("stderr"));
    let mut streams = HashMap::new();
    // A terminal's sizes come on a stream that older clients don't open: it is not waited for.
    while needed.iter().any(|name| !streams.contains_key(*name)) {
        let stream = connection.accept().await?;
        let name = stream.header("streamtype").to_owned();
        streams.insert(name, stream);
    }
    Some(streams)
}

async fn over_spdy(
    mut streams: HashMap<String, spdy::Stream>,
    version: u8,
    carrier: Carrier,
    running: Running,
) {
    let Carrier {
        input,
        sizes,
        mut output,
    } = carrier;
    let Some(error) = streams.remove("error") else {
        return;
    };
    if let Some(mut stdin) = streams.remove("stdin") {
        tokio::spawn(async move {
            let mut input = Some(input);
            while let Some(bytes) = stdin.input.recv().await {
                feed(&mut input, bytes).await;
            }
        });
    }
    if let Some(mut resize) = streams.remove("resize") {
        tokio::spawn(async move {
            while let Some(bytes) = resize.input.recv().await {
                set_sizes(&sizes, &bytes).await;
            }
        });
    }
    let stdout = streams.remove("stdout").map(|stream| stream.output);
    let stderr = streams.remove("stderr").map(|stream| stream.output);
    let writing = async {
        while let Some((channel, bytes)) = output.recv().await {
            let to = match channel {
                Channel::Stdout => &stdout,
                Channel::Stderr => &stderr,
            };
            if let Some(to) = to {
                to.write(bytes).await?;
            }
        }
        for stream in [&stdout, &stderr].into_iter().flatten() {
            stream.close().await?;
        }
        let ending = ending(&running.outcome().await, version);
        if !ending.is_empty() {
            error.output.write(ending).await?;
        }
        error.output.close().await
    };
    let gone = error.output.clone();
    tokio::select! {
        _ = writing => {}
        () = gone.closed() => {}
    }
}

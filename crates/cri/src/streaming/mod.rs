//! The streaming server of the Container Runtime Interface: exec, attach and port-forward over an upgraded HTTP
//! connection. A call of the interface gives a URL with a token that is good for one connection and one minute; what is
//! asked goes with the token, never with the URL. Knows how streams travel, not how containers run: that is a
//! [`Runner`]'s part.

mod port_forward;
mod remote_command;
mod session;
mod spdy;
mod upgrade;
mod websocket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

pub(crate) use session::{Channel, Session, Size};

use crate::{Answer, v1};

/// What is not fetched by then is forgotten.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Tokens that wait at once; more are refused.
const TOKENS_MAX: usize = 1_000;
const TOKEN_BYTES: usize = 16;
/// The longest that a client takes for its request, and to open the streams it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who does what is asked over a stream.
pub(crate) trait Runner: Send + Sync + 'static {
    /// Runs a command; gives its exit code.
    fn exec(&self, request: v1::ExecRequest, session: Session) -> Answer<'_, i32>;
    /// Joins a container's own streams until it ends.
    fn attach(&self, request: v1::AttachRequest, session: Session) -> Answer<'_, i32>;
    /// Connects to a port of a sandbox's loopback address.
    fn connect(&self, sandbox: String, port: u16) -> Answer<'_, TcpStream>;
}

/// What a token stands for.
#[derive(Debug)]
pub(crate) enum Asked {
    Exec(v1::ExecRequest),
    Attach(v1::AttachRequest),
    PortForward(v1::PortForwardRequest),
}

impl Asked {
    fn word(&self) -> &'static str {
        match self {
            Asked::Exec(_) => "exec",
            Asked::Attach(_) => "attach",
            Asked::PortForward(_) => "portforward",
        }
    }
}

type Tokens = Arc<Mutex<HashMap<String, (Instant, Asked)>>>;

/// The server, on a free port of the loopback address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Streaming {
    address: SocketAddr,
    tokens: Tokens,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Streaming {
    /// Listens and serves.
    ///
    /// # Errors
    /// What the kernel says to listening.
    pub async fn start(runner: Arc<dyn Runner>) -> std::io::Result<Streaming> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let tokens = Tokens::default();
        let accepting = tokio::spawn(accept(listener, runner, tokens.clone()));
        Ok(Streaming {
            address,
            tokens,
            accepting,
        })
    }

    /// The URL at which a client finds what it asked for.
    pub fn url(&self, asked: Asked) -> Result<String, Status> {
        let mut secret = [0; TOKEN_BYTES];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Status::internal(format!("make a token: {error}")))?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(secret);
        let url = format!("http://{}/{}/{token}", self.address, asked.word());
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (since, _)| since.elapsed() < TOKEN_LIFE);
        if tokens.len() >= TOKENS_MAX {
            return Err(Status::resource_exhausted(
                "maximum number of in-flight requests exceeded",
            ));
        }
        tokens.insert(token, (Instant::now(), asked));
        Ok(url)
    }
}

/// Takes what a path's token stands for: once. Looking it up by its value tells nothing by time that 128 random bits
/// would not hide.
fn redeem(tokens: &Tokens, path: &str) -> Option<Asked> {
    let (word, token) = path.strip_prefix('/')?.split_once('/')?;
    let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, asked) = tokens.remove(token)?;
    (since.elapsed() < TOKEN_LIFE && asked.word() == word).then_some(asked)
}

async fn accept(listener: TcpListener, runner: Arc<dyn Runner>, tokens: Tokens) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: better when a connection has ended.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (runner, tokens) = (runner.clone(), tokens.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request, &runner, &tokens);
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            // A client that hangs up early has nobody to tell.
            let _ = serving.with_upgrades().await;
        });
    }
}

fn answer(
    mut request: Request<Incoming>,
    runner: &Arc<dyn Runner>,
    tokens: &Tokens,
) -> Response<Full<Bytes>> {
    let Some(asked) = redeem(tokens, request.uri().path()) else {
        return upgrade::refusal(
            StatusCode::NOT_FOUND,
            "no such stream: it was fetched before, or too late",
        );
    };
    let protocols = match asked {
        Asked::PortForward(_) => &port_forward::PROTOCOLS,
        _ => &remote_command::PROTOCOLS,
    };
    let agreed = match upgrade::agree(request.headers(), protocols) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let response = agreed.response();
    let upgraded = hyper::upgrade::on(&mut request);
    let runner = runner.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let wire = TokioIo::new(upgraded);
        match asked {
            Asked::PortForward(asked) => port_forward::serve(wire, agreed, asked, runner).await,
            asked => remote_command::serve(wire, agreed, asked, runner).await,
        }
    });
    response
}

#[cfg(test)]
mod tests;

//! Connections: TLS with client certificates, HTTP/1.1 and HTTP/2, bounded bodies, compressed answers.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY,
};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use wharf_kube_types::Status;

use crate::api::Api;
use crate::authn::User;
use crate::body::BODY_BYTES_MAX;
use crate::certificates::Pair;
use crate::handle::{self, handle};
use crate::output::{Output, Payload, Reply};
use crate::relay::forward::full;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const HEADER_LIMIT: Duration = Duration::from_secs(30);
const BODY_LIMIT: Duration = Duration::from_secs(60);
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const UNREAD_LIMIT_MS: u32 = 120_000;
const DRAIN_BYTES_MAX: usize = 32 << 20;
const CONNECTIONS_MAX: usize = 20_000;
const STREAMS_MAX: u32 = 1000;
/// Smaller answers are not worth compressing.
const GZIP_BYTES_MIN: usize = 128 << 10;

/// Configuration of TLS: this server's certificate, and the authorities of clients.
///
/// # Errors
/// Keys or certificates that are none.
pub fn tls(pair: &Pair, client_authority: &str) -> Result<Arc<ServerConfig>, rustls::Error> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let bad = |what: &str| rustls::Error::General(what.to_owned());
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| bad("a certificate is damaged"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_authority)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad(&e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(|_| bad("the server's key is damaged"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&pair.certificate)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `shutdown`; then open requests have a moment to end.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    mut config: watch::Receiver<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors, mostly: those that end give theirs back.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let acceptor = TlsAcceptor::from(config.borrow_and_update().clone());
        let api = api.clone();
        tokio::spawn(async move {
            connection(api, socket, acceptor).await;
            drop(place);
        });
    }
}

async fn connection(api: Arc<Api>, socket: TcpStream, acceptor: TlsAcceptor) {
    let _ = socket.set_nodelay(true);
    // A client that takes nothing for this long is gone, or might as well be.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, UNREAD_LIMIT_MS);
    let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(&socket, Duration::from_secs(30));
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let session = stream.get_ref().1;
    let certificate = session
        .peer_certificates()
        .and_then(|chain| crate::authn::certificate::user(chain.first()?))
        .map(Arc::new);
    let h2 = session.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (api, certificate) = (api.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(respond(&api, certificate.as_ref(), request).await) }
    });
    let io = TokioIo::new(stream);
    let ended = if h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .adaptive_window(true)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_send_buf_size(1 << 20)
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .serve_connection(io, service)
            .with_upgrades()
            .await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

type Answer = Response<crate::relay::forward::Body>;

async fn respond(
    api: &Arc<Api>,
    certificate: Option<&Arc<User>>,
    request: Request<Incoming>,
) -> Answer {
    if crate::relay::concerns(api, request.uri().path()) {
        return match crate::relay::respond(api.clone(), certificate.cloned(), request).await {
            Ok(response) => response,
            Err(reply) => to_response(api, reply, false).await,
        };
    }
    let (parts, body) = request.into_parts();
    let gzip = parts
        .headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().starts_with("gzip")));
    let reply = match whole(body).await {
        Ok(body) => {
            let request = handle::Request {
                method: &parts.method,
                path: parts.uri.path(),
                query: parts.uri.query().unwrap_or_default(),
                headers: &parts.headers,
                body: &body,
                certificate,
                inside: false,
            };
            match tokio::time::timeout(REQUEST_LIMIT, handle(api, &request)).await {
                Ok(reply) => reply,
                Err(_) => Reply::status(
                    Output::JSON,
                    &Status::timeout("request did not complete within the allotted timeout", 1),
                ),
            }
        }
        Err(status) => Reply::status(Output::JSON, &status),
    };
    to_response(api, reply, gzip).await
}

/// The whole body, if it is not too long and comes in time.
async fn whole(mut body: Incoming) -> Result<Bytes, Status> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_large = || Status::too_large(&format!("limit is {BODY_BYTES_MAX}"));
    let read = async {
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| Status::bad_request(format!("unable to read the body: {e}")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if first.is_none() && rest.is_empty() {
                first = Some(data);
                continue;
            }
            if let Some(first) = first.take() {
                rest.extend_from_slice(&first);
            }
            if rest.len() + data.len() > BODY_BYTES_MAX {
                drain(&mut body).await;
                return Err(too_large());
            }
            rest.extend_from_slice(&data);
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    };
    match tokio::time::timeout(BODY_LIMIT, read).await {
        Ok(read) => read,
        Err(_) => Err(Status::timeout("the body did not come in time", 1)),
    }
}

/// Takes the rest of a body that is too long, up to a bound: a client that is still sending would not see the answer.
async fn drain(body: &mut Incoming) {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        if size >= left {
            return;
        }
        left -= size;
    }
}

async fn to_response(api: &Arc<Api>, reply: Reply, gzip: bool) -> Answer {
    let mut compressed = false;
    let body = match reply.body {
        Payload::Bytes(bytes) if gzip && bytes.len() >= GZIP_BYTES_MIN => {
            compressed = true;
            full(compress(bytes).await)
        }
        Payload::Bytes(bytes) => full(bytes),
        // Made only for what asks from inside.
        Payload::Objects(_) => full(Bytes::new()),
        Payload::Stream(stream) => {
            let counted = Counted::new(api.clone());
            let frames = stream.map(move |bytes| {
                let _ = &counted;
                Ok(Frame::data(bytes))
            });
            // Streams are used by one task only, but the body has to be shareable.
            BoxBody::new(StreamBody::new(SyncStream(std::sync::Mutex::new(
                Box::pin(frames),
            ))))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(reply.code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    response
}

async fn compress(bytes: Bytes) -> Bytes {
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::fast());
        // Writing to memory cannot fail.
        let _ = encoder.write_all(&bytes);
        Bytes::from(encoder.finish().unwrap_or_default())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Counts a stream for as long as it lives.
struct Counted(Arc<Api>);

impl Counted {
    fn new(api: Arc<Api>) -> Self {
        api.metrics.watches.fetch_add(1, Ordering::Relaxed);
        Self(api)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

type Frames =
    Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>;

struct SyncStream(std::sync::Mutex<Frames>);

impl futures_util::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let frames = self.0.get_mut();
        let frames = frames.unwrap_or_else(std::sync::PoisonError::into_inner);
        frames.as_mut().poll_next(context)
    }
}

//! The node's HTTPS interface: logs, exec, attach and port-forward for the API server, health and figures.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, client::TlsStream};
use wharf_client::{Resource, Target};
use wharf_cri::v1;

use crate::logs::{self, Wanted};
use crate::part;
use crate::pods::Pods;
use crate::seen::{self, Attempt};
use crate::{Error, Node, Options};

type Body = BoxBody<Bytes, std::io::Error>;

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
const MASTERS: &str = "system:masters";
/// Blocks of a log that wait for a slow reader.
const BLOCKS: usize = 64;

/// The interface, listening.
pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// Who asks, by a certificate.
#[derive(Debug, Clone, Default)]
struct User {
    name: String,
    groups: Vec<String>,
}

impl Server {
    pub async fn bind(options: &Options) -> Result<Server, Error> {
        let acceptor = TlsAcceptor::from(Arc::new(tls(options)?));
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|source| Error::Listen {
            address: options.listen,
            source,
        })?;
        Ok(Server { listener, acceptor })
    }

    pub fn port(&self) -> u16 {
        self.listener
            .local_addr()
            .map(|address| address.port())
            .unwrap_or_default()
    }

    /// Serves for ever.
    pub async fn serve(&self, node: Arc<Node>, pods: Pods) {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, _)) = accepted else {
                // Too many open files: those that are served end first.
                tokio::task::yield_now().await;
                continue;
            };
            let (acceptor, node, pods) = (self.acceptor.clone(), node.clone(), pods.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let certificates = stream.get_ref().1.peer_certificates();
                let user = certificates
                    .and_then(|all| user(all.first()?))
                    .unwrap_or_default();
                let service = hyper::service::service_fn(|request| {
                    let (node, pods, user) = (node.clone(), pods.clone(), user.clone());
                    async move { Ok::<_, Infallible>(answer(node, pods, user, request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // A client that went is no failure of ours.
                let _ = connection.await;
            });
        }
    }
}

fn tls(options: &Options) -> Result<rustls::ServerConfig, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Certificates(error.to_string());
    let chain = CertificateDer::pem_slice_iter(options.identity.0.as_bytes())
        .collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(options.identity.1.as_bytes())
        .map_err(|error| wrong(&error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(options.client_authority.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build();
    let verifier = verifier.map_err(|error| wrong(&error))?;
    let config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier);
    config
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))
}

fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|one| Some(one.as_str().ok()?.to_owned()));
    Some(User {
        name,
        groups: groups.collect(),
    })
}

/// Whether a user may do this to the node: the API server itself may, of others it is asked.
async fn may(node: &Node, user: &User, method: &Method, path: &str) -> bool {
    if user.groups.iter().any(|group| group == MASTERS) {
        return true;
    }
    let verb = match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        _ => "update",
    };
    let subresource = match path.split('/').nth(1).unwrap_or_default() {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "healthz" => "healthz",
        "pods" => "pods",
        _ => "proxy",
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": user.name, "groups": user.groups, "resourceAttributes": {"verb": verb, "group": "",
            "version": "v1", "resource": "nodes", "subresource": subresource, "name": node.options.name}}});
    let answer = node.api.create(Target::new(REVIEWS, "", ""), review).await;
    answer.is_ok_and(|answer| answer["status"]["allowed"] == true)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into())
        .map_err(|never| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn as_json(value: &Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

/// The parameters of a URL, in their order.
fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn answer(
    node: Arc<Node>,
    pods: Pods,
    user: User,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if !may(&node, &user, request.method(), &path).await {
        let words = format!(
            "Forbidden (user={}, resource=nodes, node={})",
            user.name, node.options.name
        );
        return text(StatusCode::FORBIDDEN, words);
    }
    let query = parameters(request.uri().query());
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    match words.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => text(StatusCode::OK, "ok"),
        ["pods" | "runningpods"] => list(&pods),
        ["stats", "summary"] => crate::figures::summary(&node)
            .await
            .map_or_else(unavailable, |value| as_json(&value)),
        ["metrics", "resource"] => crate::figures::resource(&node)
            .await
            .map_or_else(unavailable, |lines| text(StatusCode::OK, lines)),
        ["metrics", ..] => text(StatusCode::OK, ""),
        ["containerLogs", namespace, name, container] => {
            container_logs(&node, &pods, namespace, name, container, &query).await
        }
        ["exec" | "attach", namespace, name, rest @ ..] if rest.len() <= 2 => {
            let container = rest.last().copied().unwrap_or_default();
            let is_exec = words[0] == "exec";
            match stream_url(&node, &pods, namespace, name, container, is_exec, &query).await {
                Ok(url) => crate::relay::relay(&url, request).await,
                Err(response) => *response,
            }
        }
        ["portForward", namespace, name, ..] => {
            match forward_url(&node, &pods, namespace, name, &query).await {
                Ok(url) => crate::relay::relay(&url, request).await,
                Err(response) => *response,
            }
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn unavailable(words: String) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, words)
}

fn list(pods: &Pods) -> Response<Body> {
    let items: Vec<Value> = pods.all().iter().map(|pod| json!(**pod)).collect();
    as_json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

type Refused = Box<Response<Body>>;

fn refuse(status: StatusCode, words: String) -> Refused {
    Box::new(text(status, words))
}

fn find(pods: &Pods, namespace: &str, name: &str) -> Result<Arc<Pod>, Refused> {
    let missing = || {
        refuse(
            StatusCode::NOT_FOUND,
            format!("pod \"{name}_{namespace}\" not found"),
        )
    };
    pods.find(namespace, name).ok_or_else(missing)
}

async fn attempts(node: &Node, pod: &Pod) -> Result<seen::Seen, Refused> {
    let seen = seen::look(&*node.cri, part::uid(pod)).await;
    seen.map_err(|status| {
        refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_owned(),
        )
    })
}

async fn container_logs(
    node: &Arc<Node>,
    pods: &Pods,
    namespace: &str,
    name: &str,
    container: &str,
    query: &[(String, String)],
) -> Response<Body> {
    let query: HashMap<&str, &str> = query
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let wanted = match wanted(&query) {
        Ok(wanted) => wanted,
        Err(words) => return text(StatusCode::UNPROCESSABLE_ENTITY, words),
    };
    let is_set = |name: &str| {
        query
            .get(name)
            .is_some_and(|value| matches!(*value, "true" | "1"))
    };
    let found = async {
        let pod = find(pods, namespace, name)?;
        let seen = attempts(node, &pod).await?;
        let attempt = match is_set("previous") {
            true => seen.previous(container).or_else(|| {
                let waits = seen.latest(container).is_some_and(Attempt::is_over);
                seen.latest(container).filter(|_| waits)
            }),
            false => seen.latest(container),
        };
        match (attempt, is_set("previous")) {
            (Some(attempt), _) => Ok(attempt.clone()),
            (None, true) => Err(refuse(
                StatusCode::BAD_REQUEST,
                format!("previous terminated container {container:?} in pod {name:?} not found"),
            )),
            (None, false) => Err(refuse(
                StatusCode::BAD_REQUEST,
                format!(
                    "container {container:?} in pod {name:?} is waiting to start: ContainerCreating"
                ),
            )),
        }
    };
    match found.await {
        Ok(attempt) => send_log(node, attempt, wanted),
        Err(response) => *response,
    }
}

fn wanted(query: &HashMap<&str, &str>) -> Result<Wanted, String> {
    let is_set = |name: &str| {
        query
            .get(name)
            .is_some_and(|value| matches!(*value, "true" | "1"))
    };
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("{name}={text} is not a number")),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            jiff::Timestamp::now()
                .checked_sub(jiff::SignedDuration::from_secs(seconds))
                .ok()
        }
        (None, Some(time)) => Some(
            time.parse()
                .map_err(|_| format!("sinceTime={time} is not a time"))?,
        ),
        (None, None) => None,
    };
    Ok(Wanted {
        follow: is_set("follow"),
        timestamps: is_set("timestamps"),
        tail: number("tailLines")?,
        since,
        limit_bytes: number("limitBytes")?,
        stream: query.get("stream").map(|stream| (*stream).to_owned()),
    })
}

fn send_log(node: &Arc<Node>, attempt: Attempt, wanted: Wanted) -> Response<Body> {
    let (sender, receiver) = tokio::sync::mpsc::channel(BLOCKS);
    let (cri, id) = (node.cri.clone(), attempt.id().to_owned());
    let ended = async move || {
        let request = v1::ContainerStatusRequest {
            container_id: id.clone(),
            verbose: false,
        };
        let answer = cri.container_status(request).await;
        let status = answer.ok().and_then(|answer| answer.status);
        status.is_none_or(|status| status.state() != v1::ContainerState::ContainerRunning)
    };
    let path = attempt.status.log_path.clone().into();
    tokio::spawn(logs::send(path, wanted, sender, ended));
    let blocks = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let block = receiver.recv().await?;
        Some((block.map(Frame::data), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(
        blocks,
    )))));
    let plain = http::HeaderValue::from_static("text/plain");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

type Blocks = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync>,
>;

/// A stream that only its body polls.
struct SyncStream(Blocks);

impl futures_util::Stream for SyncStream {
    type Item = std::io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

async fn stream_url(
    node: &Node,
    pods: &Pods,
    namespace: &str,
    name: &str,
    container: &str,
    is_exec: bool,
    query: &[(String, String)],
) -> Result<String, Refused> {
    let pod = find(pods, namespace, name)?;
    let seen = attempts(node, &pod).await?;
    let attempt = seen
        .latest(container)
        .filter(|attempt| attempt.is_running());
    let attempt = attempt.ok_or_else(|| {
        refuse(
            StatusCode::BAD_REQUEST,
            format!("container not found ({container:?})"),
        )
    })?;
    let is_set = |wanted: &str| {
        query
            .iter()
            .any(|(name, value)| name == wanted && matches!(value.as_str(), "1" | "true"))
    };
    let id = attempt.id().to_owned();
    let url = if is_exec {
        let words = query
            .iter()
            .filter(|(name, _)| name == "command")
            .map(|(_, value)| value.clone());
        let request = v1::ExecRequest {
            container_id: id,
            cmd: words.collect(),
            tty: is_set("tty"),
            stdin: is_set("input"),
            stdout: is_set("output"),
            stderr: is_set("error") && !is_set("tty"),
        };
        node.cri.exec(request).await.map(|answer| answer.url)
    } else {
        let parts = part::parts(&pod);
        let tty = parts
            .iter()
            .any(|part| part.name() == container && part.container.tty == Some(true));
        let request = v1::AttachRequest {
            container_id: id,
            stdin: is_set("input"),
            tty,
            stdout: is_set("output"),
            stderr: is_set("error") && !tty,
        };
        node.cri.attach(request).await.map(|answer| answer.url)
    };
    url.map_err(|status| {
        refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_owned(),
        )
    })
}

async fn forward_url(
    node: &Node,
    pods: &Pods,
    namespace: &str,
    name: &str,
    query: &[(String, String)],
) -> Result<String, Refused> {
    let pod = find(pods, namespace, name)?;
    let seen = attempts(node, &pod).await?;
    let sandbox = seen.ready_sandbox().ok_or_else(|| {
        refuse(
            StatusCode::BAD_REQUEST,
            format!("pod \"{name}_{namespace}\" does not run"),
        )
    })?;
    let ports = query
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "port" | "ports"));
    let ports = ports.flat_map(|(_, value)| {
        value
            .split(',')
            .filter_map(|port| port.parse().ok())
            .collect::<Vec<_>>()
    });
    let request = v1::PortForwardRequest {
        pod_sandbox_id: sandbox.id.clone(),
        port: ports.collect(),
    };
    let answer = node.cri.port_forward(request).await;
    answer.map(|answer| answer.url).map_err(|status| {
        refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_owned(),
        )
    })
}

/// A connection to a program that has any certificate: probes do not ask who it is.
pub(crate) async fn unverified(stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::{ServerName, UnixTime};

    #[derive(Debug)]
    struct Anybody(CryptoProvider);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        .with_no_client_auth();
    let address = stream.peer_addr()?.ip();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector
        .connect(ServerName::IpAddress(address.into()), stream)
        .await
}

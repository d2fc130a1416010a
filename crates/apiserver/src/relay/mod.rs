//! Requests that others answer: nodes for exec, attach, port-forward and logs; pods, services and nodes behind `proxy`.
//!
//! Who asks and whether they may is settled here; then bytes pass both ways as they come, without a copy being kept.

pub mod dial;
pub mod forward;
pub mod places;
mod pods;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{ACCEPT, HOST, HeaderValue, LOCATION, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wharf_kube_types::{Status, object};

use crate::admission::{self, Attributes, Operation};
use crate::aggregation;
use crate::api::Api;
use crate::authn::User;
use crate::authz::Ask;
use crate::call::Call;
use crate::certificates::Pair;
use crate::handle;
use crate::info::{Info, Query};
use crate::output::{Output, Reply};
use crate::verbs::get;
use dial::{Believe, Destination, Guard};
use forward::{Body, Passing, Redirects};

/// Relayed requests under way at once.
const RELAYED_MAX: usize = 8192;
/// How much of a node's error is read.
const ERROR_BYTES_MAX: usize = 2048;

/// Whose certificates of nodes are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeTrust {
    /// Those that the cluster's own authority signed.
    #[default]
    Cluster,
    /// Those that these authorities signed, in PEM.
    Authorities(String),
    /// Everyone's: whoever can take a node's address can then read what is sent to it.
    Anyone,
}

struct Identity {
    pair: Pair,
    cluster: String,
    trust: NodeTrust,
    /// To nodes, as this server.
    node: Arc<ClientConfig>,
}

/// What requests to others need.
pub struct Relay {
    identity: RwLock<Identity>,
    /// To others, as nobody.
    anyone: Arc<ClientConfig>,
    front: RwLock<Arc<Pair>>,
    front_authority: String,
    own_port: AtomicU16,
    loopback: AtomicBool,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

fn node_config(
    pair: &Pair,
    cluster: &str,
    trust: &NodeTrust,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let believe = match trust {
        NodeTrust::Cluster => Believe::Authorities(cluster),
        NodeTrust::Authorities(pem) => Believe::Authorities(pem),
        NodeTrust::Anyone => Believe::Anyone,
    };
    dial::tls(believe, Some(pair)).map_err(rustls::Error::General)
}

impl Relay {
    /// With this server's certificate as a client of nodes, the cluster's authority, and this server's certificate as
    /// a client of extension servers with the authority for those.
    ///
    /// # Errors
    /// Certificates or keys that are none.
    pub fn new(pair: Pair, cluster: &str, front: (Pair, String)) -> Result<Self, rustls::Error> {
        let trust = NodeTrust::default();
        let identity = Identity {
            node: node_config(&pair, cluster, &trust)?,
            cluster: cluster.to_owned(),
            pair,
            trust,
        };
        Ok(Self {
            identity: RwLock::new(identity),
            anyone: dial::tls(Believe::Anyone, None).map_err(rustls::Error::General)?,
            front: RwLock::new(Arc::new(front.0)),
            front_authority: front.1,
            own_port: AtomicU16::new(0),
            loopback: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(RELAYED_MAX)),
        })
    }

    /// Believes these from now on.
    ///
    /// # Errors
    /// Certificates that are none.
    pub fn trust(&self, trust: NodeTrust) -> Result<(), rustls::Error> {
        let write = || self.identity.write();
        let mut identity = write().unwrap_or_else(PoisonError::into_inner);
        identity.node = node_config(&identity.pair, &identity.cluster, &trust)?;
        identity.trust = trust;
        Ok(())
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// Certificates that are none.
    pub fn renew(&self, pair: Pair) -> Result<(), rustls::Error> {
        let write = || self.identity.write();
        let mut identity = write().unwrap_or_else(PoisonError::into_inner);
        identity.node = node_config(&pair, &identity.cluster, &identity.trust)?;
        identity.pair = pair;
        Ok(())
    }

    /// The port that this server listens on: nothing is relayed to it.
    pub fn set_own_port(&self, port: u16) {
        self.own_port.store(port, Ordering::Relaxed);
    }

    /// Whether pods and services may have addresses of this machine only.
    #[cfg(test)]
    pub fn allow_loopback(&self) {
        self.loopback.store(true, Ordering::Relaxed);
    }

    /// The opposite.
    #[cfg(test)]
    pub fn forbid_loopback(&self) {
        self.loopback.store(false, Ordering::Relaxed);
    }

    /// This server's certificate as a client of extension servers.
    pub fn front(&self) -> Arc<Pair> {
        let read = self.front.read();
        read.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows extension servers another certificate from now on.
    pub fn renew_front(&self, pair: Pair) {
        let mut front = self.front.write().unwrap_or_else(PoisonError::into_inner);
        *front = Arc::new(pair);
    }

    /// The authority, in PEM, that extension servers believe about this one.
    pub fn front_authority(&self) -> &str {
        &self.front_authority
    }

    fn to_node(&self) -> Arc<ClientConfig> {
        let read = self.identity.read();
        read.unwrap_or_else(PoisonError::into_inner).node.clone()
    }

    /// For addresses that clients choose; nodes are chosen by whoever runs the cluster.
    pub fn guard(&self, chosen: bool) -> Guard {
        Guard {
            own_port: self.own_port.load(Ordering::Relaxed),
            global_only: chosen && !self.loopback.load(Ordering::Relaxed),
        }
    }

    /// A place among the relayed requests.
    ///
    /// # Errors
    /// 429.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.places.clone().try_acquire_owned();
        place
            .map_err(|_| Status::too_many_requests("Too many requests, please try again later.", 1))
    }
}

/// Whether others answer for a path.
pub fn concerns(api: &Api, path: &str) -> bool {
    is_relayed(path) || api.aggregated.concerns(path)
}

/// Whether nodes, pods or services answer for a path.
fn is_relayed(path: &str) -> bool {
    let Some(rest) = path.trim_start_matches('/').strip_prefix("api/v1/") else {
        return false;
    };
    let mut steps = rest.split('/').filter(|step| !step.is_empty());
    let (resource, sub) = match steps.next() {
        Some("namespaces") => (steps.nth(1), steps.nth(1)),
        first => (first, steps.nth(1)),
    };
    matches!(
        (resource, sub),
        (
            Some("pods"),
            Some("exec" | "attach" | "portforward" | "log" | "proxy")
        ) | (Some("services" | "nodes"), Some("proxy"))
    )
}

/// A request with what is known of it.
struct Asked {
    api: Arc<Api>,
    info: Info,
    query: Query,
    parts: Parts,
    body: Body,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
    place: OwnedSemaphorePermit,
}

/// An answer on its way; boxed, so that other requests don't carry its size.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Reply>> + Send>>;

/// Answers one of these requests.
pub fn respond(
    api: Arc<Api>,
    certificate: Option<Arc<User>>,
    request: Request<Incoming>,
) -> Answering {
    Box::pin(async move {
        let accept = request.headers().get(ACCEPT).cloned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = Info::read(request.method(), request.uri().path(), &query);
        let resource = info.resource.clone();
        let answered = answer(&api, certificate.as_ref(), request, info, query).await;
        let code = answered
            .as_ref()
            .map_or_else(|status| status.code, |response| response.status().as_u16());
        api.metrics.count("connect", &resource, code);
        answered.map_err(|status| {
            let accept = accept.as_ref().and_then(|v| v.to_str().ok());
            let output = Output::negotiate(accept.unwrap_or_default()).unwrap_or(Output::JSON);
            Reply::status(output, &status)
        })
    })
}

async fn answer(
    api: &Arc<Api>,
    certificate: Option<&Arc<User>>,
    mut request: Request<Incoming>,
    info: Info,
    query: Query,
) -> Result<Response<Body>, Status> {
    let token = websocket_token(request.headers_mut())?;
    let upgrade =
        forward::wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let head = handle::Request {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body: &[],
        certificate,
        inside: false,
    };
    let user = handle::identify(api, &head, token.as_deref(), &info)?;
    let agent = head.header(USER_AGENT).to_owned();
    if let Some(remote) = api.aggregated.of_path(parts.uri.path()) {
        let path = parts.uri.path_and_query().map(ToString::to_string);
        let passing = Passing {
            method: parts.method,
            headers: parts.headers,
            body: forward::streamed(body),
            upgrade,
            redirects: Redirects::Refuse,
            user: None,
            place: api.relay.place()?,
        };
        let path = path.unwrap_or_default();
        return aggregation::pass_on(api, &remote, user, &path, passing).await;
    }
    let mut call = handle::call(api, &info, query.clone(), user, &agent)?;
    let known = call.kind.resource.subresource(&info.subresource);
    if known.is_none() || info.name.is_empty() {
        return Err(Status::no_such_path());
    }
    let asked = Asked {
        api: api.clone(),
        place: api.relay.place()?,
        body: forward::streamed(body),
        info,
        query,
        parts,
        upgrade,
    };
    match asked.info.subresource.as_str() {
        "log" => log(asked, &call).await,
        "proxy" => proxy(asked, &mut call).await,
        _ => stream(asked, &mut call).await,
    }
}

/// The token that a browser sends as one of a WebSocket's protocols; it is taken away, whoever answers.
fn websocket_token(headers: &mut HeaderMap) -> Result<Option<String>, Status> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let offered: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_owned())
        .collect();
    let (tokens, others): (Vec<String>, Vec<String>) =
        offered.into_iter().partition(|p| p.starts_with(PREFIX));
    let Some(token) = tokens.first() else {
        return Ok(None);
    };
    use base64::Engine as _;
    let text = token.strip_prefix(PREFIX).unwrap_or_default();
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text);
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(Status::unauthorized)?;
    if others.is_empty() {
        return Err(Status::unauthorized());
    }
    let rest = HeaderValue::from_str(&others.join(", ")).map_err(|_| Status::unauthorized())?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    Ok(Some(format!("Bearer {decoded}")))
}

fn allows(asked: &Asked, methods: &[Method]) -> Result<(), Status> {
    match methods.contains(&asked.parts.method) {
        true => Ok(()),
        false => Err(Status::method_not_allowed_here()),
    }
}

/// Lets webhooks and policies judge a connection; they see what is asked of the pod.
async fn admit(call: &mut Call, options: &mut Value) -> Result<(), Status> {
    let mut what = Attributes::new(Operation::Connect, Some(options), None);
    admission::connect(call, &mut what).await
}

/// exec, attach and port-forward.
async fn stream(asked: Asked, call: &mut Call) -> Result<Response<Body>, Status> {
    allows(&asked, &[Method::GET, Method::POST])?;
    // A WebSocket begins with a GET: whoever may only read does not thereby run commands.
    if asked.info.verb != "create" {
        let mut ask = Ask::of(&asked.info);
        ask.verb = "create";
        asked.api.authorizer.demand(&asked.api, &call.user, &ask)?;
    }
    let sub = asked.info.subresource.clone();
    let raw = asked.parts.uri.query().unwrap_or_default();
    let mut options = pods::options(&sub, raw)?;
    let pod = get::get(call).await?.to_value();
    admit(call, &mut options).await?;
    let path = pods::location(&sub, &pod, &options)?;
    let node = object::text(&pod, "spec.nodeName");
    if node.is_empty() {
        let name = object::name(&pod);
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let destination = at_node(&asked.api, node, path)?;
    if asked.upgrade.is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let relay = &asked.api.relay;
    let mut headers = asked.parts.headers;
    headers.remove(HOST);
    let passing = Passing {
        method: asked.parts.method,
        headers,
        body: asked.body,
        upgrade: asked.upgrade,
        redirects: Redirects::Refuse,
        user: None,
        place: asked.place,
    };
    forward::forward(&destination, relay.guard(false), passing)
        .await
        .map_err(|why| Status::internal(&format!("error dialing backend: {why}")))
}

fn at_node(api: &Api, node: &str, path: String) -> Result<Destination, Status> {
    let (host, port) = places::node(api, node)?;
    Ok(Destination {
        host,
        port,
        name: None,
        tls: Some(api.relay.to_node()),
        path,
    })
}

/// A container's log. A pod that has no node yet has an empty one.
async fn log(asked: Asked, call: &Call) -> Result<Response<Body>, Status> {
    allows(&asked, &[Method::GET])?;
    let pod = get::get(call).await?.to_value();
    let path = pods::log_location(&pod, &asked.query)?;
    let node = object::text(&pod, "spec.nodeName");
    if node.is_empty() {
        return Ok(plain(forward::empty()));
    }
    let mut destination = at_node(&asked.api, node, path)?;
    if asked.query.flag("insecureSkipTLSVerifyBackend") {
        destination.tls = Some(asked.api.relay.anyone.clone());
    }
    let passing = Passing {
        method: Method::GET,
        headers: HeaderMap::new(),
        body: forward::empty(),
        upgrade: None,
        redirects: Redirects::Refuse,
        user: None,
        place: asked.place,
    };
    let guard = asked.api.relay.guard(false);
    let answer = forward::forward(&destination, guard, passing).await;
    let answer =
        answer.map_err(|why| Status::internal(&format!("Get {:?}: {why}", destination.url())))?;
    if answer.status().is_success() {
        return Ok(plain(answer.into_body()));
    }
    Err(node_error(call, answer).await)
}

fn plain(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let text = HeaderValue::from_static("text/plain");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, text);
    response
}

/// A node's refusal as the client sees it.
async fn node_error(call: &Call, answer: Response<Body>) -> Status {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX);
    let text = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    match code {
        400 => Status::bad_request(text),
        500 => Status::internal(&text),
        code => Status::from_server(code, &call.kind.resource, &call.name, &text),
    }
}

/// What follows `proxy` in a path, as it was sent: the beginning with its slash, or nothing.
fn path_after_proxy(path: &str) -> &str {
    let namespaced = path
        .trim_start_matches('/')
        .strip_prefix("api/v1/namespaces/")
        .is_some();
    let steps = if namespaced { 7 } else { 5 };
    let mut seen = 0;
    let mut inside = false;
    for (index, byte) in path.bytes().enumerate() {
        match (byte, inside) {
            (b'/', true) => {
                inside = false;
                if seen == steps {
                    return &path[index..];
                }
            }
            (b'/', false) => {}
            (_, false) => {
                inside = true;
                seen += 1;
            }
            _ => {}
        }
    }
    ""
}

/// The path without steps that lead back, so that nothing above the proxied place is meant by it.
fn clean(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let dots = |step: &str| {
        let step = step.to_ascii_lowercase().replace("%2e", ".");
        (step == ".", step == "..")
    };
    let mut directory = false;
    for step in path.split('/').skip(1) {
        let (here, back) = dots(step);
        directory = step.is_empty() || here || back;
        if back {
            out.pop();
        } else if !directory {
            out.push(step);
        }
    }
    let mut text = String::with_capacity(path.len());
    for step in &out {
        text.push('/');
        text.push_str(step);
    }
    if directory || text.is_empty() {
        text.push('/');
    }
    text
}

/// Proxies of pods, services and nodes.
async fn proxy(asked: Asked, call: &mut Call) -> Result<Response<Body>, Status> {
    let kind = call
        .kind
        .resource
        .subresource("proxy")
        .map(|s| s.kind.clone());
    let raw = path_after_proxy(asked.parts.uri.path());
    let mut options = serde_json::json!({
        "kind": kind.unwrap_or_default(), "apiVersion": "v1", "path": raw.trim_start_matches('/')});
    admit(call, &mut options).await?;
    let query = asked.parts.uri.query().map(|q| format!("?{q}"));
    let query = query.unwrap_or_default();
    if raw.is_empty() && matches!(asked.parts.method, Method::GET | Method::HEAD) {
        // Relative links in what is answered would otherwise lead above the proxy.
        return Ok(moved(&format!("{}/{query}", asked.parts.uri.path())));
    }
    let path = format!("{}{query}", clean(raw));
    let (destination, chosen) = proxied(&asked, call, path)?;
    let below = asked.parts.uri.path();
    let below = below[..below.len() - raw.len()].to_owned();
    let mut headers = asked.parts.headers;
    describe(&mut headers, &asked.parts.uri, &below);
    if !chosen {
        headers.remove(HOST);
    }
    let passing = Passing {
        method: asked.parts.method,
        headers,
        body: asked.body,
        upgrade: asked.upgrade,
        redirects: Redirects::Below(below),
        user: None,
        place: asked.place,
    };
    let guard = asked.api.relay.guard(chosen);
    let answer = forward::forward(&destination, guard, passing).await;
    answer.map_err(|why| match why.as_str() {
        "address not allowed" => Status::bad_request(why),
        _ => Status::unavailable(format!("error trying to reach service: {why}")),
    })
}

/// Tells the upstream how it was reached.
fn describe(headers: &mut HeaderMap, uri: &http::Uri, below: &str) {
    let authority = uri.authority().map(|a| a.as_str().to_owned());
    if let (None, Some(host)) = (headers.get(HOST), &authority)
        && let Ok(host) = HeaderValue::from_str(host)
    {
        headers.insert(HOST, host);
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Ok(below) = HeaderValue::from_str(below) {
        headers.insert("x-forwarded-uri", below);
    }
}

fn moved(to: &str) -> Response<Body> {
    let mut response = Response::new(forward::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Where a proxy leads, and whether a client had a say in the address.
fn proxied(asked: &Asked, call: &Call, path: String) -> Result<(Destination, bool), Status> {
    let plural = call.kind.resource.plural.as_str();
    let id = call.name.as_str();
    let invalid = || {
        let what = plural.trim_end_matches('s');
        Status::bad_request(format!("invalid {what} request {id:?}"))
    };
    let named = places::Named::read(id).ok_or_else(invalid)?;
    let relay = &asked.api.relay;
    let tls = named.secure.then(|| relay.anyone.clone());
    let to = |host: String, port: u16| Destination {
        host,
        port,
        name: None,
        tls,
        path: path.clone(),
    };
    match plural {
        "nodes" => {
            let (host, port) = places::node(&asked.api, named.name)?;
            match named.number()?.filter(|wanted| *wanted != port) {
                None => Ok((at_node(&asked.api, named.name, path)?, false)),
                Some(other) => Ok((to(host, other), true)),
            }
        }
        "pods" => {
            let pod = places::find(&asked.api, "pods", &call.namespace, named.name)?;
            let (ip, port) = places::pod(&pod, &named)?;
            Ok((to(ip.to_string(), port), true))
        }
        _ => {
            let address = places::service(&asked.api, &call.namespace, &named)?;
            Ok((to(address.ip().to_string(), address.port()), true))
        }
    }
}

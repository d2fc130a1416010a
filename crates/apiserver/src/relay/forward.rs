//! One request passed on: headers that may travel, the upstream's answer with its bounds, and upgraded connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::sync::OwnedSemaphorePermit;

use crate::authn::User;

use super::dial::{Destination, Guard, dial};

/// The body of an answer.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Time for the head of an answer; its body may take as long as it likes.
const HEAD_LIMIT: Duration = Duration::from_secs(300);
/// Time for the second direction of an upgraded connection after the first has ended.
const LINGER: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

const HEADER_NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Headers that speak of one connection only.
const HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What becomes of an answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// It is an error: the client would carry its rights to where it is sent.
    Refuse,
    /// Places below the upstream become places below this path; others stay.
    Below(String),
}

/// A request on its way.
pub struct Passing {
    /// The method.
    pub method: Method,
    /// The headers, as the client sent them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The client's connection, where it wants another protocol.
    pub upgrade: Option<OnUpgrade>,
    /// What becomes of redirections.
    pub redirects: Redirects,
    /// Who asks, for an upstream that takes this server's word for it.
    pub user: Option<Arc<User>>,
    /// Held while a connection is upgraded.
    pub place: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on its way", self.method)
    }
}

/// An empty body.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|e| match e {}).boxed()
}

/// A client's body.
pub fn streamed(body: Incoming) -> Body {
    body.map_err(std::io::Error::other).boxed()
}

/// Whether a request wants another protocol.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let all = headers.get_all(CONNECTION).into_iter();
    let mut tokens = all
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    headers.contains_key(UPGRADE) && tokens.any(|t| t.trim().eq_ignore_ascii_case("upgrade"))
}

fn strip_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

/// Headers that a client may send on; who the client is was settled here and is nobody else's business.
fn request_headers(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = headers.get(UPGRADE).cloned();
    strip_hops(headers);
    let own = |name: &HeaderName| {
        let name = name.as_str();
        name == AUTHORIZATION.as_str()
            || name.starts_with("impersonate-")
            || name.starts_with("x-remote-")
    };
    let private: Vec<HeaderName> = headers.keys().filter(|name| own(name)).cloned().collect();
    for name in private {
        headers.remove(name);
    }
    if let (true, Some(protocol)) = (upgrade, protocol) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Names the user to an upstream that knows this server by its certificate.
fn name_user(headers: &mut HeaderMap, user: &User) {
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        // A header's name has fewer letters than a key.
        let key = utf8_percent_encode(key, HEADER_NAME).to_string();
        for value in values {
            add(&format!("x-remote-extra-{key}"), value);
        }
    }
}

/// Headers of an answer that reach the client.
fn response_headers(headers: &mut HeaderMap) {
    strip_hops(headers);
    let cross: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in cross {
        headers.remove(name);
    }
}

/// Where a redirection leads as the client sees it.
fn rewritten(location: &str, destination: &Destination, below: &str, host: &str) -> Option<String> {
    let url: http::Uri = location.parse().ok()?;
    if let Some(authority) = url.authority()
        && authority.as_str() != destination.authority()
        && authority.as_str() != host
    {
        return None;
    }
    let path = url.path();
    if !location.contains("://") && !location.starts_with('/') {
        return None;
    }
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    let below = below.trim_end_matches('/');
    let known = path == below || path.starts_with(&format!("{below}/"));
    Some(match known {
        true => format!("{path}{query}"),
        false => format!("{below}{path}{query}"),
    })
}

/// Passes a request on and gives the answer.
///
/// # Errors
/// The upstream can't be reached, or its answer is none; in the original's words.
pub async fn forward(
    destination: &Destination,
    guard: Guard,
    passing: Passing,
) -> Result<Response<Body>, String> {
    let Passing {
        method,
        mut headers,
        body,
        upgrade,
        redirects,
        user,
        place,
    } = passing;
    let stream = dial(destination, guard).await?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());
    let wanted = headers.get(UPGRADE).cloned();
    request_headers(&mut headers, upgrade.is_some());
    if let Some(user) = user {
        name_user(&mut headers, &user);
    }
    let host = headers
        .get(HOST)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if headers.get(HOST).is_none() {
        let host = HeaderValue::from_str(&destination.authority()).map_err(|e| e.to_string())?;
        headers.insert(HOST, host);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = destination
        .path
        .parse()
        .map_err(|_| "the path is no path".to_owned())?;
    *request.headers_mut() = headers;
    let answer = tokio::time::timeout(HEAD_LIMIT, sender.send_request(request)).await;
    let mut answer = answer
        .map_err(|_| "net/http: timeout awaiting response headers".to_owned())?
        .map_err(|e| e.to_string())?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let client = upgrade.ok_or("the upstream changed the protocol unasked")?;
        return switched(&mut answer, client, wanted.as_ref(), place);
    }
    let (mut parts, body) = answer.into_parts();
    response_headers(&mut parts.headers);
    if parts.status.is_redirection()
        && let Some(location) = parts.headers.get(LOCATION)
    {
        match &redirects {
            Redirects::Refuse => return Ok(refused_redirect()),
            Redirects::Below(below) => {
                let location = location.to_str().unwrap_or_default();
                let new = rewritten(location, destination, below, &host);
                if let Some(new) = new.and_then(|text| HeaderValue::from_str(&text).ok()) {
                    parts.headers.insert(LOCATION, new);
                }
            }
        }
    }
    Ok(Response::from_parts(parts, streamed(body)))
}

fn refused_redirect() -> Response<Body> {
    let text = "the backend attempted to redirect this request, which is not permitted";
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The answer that changes the protocol; from then on bytes go both ways as they are.
fn switched(
    answer: &mut Response<Incoming>,
    client: OnUpgrade,
    wanted: Option<&HeaderValue>,
    place: OwnedSemaphorePermit,
) -> Result<Response<Body>, String> {
    let protocol = answer.headers().get(UPGRADE).cloned();
    let same = |a: &HeaderValue, b: &HeaderValue| a.as_bytes().eq_ignore_ascii_case(b.as_bytes());
    let protocol = protocol
        .filter(|own| wanted.is_some_and(|wanted| same(own, wanted)))
        .ok_or("the upstream changed to a protocol that nobody asked for")?;
    let upstream = hyper::upgrade::on(&mut *answer);
    let mut headers = std::mem::take(answer.headers_mut());
    response_headers(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    tokio::spawn(async move {
        // Both halves or none: a client that went away before its answer takes the upstream with it.
        if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
            tie(TokioIo::new(client), TokioIo::new(upstream)).await;
        }
        drop(place);
    });
    Ok(response)
}

async fn tie(
    client: TokioIo<hyper::upgrade::Upgraded>,
    upstream: TokioIo<hyper::upgrade::Upgraded>,
) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_upstream, mut to_upstream) = split(upstream);
    let there = async {
        let _ = copy(&mut from_client, &mut to_upstream).await;
        let _ = to_upstream.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut from_upstream, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(there, back);
    // When one side has ended, the other gets a moment for what is under way.
    tokio::select! {
        () = &mut there => { let _ = tokio::time::timeout(LINGER, back).await; }
        () = &mut back => { let _ = tokio::time::timeout(LINGER, there).await; }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (name, value) in pairs {
            out.append(*name, HeaderValue::from_static(value));
        }
        out
    }

    #[test]
    fn credentials_and_hops_stay_here() {
        let mut all = headers(&[
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("impersonate-extra-x", "y"),
            ("x-remote-user", "root"),
            ("connection", "Upgrade, x-mine"),
            ("x-mine", "1"),
            ("upgrade", "SPDY/3.1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        assert!(wants_upgrade(&all));
        let mut plain = all.clone();
        request_headers(&mut plain, false);
        assert_eq!(plain, headers(&[("accept", "*/*")]));
        request_headers(&mut all, true);
        assert_eq!(all.len(), 3);
        assert_eq!(all["upgrade"], "SPDY/3.1");
        assert_eq!(all["connection"], "Upgrade");
    }

    #[test]
    fn redirections_stay_below_the_proxy() {
        let destination = Destination {
            host: "10.0.0.1".to_owned(),
            port: 80,
            name: None,
            tls: None,
            path: "/x".to_owned(),
        };
        let check = |location: &str, expect: Option<&str>| {
            let got = rewritten(location, &destination, "/api/v1/p/proxy/", "api:6443");
            assert_eq!(got.as_deref(), expect, "{location}");
        };
        check("/login?a=b", Some("/api/v1/p/proxy/login?a=b"));
        check("http://10.0.0.1:80/in", Some("/api/v1/p/proxy/in"));
        check("https://api:6443/in", Some("/api/v1/p/proxy/in"));
        check("/api/v1/p/proxy/in", Some("/api/v1/p/proxy/in"));
        check("https://elsewhere/in", None);
        check("in", None);
    }
}

//! Agreeing with a client on how streams travel: WebSocket (RFC 6455) or SPDY/3.1, and which protocol inside.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const SPDY: &str = "SPDY/3.1";
const SPDY_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

/// Protocols that are spoken, by what carries them.
#[derive(Debug)]
pub(super) struct Protocols {
    pub websocket: &'static [&'static str],
    pub spdy: &'static [&'static str],
}

/// What was agreed on. The protocol is empty when the client named none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    WebSocket {
        protocol: &'static str,
        accept: String,
    },
    Spdy {
        protocol: &'static str,
    },
}

impl Agreed {
    /// The response that switches protocols.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let (upgrade, name, protocol) = match self {
            Agreed::WebSocket { protocol, accept } => {
                if let Ok(accept) = HeaderValue::from_str(accept) {
                    headers.insert("sec-websocket-accept", accept);
                }
                ("websocket", WEBSOCKET_PROTOCOL, *protocol)
            }
            Agreed::Spdy { protocol } => (SPDY, SPDY_PROTOCOL, *protocol),
        };
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        if !protocol.is_empty() {
            headers.insert(name, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// A refusal in words.
pub(super) fn refusal(code: StatusCode, words: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = code;
    response
}

/// The first of the client's protocols that is ours too.
pub(super) fn agree(
    headers: &HeaderMap,
    ours: &Protocols,
) -> Result<Agreed, Box<Response<Full<Bytes>>>> {
    let refuse = |code, words: String| Err(Box::new(refusal(code, words)));
    let wanted = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    let wanted = wanted.unwrap_or_default();
    if wanted.eq_ignore_ascii_case("websocket") {
        let key = headers.get("sec-websocket-key");
        let version = headers.get("sec-websocket-version");
        let (Some(key), Some("13")) = (key, version.and_then(|value| value.to_str().ok())) else {
            let words = "a WebSocket's handshake needs a key and version 13";
            return refuse(StatusCode::BAD_REQUEST, words.to_owned());
        };
        let accept = derive_accept_key(key.as_bytes());
        return match choose(headers, &WEBSOCKET_PROTOCOL, ours.websocket) {
            Ok(protocol) => Ok(Agreed::WebSocket { protocol, accept }),
            Err(theirs) => refuse(StatusCode::FORBIDDEN, unknown(&theirs, ours.websocket)),
        };
    }
    if !wanted.eq_ignore_ascii_case(SPDY) {
        let words = format!("unable to upgrade: missing upgrade headers in request: {headers:?}");
        return refuse(StatusCode::BAD_REQUEST, words);
    }
    match choose(headers, &SPDY_PROTOCOL, ours.spdy) {
        Ok(protocol) => Ok(Agreed::Spdy { protocol }),
        Err(theirs) => {
            let mut response = refusal(StatusCode::FORBIDDEN, unknown(&theirs, ours.spdy));
            for one in ours.spdy {
                let value = HeaderValue::from_static(one);
                response.headers_mut().append(SPDY_PROTOCOLS, value);
            }
            Err(Box::new(response))
        }
    }
}

fn choose(
    headers: &HeaderMap,
    name: &HeaderName,
    ours: &[&'static str],
) -> Result<&'static str, Vec<String>> {
    let values = headers.get_all(name).iter();
    let words = values.filter_map(|value| value.to_str().ok());
    let theirs = words.flat_map(|words| words.split(',').map(|word| word.trim().to_owned()));
    let theirs: Vec<String> = theirs.filter(|word| !word.is_empty()).collect();
    let known = |theirs: &String| ours.iter().find(|one| **one == theirs).copied();
    match theirs.iter().find_map(known) {
        Some(protocol) => Ok(protocol),
        None if theirs.is_empty() => Ok(""),
        None => Err(theirs),
    }
}

fn unknown(theirs: &[String], ours: &[&str]) -> String {
    format!(
        "unable to upgrade: unable to negotiate protocol: client supports {theirs:?}, server supports {ours:?}"
    )
}

//! The API over the network.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::{
    Answer, Api, Deletion, Error, ListRequest, Page, Patch, Result, Target, WatchEvent, WatchKind,
    WatchRequest, WatchStream,
};

/// No answer that is not a watch takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A single event is no larger than the largest object with room for its managed fields.
const EVENT_BYTES_MAX: usize = 16 << 20;
const LIST_BYTES_MAX: usize = 1 << 30;

/// Where a server is, and who asks.
#[derive(Clone, Default)]
pub struct HttpConfig {
    /// `https://HOST:PORT`.
    pub server: String,
    /// Certificates that may have signed the server's, PEM; empty: those of the system.
    pub authorities: Vec<u8>,
    /// Certificate and key of the client, PEM.
    pub identity: Option<Vec<u8>>,
    /// A bearer token.
    pub token: Option<String>,
    /// What the client calls itself.
    pub user_agent: String,
}

/// A server that is reached over HTTP.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    server: String,
    token: Option<String>,
}

impl Http {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Malformed`]: certificates or key can't be used.
    pub fn new(config: HttpConfig) -> Result<Http> {
        let malformed = |what: &str, source: reqwest::Error| Error::Malformed {
            operation: format!("use {what} for {}", config.server),
            source: source.into(),
        };
        let mut builder = Client::builder()
            .user_agent(&config.user_agent)
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true);
        if !config.authorities.is_empty() {
            let authorities = reqwest::Certificate::from_pem_bundle(&config.authorities)
                .map_err(|e| malformed("the authority's certificate", e))?;
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(identity) = &config.identity {
            let identity = reqwest::Identity::from_pem(identity)
                .map_err(|e| malformed("the client's certificate", e))?;
            builder = builder.identity(identity);
        }
        Ok(Http {
            client: builder
                .build()
                .map_err(|e| malformed("the configuration", e))?,
            server: config.server.trim_end_matches('/').to_owned(),
            token: config.token,
        })
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> Sending {
        let operation = format!("{method} {path}");
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.server))
            .query(query)
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        Sending { operation, request }
    }

    async fn json(&self, sending: Sending) -> Result<Value> {
        let operation = sending.operation.clone();
        let response = sending.timeout(ANSWER_TIMEOUT).send().await?;
        let body = body(response, &operation, LIST_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(malformed(&operation))
    }
}

/// A request and what it is for.
struct Sending {
    operation: String,
    request: reqwest::RequestBuilder,
}

impl Sending {
    fn timeout(mut self, timeout: Duration) -> Sending {
        self.request = self.request.timeout(timeout);
        self
    }

    fn body(mut self, content_type: &str, value: &Value) -> Sending {
        let body = value.to_string();
        self.request = self.request.header("content-type", content_type).body(body);
        self
    }

    /// Sends; an answer that is an error becomes one.
    async fn send(self) -> Result<Response> {
        let operation = self.operation;
        let response = self.request.send().await.map_err(unreachable(&operation))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = body(response, &operation, EVENT_BYTES_MAX).await?;
        Err(refusal(status, &body))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let value = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        json!({"message": text.trim()})
    });
    Error::from_status(status.as_u16(), &value)
}

async fn body(response: Response, operation: &str, bytes_max: usize) -> Result<Bytes> {
    let mut blocks = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(block) = blocks.next().await {
        let block = block.map_err(unreachable(operation))?;
        if body.len() + block.len() > bytes_max {
            let why = format!("it is longer than {bytes_max} bytes");
            return Err(malformed(operation)(std::io::Error::other(why)));
        }
        body.extend_from_slice(&block);
    }
    Ok(body.freeze())
}

fn unreachable(operation: &str) -> impl FnOnce(reqwest::Error) -> Error {
    let operation = operation.to_owned();
    move |source| Error::Unreachable {
        operation,
        source: source.into(),
    }
}

fn malformed<E: std::error::Error + Send + Sync + 'static>(
    operation: &str,
) -> impl FnOnce(E) -> Error {
    let operation = operation.to_owned();
    move |source| Error::Malformed {
        operation,
        source: source.into(),
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Reads one line of a watch; nothing for kinds of events that are not known.
fn event(line: &Bytes) -> Result<Option<WatchEvent>> {
    let operation = "read an event";
    let parsed: Line<'_> = serde_json::from_slice(line).map_err(malformed(operation))?;
    let kind = match parsed.r#type.as_str() {
        "ADDED" => WatchKind::Added,
        "MODIFIED" => WatchKind::Modified,
        "DELETED" => WatchKind::Deleted,
        "BOOKMARK" => WatchKind::Bookmark,
        "ERROR" => {
            let status = serde_json::from_str(parsed.object.get()).map_err(malformed(operation))?;
            return Err(Error::from_status(500, &status));
        }
        _ => return Ok(None),
    };
    let object = line.slice_ref(parsed.object.get().as_bytes());
    Ok(Some(WatchEvent { kind, object }))
}

/// Splits blocks into lines and reads each.
fn events(response: Response) -> WatchStream {
    let state = (response.bytes_stream(), BytesMut::new());
    Box::pin(futures_util::stream::unfold(
        state,
        |(mut blocks, mut rest)| async move {
            loop {
                if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line = rest.split_to(end).freeze();
                    rest.advance(1);
                    match event(&line).transpose() {
                        Some(event) => return Some((event, (blocks, rest))),
                        None => continue,
                    }
                }
                if rest.len() > EVENT_BYTES_MAX {
                    let why = std::io::Error::other("an event is too long");
                    return Some((Err(malformed("watch")(why)), (blocks, BytesMut::new())));
                }
                match blocks.next().await? {
                    Ok(block) => rest.extend_from_slice(&block),
                    Err(error) => return Some((Err(unreachable("watch")(error)), (blocks, rest))),
                }
            }
        },
    ))
}

impl Api for Http {
    fn list(&self, request: ListRequest) -> Answer<'_, Page> {
        Box::pin(async move {
            let (path, mut parameters) = (request.query.path(), request.query.parameters());
            if request.limit > 0 {
                parameters.push(("limit", request.limit.to_string()));
            }
            if !request.from.is_empty() {
                parameters.push(("continue", request.from));
            }
            let sending = self.request(Method::GET, &path, &parameters);
            let operation = sending.operation.clone();
            let response = sending.timeout(ANSWER_TIMEOUT).send().await?;
            let body = body(response, &operation, LIST_BYTES_MAX).await?;
            let list: List<'_> = serde_json::from_slice(&body).map_err(malformed(&operation))?;
            let items = list.items.unwrap_or_default();
            Ok(Page {
                resource_version: list.metadata.resource_version,
                next: list.metadata.r#continue,
                items: items
                    .iter()
                    .map(|item| body.slice_ref(item.get().as_bytes()))
                    .collect(),
            })
        })
    }

    fn watch(&self, request: WatchRequest) -> Answer<'_, WatchStream> {
        Box::pin(async move {
            let (path, mut parameters) = (request.query.path(), request.query.parameters());
            parameters.push(("watch", "true".to_owned()));
            parameters.push(("allowWatchBookmarks", "true".to_owned()));
            parameters.push(("resourceVersion", request.resource_version));
            let response = self.request(Method::GET, &path, &parameters).send().await?;
            Ok(events(response))
        })
    }

    fn get(&self, target: Target) -> Answer<'_, Value> {
        Box::pin(async move {
            self.json(self.request(Method::GET, &target.path(), &[]))
                .await
        })
    }

    fn create(&self, target: Target, object: Value) -> Answer<'_, Value> {
        let sending = self.request(Method::POST, &target.path(), &[]);
        Box::pin(async move { self.json(sending.body("application/json", &object)).await })
    }

    fn update(&self, target: Target, object: Value) -> Answer<'_, Value> {
        let sending = self.request(Method::PUT, &target.path(), &[]);
        Box::pin(async move { self.json(sending.body("application/json", &object)).await })
    }

    fn patch(&self, target: Target, patch: Patch) -> Answer<'_, Value> {
        let (content_type, body, parameters) = patch.wire();
        let sending = self.request(Method::PATCH, &target.path(), &parameters);
        Box::pin(async move { self.json(sending.body(content_type, &body)).await })
    }

    fn delete(&self, target: Target, deletion: Deletion) -> Answer<'_, Value> {
        let sending = self.request(Method::DELETE, &target.path(), &[]);
        Box::pin(async move {
            self.json(sending.body("application/json", &deletion.options()))
                .await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events_errors_or_unknown() {
        let read = |text: &'static str| event(&Bytes::from_static(text.as_bytes()));
        let added = read(r#"{"type":"ADDED","object":{"a":1}}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            (added.kind, &added.object[..]),
            (WatchKind::Added, &br#"{"a":1}"#[..])
        );
        assert!(read(r#"{"type":"NEWER","object":{}}"#).unwrap().is_none());
        let gone = read(
            r#"{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}"#,
        );
        let error = gone.unwrap_err();
        assert!(error.is_expired() && error.to_string() == "too old");
        assert!(matches!(read("{"), Err(Error::Malformed { .. })));
    }
}

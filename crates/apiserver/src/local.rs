//! The API for parts of the same process: the way of every request, without a connection.
//!
//! Authorisation, admission and validation are the same as for a request from outside; watches read the ring.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use wharf_client::{
    Answer, Deletion, Error, ListRequest, Page, Patch, Result, Target, WatchEvent, WatchKind,
    WatchRequest, WatchStream, query_text,
};

use crate::api::Api;
use crate::authn::{AUTHENTICATED, User};
use crate::handle::{Request, handle};
use crate::output::{Payload, Reply};
use crate::verbs::list;

/// No answer that is not a watch takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A user's access to the server of this process.
#[derive(Clone, Debug)]
pub struct Local {
    api: Arc<Api>,
    user: Arc<User>,
    agent: HeaderValue,
}

/// What to ask for.
struct Asked {
    method: Method,
    path: String,
    query: String,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Asked {
    fn read(path: String, parameters: &[(&str, String)]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: query_text(parameters),
            content_type: "",
            body: Vec::new(),
        }
    }

    fn write(method: Method, path: String, value: &Value) -> Self {
        Self {
            method,
            path,
            query: String::new(),
            content_type: "application/json",
            body: value.to_string().into_bytes(),
        }
    }

    fn operation(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn malformed(
    operation: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Malformed {
        operation: operation.to_owned(),
        source: source.into(),
    }
}

impl Local {
    /// For a user, who is what the name and groups say.
    pub fn new(api: Arc<Api>, name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        // The name of the field manager, as a program's own name would be.
        let short = name.rsplit(':').next().unwrap_or(name);
        let user = User {
            name: name.to_owned(),
            groups,
            ..User::default()
        };
        Self {
            api,
            user: Arc::new(user),
            agent: HeaderValue::from_str(short)
                .unwrap_or_else(|_| HeaderValue::from_static("wharf")),
        }
    }

    /// The answer, if it is none of an error.
    async fn ask(&self, asked: &Asked) -> Result<Reply> {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(USER_AGENT, self.agent.clone());
        if !asked.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(asked.content_type));
        }
        let request = Request {
            method: &asked.method,
            path: &asked.path,
            query: &asked.query,
            headers: &headers,
            body: &asked.body,
            certificate: Some(&self.user),
            inside: true,
        };
        let answered = tokio::time::timeout(ANSWER_LIMIT, handle(&self.api, &request)).await;
        let reply = answered.map_err(|source| Error::Unreachable {
            operation: asked.operation(),
            source: source.into(),
        })?;
        if reply.code < 300 {
            return Ok(reply);
        }
        let Payload::Bytes(bytes) = &reply.body else {
            return Err(malformed(&asked.operation(), "an error that goes on"));
        };
        let status = serde_json::from_slice(bytes).unwrap_or_default();
        Err(Error::from_status(reply.code, &status))
    }

    async fn value(&self, asked: Asked) -> Result<Value> {
        let reply = self.ask(&asked).await?;
        let Payload::Bytes(bytes) = reply.body else {
            return Err(malformed(&asked.operation(), "an answer that goes on"));
        };
        serde_json::from_slice(&bytes).map_err(|e| malformed(&asked.operation(), e))
    }
}

/// Objects written one after the other, each a slice of the same bytes.
fn page(page: &list::Page) -> Page {
    let size = page.objects.iter().map(|o| o.record.size()).sum();
    let mut out = Vec::with_capacity(size);
    let mut ends = Vec::with_capacity(page.objects.len());
    for object in &page.objects {
        object.record.write(&mut out);
        ends.push(out.len());
    }
    let mut rest = Bytes::from(out);
    let mut start = 0;
    let items = ends.into_iter().map(|end| {
        let item = rest.split_to(end - start);
        start = end;
        item
    });
    Page {
        items: items.collect(),
        resource_version: page.revision.to_string(),
        next: page.next.clone().unwrap_or_default(),
    }
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    metadata: WrittenMeta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: String,
    r#continue: String,
}

/// A list that had to be written, as of objects that are read in another version than they are stored in.
fn written(bytes: &Bytes) -> std::result::Result<Page, serde_json::Error> {
    let list: Written<'_> = serde_json::from_slice(bytes)?;
    let items = list.items.iter();
    Ok(Page {
        items: items
            .map(|item| bytes.slice_ref(item.get().as_bytes()))
            .collect(),
        resource_version: list.metadata.resource_version,
        next: list.metadata.r#continue,
    })
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn event(line: &Bytes) -> Result<WatchEvent> {
    let failed = |e| malformed("watch", e);
    let parsed: Line<'_> = serde_json::from_slice(line).map_err(failed)?;
    let kind = match parsed.r#type {
        "ADDED" => WatchKind::Added,
        "MODIFIED" => WatchKind::Modified,
        "DELETED" => WatchKind::Deleted,
        "BOOKMARK" => WatchKind::Bookmark,
        _ => {
            let status = serde_json::from_str(parsed.object.get()).map_err(failed)?;
            return Err(Error::from_status(500, &status));
        }
    };
    let object = line.slice_ref(parsed.object.get().as_bytes());
    Ok(WatchEvent { kind, object })
}

/// The events of chunks of whole lines.
fn events(chunks: BoxStream<'static, Bytes>) -> WatchStream {
    let each = chunks.flat_map(|chunk| {
        let mut rest = BytesMut::from(chunk).freeze();
        let mut lines = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            lines.push(event(&rest.split_to(end)));
            let _ = rest.split_to(1);
        }
        futures_util::stream::iter(lines)
    });
    Box::pin(each)
}

impl wharf_client::Api for Local {
    fn list(&self, request: ListRequest) -> Answer<'_, Page> {
        Box::pin(async move {
            let mut parameters = request.query.parameters();
            if request.limit > 0 {
                parameters.push(("limit", request.limit.to_string()));
            }
            if !request.from.is_empty() {
                parameters.push(("continue", request.from));
            }
            let asked = Asked::read(request.query.path(), &parameters);
            match self.ask(&asked).await?.body {
                Payload::Objects(objects) => Ok(page(&objects)),
                Payload::Bytes(bytes) => {
                    written(&bytes).map_err(|e| malformed(&asked.operation(), e))
                }
                Payload::Stream(_) => Err(malformed(&asked.operation(), "a list that goes on")),
            }
        })
    }

    fn watch(&self, request: WatchRequest) -> Answer<'_, WatchStream> {
        Box::pin(async move {
            let mut parameters = request.query.parameters();
            parameters.push(("watch", "true".to_owned()));
            parameters.push(("allowWatchBookmarks", "true".to_owned()));
            parameters.push(("resourceVersion", request.resource_version));
            let asked = Asked::read(request.query.path(), &parameters);
            match self.ask(&asked).await?.body {
                Payload::Stream(chunks) => Ok(events(chunks)),
                _ => Err(malformed(&asked.operation(), "a watch that has ended")),
            }
        })
    }

    fn get(&self, target: Target) -> Answer<'_, Value> {
        Box::pin(self.value(Asked::read(target.path(), &[])))
    }

    fn create(&self, target: Target, object: Value) -> Answer<'_, Value> {
        Box::pin(self.value(Asked::write(Method::POST, target.path(), &object)))
    }

    fn update(&self, target: Target, object: Value) -> Answer<'_, Value> {
        Box::pin(self.value(Asked::write(Method::PUT, target.path(), &object)))
    }

    fn patch(&self, target: Target, patch: Patch) -> Answer<'_, Value> {
        let (content_type, body, parameters) = patch.wire();
        let mut asked = Asked::write(Method::PATCH, target.path(), &body);
        asked.content_type = content_type;
        asked.query = query_text(&parameters);
        Box::pin(self.value(asked))
    }

    fn delete(&self, target: Target, deletion: Deletion) -> Answer<'_, Value> {
        let options = deletion.options();
        Box::pin(self.value(Asked::write(Method::DELETE, target.path(), &options)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use wharf_client::{Api as _, Query, Resource};

    use super::*;
    use crate::harness::Cluster;

    const MAPS: Resource = Resource::new("", "v1", "configmaps");

    fn named(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": "b c".replace(' ', "-")}}})
    }

    #[tokio::test]
    async fn objects_are_written_listed_and_watched_without_a_connection() {
        let cluster = Cluster::open().await;
        let api = Local::new(cluster.api.clone(), "admin", &["system:masters"]);
        let in_default = Target::new(MAPS, "default", "");
        let mut query = Query::all(MAPS);
        query.namespace = "default".to_owned();
        query.label_selector = "a=b-c".to_owned();
        for name in ["x", "y", "z"] {
            api.create(in_default.clone(), named(name)).await.unwrap();
        }
        let request = |limit, from: String| ListRequest {
            query: query.clone(),
            limit,
            from,
        };
        let first = api.list(request(2, String::new())).await.unwrap();
        let rest = api.list(request(2, first.next.clone())).await.unwrap();
        assert_eq!((first.items.len(), rest.items.len()), (2, 1));
        let last: Value = serde_json::from_slice(&rest.items[0]).unwrap();
        assert_eq!(last["metadata"]["name"], "z");
        assert!(last["metadata"]["resourceVersion"].is_string());

        let watch = WatchRequest {
            query: query.clone(),
            resource_version: rest.resource_version.clone(),
        };
        let mut events = api.watch(watch).await.unwrap();
        let target = Target::new(MAPS, "default", "x");
        let patch = Patch::Apply {
            manager: "test".to_owned(),
            force: true,
            object: json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "v"}}),
        };
        let patched = api.patch(target.clone(), patch).await.unwrap();
        assert_eq!(patched["data"]["k"], "v");
        api.delete(target.clone(), Deletion::default())
            .await
            .unwrap();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            kinds.push(events.next().await.unwrap().unwrap().kind);
        }
        assert_eq!(kinds, [WatchKind::Modified, WatchKind::Deleted]);
        assert!(api.get(target).await.unwrap_err().is_not_found());
    }

    #[tokio::test]
    async fn who_may_not_is_refused_as_from_outside() {
        let cluster = Cluster::open().await;
        let api = Local::new(cluster.api.clone(), "jane", &[]);
        let target = Target::new(MAPS, "default", "");
        let error = api.create(target, named("x")).await.unwrap_err();
        assert_eq!(error.code(), Some(403));
        let admin = Local::new(cluster.api.clone(), "admin", &["system:masters"]);
        let target = Target::new(MAPS, "default", "");
        let error = admin.create(target, named("Wrong")).await.unwrap_err();
        assert_eq!(error.code(), Some(422));
        let target = Target::new(MAPS, "nowhere", "");
        assert!(
            admin
                .create(target, named("x"))
                .await
                .unwrap_err()
                .is_not_found()
        );
        let watch = WatchRequest {
            query: Query::all(MAPS),
            resource_version: "999999999".to_owned(),
        };
        let mut events = admin.watch(watch).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
        assert!(waited.is_err(), "a revision of the future waits");
    }
}

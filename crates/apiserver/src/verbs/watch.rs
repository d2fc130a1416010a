//! WATCH: a stream of what happens to selected objects, with bookmarks, initial events, time limit and `410 Gone`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::time::Instant;
use wharf_kube_types::{FieldError, Path, Status};
use wharf_store::Revision;

use crate::api::Api;
use crate::cache::{Behind, Cursor, Event, line};
use crate::call::Call;
use crate::object::{Object, Selection};
use crate::output::{Encoding, Head, Output, Payload, Reply, Shape, partial, table_of, wire};
use crate::present;
use crate::registry::Kind;

/// Events put into one chunk.
const CHUNK_EVENTS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Initial objects that are converted in one go.
const INITIAL_OBJECTS_MAX: usize = 64;
const BOOKMARK_EVERY: Duration = Duration::from_secs(50);
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How a watch begins.
struct Start {
    initial: VecDeque<Arc<Object>>,
    /// Tell when the initial events are over.
    marks_end: bool,
    after: Revision,
}

struct Watching {
    api: Arc<Api>,
    kind: Arc<Kind>,
    selection: Selection,
    namespace: String,
    prefix: String,
    fields: Arc<[String]>,
    output: Output,
    include: String,
    start: Start,
    cursor: Cursor,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    done: bool,
    columns_sent: bool,
}

/// Starts a watch.
///
/// # Errors
/// Options that make no sense. What goes wrong later is an event of the stream.
pub async fn watch(call: &Call, output: Output) -> Result<Reply, Status> {
    let selection = super::list::selection(&call.kind, &call.query)?;
    let start = match begin(call, &selection).await {
        Ok(start) => start,
        Err(status) if status.code == 410 => return Ok(reply(output, failed(&status, output))),
        Err(status) => return Err(status),
    };
    let cursor = match call.kind.cache.cursor(start.after) {
        Ok(cursor) => cursor,
        Err(behind) => return Ok(reply(output, failed(&gone(behind), output))),
    };
    let now = Instant::now();
    let watching = Watching {
        api: call.api.clone(),
        kind: call.kind.clone(),
        selection,
        namespace: call.namespace.clone(),
        prefix: call.kind.range(&call.namespace),
        fields: call.kind.cache.fields(),
        output,
        include: call.query.get("includeObject").to_owned(),
        start,
        cursor,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        next_bookmark: now + BOOKMARK_EVERY,
        ends: now + time_limit(&call.query)?,
        done: false,
        columns_sent: false,
    };
    let stream = futures_util::stream::unfold(watching, |mut watching| async move {
        let chunk = watching.chunk().await?;
        Some((chunk, watching))
    });
    Ok(reply(output, stream.boxed()))
}

fn reply(output: Output, stream: BoxStream<'static, Bytes>) -> Reply {
    let content_type = match output.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    Reply {
        code: 200,
        content_type,
        headers: Vec::new(),
        body: Payload::Stream(stream),
    }
}

fn failed(status: &Status, output: Output) -> BoxStream<'static, Bytes> {
    let bytes = frame(output, "ERROR", &status.to_value());
    futures_util::stream::once(std::future::ready(bytes)).boxed()
}

fn gone(behind: Behind) -> Status {
    Status::expired(format!(
        "too old resource version: {} ({})",
        behind.asked, behind.oldest
    ))
}

fn time_limit(query: &crate::info::Query) -> Result<Duration, Status> {
    match query.get("timeoutSeconds") {
        "" | "0" => {
            // Spread over half an hour, so that watchers don't all come back at once.
            let spread = u64::from(crate::random::number() % 1800);
            Ok(Duration::from_secs(1800 + spread))
        }
        text => text
            .parse::<u32>()
            .map(|seconds| Duration::from_secs(u64::from(seconds)))
            .map_err(|_| Status::bad_request(format!("timeoutSeconds: Invalid value: {text:?}"))),
    }
}

async fn begin(call: &Call, selection: &Selection) -> Result<Start, Status> {
    let query = &call.query;
    let version = query.get("resourceVersion");
    let wants_initial = query.flag("sendInitialEvents");
    if wants_initial && query.get("resourceVersionMatch") != "NotOlderThan" {
        let path = Path::new("resourceVersionMatch");
        let error = FieldError::forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]));
    }
    let api = &call.api;
    let forbids_initial = query.has("sendInitialEvents") && !wants_initial;
    let asked = match version {
        "" | "0" => 0,
        text => super::list::parse_version(text)?,
    };
    if asked != 0 && !wants_initial {
        return Ok(Start {
            initial: VecDeque::new(),
            marks_end: false,
            after: asked,
        });
    }
    match version {
        "" => super::list::reach(api, api.revision().await?).await?,
        _ => super::list::reach(api, asked).await?,
    }
    let prefix = call.kind.range(&call.namespace);
    let caches = &api.caches;
    let listing = call
        .kind
        .cache
        .list(&prefix, None, 0, selection, || caches.applied());
    Ok(Start {
        initial: if forbids_initial {
            VecDeque::new()
        } else {
            listing.objects.into()
        },
        marks_end: wants_initial && query.flag("allowWatchBookmarks"),
        after: listing.revision,
    })
}

impl Watching {
    /// The next bytes of the stream; nothing at its end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        match self.initial().await {
            Ok(Some(bytes)) => return Some(bytes),
            Ok(None) => {}
            Err(status) => return Some(self.broken(&status)),
        }
        loop {
            let events = match self.kind.cache.take(&mut self.cursor, CHUNK_EVENTS_MAX) {
                Ok(events) => events,
                Err(behind) => {
                    self.done = true;
                    return Some(frame(self.output, "ERROR", &gone(behind).to_value()));
                }
            };
            let lines = match self.kind.is_plain() || self.kind.definition.is_none() {
                true => Ok(self.lines(&events)),
                false => self.presented_lines(&events).await,
            };
            let bytes = match lines {
                Ok(bytes) => bytes,
                Err(status) => return Some(self.broken(&status)),
            };
            if !bytes.is_empty() {
                return Some(bytes);
            }
            if !events.is_empty() {
                continue;
            }
            if let Some(end) = self.wait().await {
                return end;
            }
        }
    }

    /// Waits for more. Some: end of the stream, or a bookmark.
    async fn wait(&mut self) -> Option<Option<Bytes>> {
        let until = match self.bookmarks {
            true => self.next_bookmark.min(self.ends),
            false => self.ends,
        };
        match tokio::time::timeout_at(until, self.cursor.wait()).await {
            Ok(true) => None,
            Ok(false) => Some(None),
            Err(_) if Instant::now() >= self.ends => {
                self.done = true;
                // A last bookmark spares the client a long replay.
                Some(self.bookmarks.then(|| self.bookmark(false)))
            }
            Err(_) => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                Some(Some(self.bookmark(false)))
            }
        }
    }

    /// The stream's end, because an object can't be shown.
    fn broken(&mut self, status: &Status) -> Bytes {
        self.done = true;
        frame(self.output, "ERROR", &status.to_value())
    }

    async fn initial(&mut self) -> Result<Option<Bytes>, Status> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES_MAX && !self.start.initial.is_empty() {
            let count = self.start.initial.len().min(INITIAL_OBJECTS_MAX);
            let objects: Vec<_> = self.start.initial.drain(..count).collect();
            for object in present::objects(&self.api, &self.kind, objects).await? {
                self.write(&mut out, "ADDED", &object);
            }
        }
        if self.start.initial.is_empty() && std::mem::take(&mut self.start.marks_end) {
            let mark = self.bookmark(true);
            out.extend_from_slice(&mark);
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Events of objects that are stored otherwise than they are shown.
    async fn presented_lines(&mut self, events: &[Arc<Event>]) -> Result<Bytes, Status> {
        let (mut sorts, mut objects) = (Vec::new(), Vec::new());
        for event in events {
            let here = self.namespace.is_empty() || event.key().starts_with(&self.prefix);
            if let Some((sort, object)) = event.seen(&self.selection, &self.fields).filter(|_| here)
            {
                sorts.push(sort);
                objects.push(object.clone());
            }
        }
        let objects = present::objects(&self.api, &self.kind, objects).await?;
        let mut out = Vec::new();
        for (sort, object) in sorts.iter().zip(objects) {
            self.write(&mut out, sort.word(), &object);
        }
        Ok(out.into())
    }

    fn lines(&mut self, events: &[Arc<Event>]) -> Bytes {
        let plain = self.output.shape == Shape::Whole
            && self.output.encoding != Encoding::Protobuf
            && self.kind.sends_bytes();
        let mut single = None;
        let mut out = Vec::new();
        for event in events {
            if !self.namespace.is_empty() && !event.key().starts_with(&self.prefix) {
                continue;
            }
            let Some((sort, object)) = event.seen(&self.selection, &self.fields) else {
                continue;
            };
            if !plain {
                let object = object.clone();
                self.write(&mut out, sort.word(), &object);
                continue;
            }
            let line = event.line(sort, object);
            match (out.is_empty(), single.take()) {
                (true, None) => single = Some(line),
                (_, first) => {
                    out.extend_from_slice(&first.unwrap_or_default());
                    out.extend_from_slice(&line);
                }
            }
        }
        // One event goes out as the bytes that all watchers share.
        single.unwrap_or_else(|| out.into())
    }

    fn write(&mut self, out: &mut Vec<u8>, word: &str, object: &Object) {
        let plain = self.output.encoding != Encoding::Protobuf && self.kind.sends_bytes();
        if self.output.shape == Shape::Whole && plain {
            out.extend_from_slice(&line(word, object));
            return;
        }
        let value = wire(&self.kind, &object.record);
        let shaped = self.shaped(value, object.record.revision);
        out.extend_from_slice(&frame(self.output, word, &shaped));
    }

    fn shaped(&mut self, value: Value, revision: Revision) -> Value {
        match self.output.shape {
            Shape::Whole => value,
            Shape::Metadata(version) => partial(&value, version),
            Shape::Table(version) => {
                let head = Head {
                    meta: json!({"resourceVersion": revision.to_string()}),
                    version,
                    include: &self.include,
                };
                let first = !std::mem::replace(&mut self.columns_sent, true);
                table_of(&self.kind.resource, &head, &[value], first)
            }
        }
    }

    fn bookmark(&mut self, end_of_initial: bool) -> Bytes {
        let at = match end_of_initial {
            true => self.start.after,
            // What was announced has been taken from the ring before.
            false => self.cursor.seen_until(self.api.caches.applied()),
        };
        let mut meta = json!({"resourceVersion": at.to_string(), "creationTimestamp": null});
        if end_of_initial {
            meta["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let value = json!({
            "kind": self.kind.resource.kind, "apiVersion": self.kind.api_version(), "metadata": meta,
        });
        let value = match self.output.shape {
            Shape::Table(_) => {
                let mut table = self.shaped(value.clone(), at);
                table["rows"] = json!([{"cells": [], "object": partial(&value, "v1")}]);
                table
            }
            _ => self.shaped(value, at),
        };
        frame(self.output, "BOOKMARK", &value)
    }
}

/// An event in the encoding of the watch.
fn frame(output: Output, word: &str, object: &Value) -> Bytes {
    if output.encoding == Encoding::Protobuf
        && let Some(bytes) = protobuf_frame(word, object)
    {
        return bytes;
    }
    let mut text = json!({"type": word, "object": object}).to_string();
    text.push('\n');
    text.into()
}

/// Length, then a `WatchEvent` message: type is field 1, the object with its envelope is `raw`, field 1 of field 2.
fn protobuf_frame(word: &str, object: &Value) -> Option<Bytes> {
    let raw = wharf_kube_types::protobuf::encode(object).ok()?;
    let mut inner = Vec::with_capacity(raw.len() + 8);
    field(&mut inner, 1, &raw);
    let mut event = Vec::with_capacity(inner.len() + 24);
    field(&mut event, 1, word.as_bytes());
    field(&mut event, 2, &inner);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&u32::try_from(event.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&event);
    Some(out.into())
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

//! How an answer is written: the encoding and the shape that a client asked for, and the bytes of objects and lists.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use wharf_kube_types::time::Timestamp;
use wharf_kube_types::{Resource, Status, protobuf, table};

use crate::convert;
use crate::object::{Object, Record};
use crate::registry::Kind;

/// The encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf.
    Protobuf,
}

/// What of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All.
    Whole,
    /// As a table, of this version of `meta.k8s.io`.
    Table(&'static str),
    /// Type and metadata only, of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// What a client accepts.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The encoding.
    pub encoding: Encoding,
    /// The shape.
    pub shape: Shape,
}

/// Media types of answers.
pub const ACCEPTED: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// A protobuf answer to a watch is framed; this is its media type.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl Output {
    /// JSON of whole objects.
    pub const JSON: Self = Self {
        encoding: Encoding::Json,
        shape: Shape::Whole,
    };

    /// Whether it is JSON of whole objects.
    pub fn is_plain(&self) -> bool {
        self.encoding == Encoding::Json && self.shape == Shape::Whole
    }

    /// Reads an `Accept` header.
    ///
    /// # Errors
    /// Nothing of it can be written.
    pub fn negotiate(accept: &str) -> Result<Self, Status> {
        if accept.trim().is_empty() {
            return Ok(Self::JSON);
        }
        accept
            .split(',')
            .take(32)
            .find_map(Self::one)
            .ok_or_else(|| Status::not_acceptable(&ACCEPTED))
    }

    fn one(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let encoding = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            PROTOBUF => Encoding::Protobuf,
            _ => return None,
        };
        let (mut as_kind, mut version, mut group) = ("", "", "");
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("as", value)) => as_kind = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                _ => {}
            }
        }
        let version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => "",
        };
        let shape = match as_kind {
            "" => Shape::Whole,
            _ if group != "meta.k8s.io" || version.is_empty() => return None,
            "Table" => Shape::Table(version),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata(version),
            _ => return None,
        };
        Some(Self { encoding, shape })
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    /// The media type.
    pub content_type: &'static str,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent.
    pub body: Payload,
}

/// What is sent.
pub enum Payload {
    /// Bytes of known length.
    Bytes(Bytes),
    /// Objects as they are stored, for parts of this process.
    Objects(crate::verbs::list::Page),
    /// Bytes as they come.
    Stream(futures_util::stream::BoxStream<'static, Bytes>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Objects(page) => write!(f, "{} objects", page.objects.len()),
            Self::Stream(_) => f.write_str("a stream"),
        }
    }
}

impl Reply {
    /// An answer of bytes.
    pub fn bytes(code: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self {
            code,
            content_type,
            headers: Vec::new(),
            body: Payload::Bytes(bytes.into()),
        }
    }

    /// Plain text.
    pub fn text(code: u16, text: impl Into<String>) -> Self {
        Self::bytes(code, "text/plain; charset=utf-8", text.into())
    }

    /// A value as JSON.
    pub fn json(code: u16, value: &Value) -> Self {
        let mut text = value.to_string();
        text.push('\n');
        Self::bytes(code, "application/json", text)
    }

    /// A value in the encoding that is asked for; JSON where it has no other.
    pub fn value(output: Output, code: u16, value: &Value) -> Self {
        match output.encoding {
            Encoding::Json => Self::json(code, value),
            Encoding::Yaml => Self::bytes(code, "application/yaml", crate::yaml::write(value)),
            Encoding::Protobuf => match protobuf::encode(value) {
                Ok(bytes) => Self::bytes(code, PROTOBUF, bytes),
                Err(_) => Self::json(code, value),
            },
        }
    }

    /// An error.
    pub fn status(output: Output, status: &Status) -> Self {
        let mut reply = Self::value(output, status.code, &status.to_value());
        if let Some(seconds) = status.details["retryAfterSeconds"].as_u64()
            && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
        {
            reply.headers.push((http::header::RETRY_AFTER, value));
        }
        reply
    }

    /// Adds warnings for people.
    pub fn with_warnings(mut self, warnings: &[String]) -> Self {
        for warning in warnings.iter().take(50) {
            let clean: String = warning
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(1024)
                .collect();
            let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                self.headers.push((http::header::WARNING, value));
            }
        }
        self
    }
}

/// An object as clients of this version see it.
pub fn wire(kind: &Kind, record: &Record) -> Value {
    let mut value = record.to_value();
    if !kind.sends_bytes() {
        convert::to(&mut value, kind);
    }
    value
}

/// The answer of one object.
pub fn object(kind: &Kind, output: Output, code: u16, record: &Record, include: &str) -> Reply {
    match (output.shape, output.encoding) {
        (Shape::Whole, Encoding::Json) if kind.sends_bytes() => {
            let mut out = Vec::with_capacity(record.size() + 1);
            record.write(&mut out);
            out.push(b'\n');
            Reply::bytes(code, "application/json", out)
        }
        (Shape::Whole, _) => Reply::value(output, code, &wire(kind, record)),
        (Shape::Metadata(version), _) => {
            Reply::value(output, code, &partial(&wire(kind, record), version))
        }
        (Shape::Table(version), _) => {
            let value = wire(kind, record);
            let meta = json!({"resourceVersion": record.revision.to_string()});
            let head = Head {
                meta,
                version,
                include,
            };
            Reply::value(
                output,
                code,
                &table_of(&kind.resource, &head, &[value], true),
            )
        }
    }
}

/// Type and metadata of an object.
pub fn partial(value: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": value["metadata"],
    })
}

/// What a table says besides its rows.
pub struct Head<'a> {
    /// The list's metadata.
    pub meta: Value,
    /// The version of `meta.k8s.io`.
    pub version: &'a str,
    /// What rows carry of their objects: `None`, `Object`, else the metadata.
    pub include: &'a str,
}

/// Objects as a table.
pub fn table_of(resource: &Resource, head: &Head<'_>, items: &[Value], columns: bool) -> Value {
    let now = crate::clock::now();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| row(resource, head, item, now))
        .collect();
    let mut out = json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", head.version), "metadata": head.meta,
    });
    out["columnDefinitions"] = match columns {
        true => table::columns(resource)
            .iter()
            .map(table::Column::to_value)
            .collect(),
        false => Value::Null,
    };
    out["rows"] = rows.into();
    out
}

fn row(resource: &Resource, head: &Head<'_>, item: &Value, now: Timestamp) -> Value {
    let mut row = json!({"cells": table::row(resource, item, now)});
    match head.include {
        "None" => {}
        "Object" => row["object"] = item.clone(),
        _ => row["object"] = partial(item, head.version),
    }
    row
}

/// The metadata of a list.
pub fn list_meta(revision: u64, next: Option<String>, remaining: Option<usize>) -> Value {
    let mut meta = Map::new();
    meta.insert("resourceVersion".to_owned(), revision.to_string().into());
    if let Some(next) = next {
        meta.insert("continue".to_owned(), next.into());
    }
    if let Some(remaining) = remaining {
        meta.insert("remainingItemCount".to_owned(), remaining.into());
    }
    meta.into()
}

/// The answer of a list.
pub fn list(
    kind: &Kind,
    output: Output,
    meta: Value,
    objects: &[Arc<Object>],
    include: &str,
) -> Reply {
    match (output.shape, output.encoding) {
        (Shape::Whole, Encoding::Json) if kind.sends_bytes() => {
            let bytes = list_bytes(&kind.resource, &meta, objects);
            Reply::bytes(200, "application/json", bytes)
        }
        (Shape::Table(version), _) => {
            let items: Vec<Value> = objects.iter().map(|o| wire(kind, &o.record)).collect();
            let head = Head {
                meta,
                version,
                include,
            };
            Reply::value(output, 200, &table_of(&kind.resource, &head, &items, true))
        }
        (shape, _) => {
            let item = |object: &Arc<Object>| match shape {
                Shape::Metadata(version) => partial(&wire(kind, &object.record), version),
                _ => wire(kind, &object.record),
            };
            let items: Vec<Value> = objects.iter().map(item).collect();
            let (list_kind, api_version) = match shape {
                Shape::Metadata(version) => (
                    "PartialObjectMetadataList".to_owned(),
                    format!("meta.k8s.io/{version}"),
                ),
                _ => (kind.resource.list_kind.clone(), kind.api_version()),
            };
            let list = json!({"kind": list_kind, "apiVersion": api_version, "metadata": meta, "items": items});
            Reply::value(output, 200, &list)
        }
    }
}

/// A list in JSON of objects as they are stored.
pub fn list_bytes(resource: &Resource, meta: &Value, objects: &[Arc<Object>]) -> Vec<u8> {
    let size: usize = objects.iter().map(|object| object.record.size()).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(resource.list_kind.as_bytes());
    out.extend_from_slice(b"\",\"apiVersion\":\"");
    out.extend_from_slice(resource.api_version().as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(meta.to_string().as_bytes());
    out.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Custom objects carry their type in lists, as dynamic clients expect.
        if resource.custom {
            object.record.write(&mut out);
        } else {
            object.record.write_item(&mut out);
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_is_chosen() {
        let shape = |accept: &str| Output::negotiate(accept).map(|o| (o.encoding, o.shape));
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(shape(table), Ok((Encoding::Json, Shape::Table("v1"))));
        assert_eq!(shape("*/*"), Ok((Encoding::Json, Shape::Whole)));
        assert_eq!(
            shape("application/vnd.kubernetes.protobuf, */*"),
            Ok((Encoding::Protobuf, Shape::Whole))
        );
        assert_eq!(
            shape("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
            Ok((Encoding::Json, Shape::Metadata("v1")))
        );
        assert_eq!(shape("text/html").map_err(|s| s.code), Err(406));
    }
}

//! The protobuf encoding of built-in kinds: `k8s\0`, an envelope, and the object.
//!
//! Numbers and types of fields come from a table; the few messages whose JSON has another shape are in `special`.

mod base64;
mod decode;
mod encode;
mod fields;
mod special;
pub(crate) mod wire;

use serde_json::Value;

pub use base64::{base64_decode, base64_encode, base64_error};

use crate::object::text;
use crate::resources::{definition, split_api_version};

/// What every encoded object starts with.
const MAGIC: &[u8; 4] = b"k8s\0";
/// Levels that a message may have: a bomb of nested messages is refused.
const DEPTH_MAX: usize = 128;

/// Why bytes can't be read, or an object can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(pub String);

fn error<T>(message: impl Into<String>) -> Result<T, ProtobufError> {
    Err(ProtobufError(message.into()))
}

/// Whether bytes begin as an encoded object does.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads an object with its envelope.
///
/// # Errors
/// The bytes are no envelope, the kind has no protobuf form, or a bound is exceeded.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let Some(body) = bytes.strip_prefix(MAGIC) else {
        return error(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        );
    };
    let envelope = decode::message(fields::ENVELOPE, body, 0)?;
    let (api_version, kind) = (text(&envelope, "apiVersion"), text(&envelope, "kind"));
    if !text(&envelope, "contentEncoding").is_empty() {
        return error("the content encoding of the object is not known");
    }
    let raw = base64_decode(text(&envelope, "raw")).unwrap_or_default();
    if text(&envelope, "contentType") == "application/json" {
        return serde_json::from_slice(&raw).map_err(|e| ProtobufError(e.to_string()));
    }
    let Some(name) = message_name(api_version, kind) else {
        return error(format!(
            "no kind {kind:?} is registered for version {api_version:?} in protobuf"
        ));
    };
    let mut object = decode::message(&name, &raw, 0)?;
    if let Some(map) = object.as_object_mut() {
        map.shift_insert(0, "apiVersion".to_owned(), api_version.into());
        map.shift_insert(0, "kind".to_owned(), kind.into());
    }
    Ok(object)
}

/// Whether objects of a kind can be written.
pub fn can_encode(api_version: &str, kind: &str) -> bool {
    message_name(api_version, kind).is_some()
}

/// Writes an object (or list, Status …) with its envelope.
///
/// # Errors
/// The kind has no protobuf form, as custom kinds and tables, or a value doesn't fit its type.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    let Some(name) = message_name(api_version, kind) else {
        return error(format!(
            "{api_version}, Kind={kind} can not be written as protobuf"
        ));
    };
    let raw = encode::message(&name, object, 0)?;
    let mut head = Vec::new();
    wire::bytes(&mut head, 1, api_version.as_bytes());
    wire::bytes(&mut head, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + head.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::bytes(&mut out, 1, &head);
    wire::bytes(&mut out, 2, &raw);
    // Both are always written, also empty, as the original does.
    wire::bytes(&mut out, 3, b"");
    wire::bytes(&mut out, 4, b"");
    Ok(out)
}

/// Writes a watch event without an envelope of its own, as frames of a stream carry it.
///
/// # Errors
/// As [`encode`].
pub fn encode_watch_event(kind: &str, object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let inner = encode(object)?;
    let mut raw = Vec::with_capacity(inner.len() + 8);
    wire::bytes(&mut raw, 1, &inner);
    let mut out = Vec::with_capacity(raw.len() + 24);
    wire::bytes(&mut out, 1, kind.as_bytes());
    wire::bytes(&mut out, 2, &raw);
    Ok(out)
}

/// The fields of a message whose empty value is not written, those of inner messages that are its own included.
pub(crate) fn omitted_when_zero(message: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for field in fields::of(message).unwrap_or_default() {
        match field.kind {
            fields::Type::Message(inner) if field.name.is_empty() => {
                found.extend(omitted_when_zero(inner))
            }
            fields::Type::Message(_) => {}
            _ if field.keeps_zero || field.count != fields::Count::One => {}
            _ => found.push(field.name),
        }
    }
    found
}

/// The message of a kind; those of the API machinery are in every group.
fn message_name(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = split_api_version(api_version);
    let own = definition(group, version, kind);
    if fields::of(&own).is_some() {
        return Some(own);
    }
    const EVERYWHERE: [&str; 14] = [
        "Status",
        "DeleteOptions",
        "CreateOptions",
        "PatchOptions",
        "UpdateOptions",
        "ListOptions",
        "GetOptions",
        "WatchEvent",
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
    ];
    EVERYWHERE
        .contains(&kind)
        .then(|| definition("meta.k8s.io", "v1", kind))
        .filter(|name| fields::of(name).is_some())
}

#[cfg(test)]
mod tests;

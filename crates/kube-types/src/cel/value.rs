//! Values of expressions. What comes from an object stays JSON, seen through its schema.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::quantity::Quantity;
use crate::schema::{Format, Kind, ListType, Schema};
use crate::time::Timestamp;

/// A value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// In nanoseconds.
    Duration(i64),
    List(Arc<Vec<Value<'a>>>),
    /// Keys are booleans, numbers and texts, each once.
    Map(Arc<Vec<(Value<'a>, Value<'a>)>>),
    /// An array or object of an object.
    Json(&'a Json, Option<&'a Schema>),
    Optional(Option<Arc<Value<'a>>>),
    Type(&'static str),
    Quantity(Quantity),
    Url(Arc<super::strings::Url>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Format(&'static str),
    Semver(Arc<super::strings::Semver>),
}

impl<'a> Value<'a> {
    /// JSON as a value, by its schema where there is one.
    pub fn of(json: &'a Json, schema: Option<&'a Schema>) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => {
                let wants_double = schema.is_some_and(|schema| schema.kind == Kind::Number);
                match number.as_i64() {
                    Some(value) if !wants_double => Value::Int(value),
                    _ => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                }
            }
            Json::String(text) => of_text(text, schema),
            Json::Array(_) | Json::Object(_) => Value::Json(json, schema),
        }
    }

    /// A text of its own.
    pub fn text(text: impl Into<String>) -> Value<'a> {
        Value::String(Cow::Owned(text.into()))
    }

    /// A map of names, as the variables of a policy.
    pub fn map(entries: Vec<(&str, Value<'a>)>) -> Value<'a> {
        let entries = entries
            .into_iter()
            .map(|(name, value)| (Value::text(name), value));
        Value::Map(Arc::new(entries.collect()))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(Arc::new(items))
    }

    pub(super) fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    pub(super) fn none() -> Value<'a> {
        Value::Optional(None)
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) | Value::Json(Json::Array(_), _) => "list",
            Value::Map(_) | Value::Json(..) => "map",
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(..) => "net.CIDR",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Semver(_) => "kubernetes.Semver",
        }
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Value::List(_) | Value::Json(Json::Array(_), _))
    }

    /// Whether it is a map or an object.
    pub(super) fn is_map(&self) -> bool {
        matches!(self, Value::Map(_) | Value::Json(Json::Object(_), _))
    }

    /// Items of a list, entries of a map, characters of a text, bytes.
    pub(super) fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            Value::Json(Json::Array(items), _) => items.len(),
            Value::Json(Json::Object(entries), _) => entries.len(),
            _ => return None,
        })
    }

    /// What it costs to look at all of it once, in tenths: as cel-go counts texts.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Value::String(text) => text.len() as u64 / 10,
            other => other.size().map_or(0, |size| size as u64),
        }
    }

    /// The item of a list at an index.
    pub(super) fn item(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Value::List(items) => items.get(index).cloned(),
            Value::Json(Json::Array(items), schema) => {
                let schema = schema.and_then(|schema| schema.items.as_ref());
                items.get(index).map(|item| Value::of(item, schema))
            }
            _ => None,
        }
    }

    /// All items of a list.
    pub(super) fn items(&self) -> Vec<Value<'a>> {
        let count = if self.is_list() {
            self.size().unwrap_or(0)
        } else {
            0
        };
        (0..count).filter_map(|index| self.item(index)).collect()
    }

    /// The value at a key of a map, or of a field of an object.
    pub(super) fn entry(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Value::Map(entries), _) => {
                let found = entries.iter().find(|(known, _)| known.equals(key));
                found.map(|(_, value)| value.clone())
            }
            (Value::Json(Json::Object(_), _), Value::String(name)) => self.field(name),
            _ => None,
        }
    }

    /// A field by its name in JSON.
    pub(super) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Json(Json::Object(fields), schema) => {
                let schema: Option<&'a Schema> = schema.and_then(|schema| schema.child(name));
                let value = fields.get(name)?;
                // A null that the schema doesn't allow counts as absent.
                let is_absent = value.is_null() && schema.is_some_and(|schema| !schema.nullable);
                (!is_absent).then(|| Value::of(value, schema))
            }
            Value::Map(_) => self.entry(&Value::String(Cow::Borrowed(name))),
            _ => None,
        }
    }

    /// Keys and values of a map or object.
    pub(super) fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Value::Map(entries) => entries.to_vec(),
            Value::Json(Json::Object(fields), schema) => fields
                .iter()
                .map(|(name, value)| {
                    let schema = schema.and_then(|schema| schema.child(name));
                    (
                        Value::String(Cow::Borrowed(name.as_str())),
                        Value::of(value, schema),
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn list_type(&self) -> (ListType, &'a [String]) {
        match self {
            Value::Json(Json::Array(_), Some(schema)) => (schema.list_type, &schema.list_keys),
            _ => (ListType::Atomic, &[]),
        }
    }

    /// How a list of its schema merges.
    pub(super) fn is_set(&self) -> bool {
        self.list_type().0 == ListType::Set
    }

    /// Equality over types: numbers by value, sets and keyed lists whatever their order.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        if self.is_list() && other.is_list() {
            let (ours, theirs) = (self.items(), other.items());
            return ours.len() == theirs.len()
                && if self.list_type().0 == ListType::Atomic {
                    ours.iter().zip(&theirs).all(|(a, b)| a.equals(b))
                } else {
                    ours.iter().all(|a| theirs.iter().any(|b| a.equals(b)))
                };
        }
        if self.is_map() && other.is_map() {
            let ours = self.entries();
            return ours.len() == other.size().unwrap_or(0)
                && ours
                    .iter()
                    .all(|(key, a)| other.entry(key).is_some_and(|b| a.equals(&b)));
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (None, None) => true,
                _ => false,
            },
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a, n), Value::Cidr(b, m)) => (a, n) == (b, m),
            (Value::Format(a), Value::Format(b)) => a == b,
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two values; nothing for those that have none.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Quantity(a), Value::Quantity(b)) => Some(a.cmp(b)),
            (Value::Semver(a), Value::Semver(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            _ => self.as_double()?.partial_cmp(&other.as_double()?),
        }
    }

    fn as_double(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Uint(value) => Some(*value as f64),
            Value::Double(value) => Some(*value),
            _ => None,
        }
    }

    /// As JSON, for what an expression makes: messages, values of policies.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => (*value).into(),
            Value::String(text) => text.as_ref().into(),
            Value::Json(json, _) => (*json).clone(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(entries) => {
                let fields = entries
                    .iter()
                    .map(|(key, value)| (key.to_text(), value.to_json()));
                Json::Object(fields.collect())
            }
            Value::Optional(Some(value)) => value.to_json(),
            Value::Null | Value::Optional(None) => Json::Null,
            other => other.to_text().into(),
        }
    }

    /// As text, where it is one or has one.
    pub(super) fn to_text(&self) -> String {
        match self {
            Value::String(text) => text.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Double(value) => value.to_string(),
            Value::Timestamp(time) => super::strings::timestamp_text(*time),
            Value::Duration(nanos) => super::strings::duration_text(*nanos),
            Value::Quantity(quantity) => quantity.to_string(),
            Value::Url(url) => url.text.clone(),
            Value::Ip(address) => address.to_string(),
            Value::Cidr(address, bits) => format!("{address}/{bits}"),
            Value::Semver(version) => version.text.clone(),
            Value::Type(name) | Value::Format(name) => (*name).to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => other.to_json().to_string(),
        }
    }
}

fn of_text<'a>(text: &'a str, schema: Option<&'a Schema>) -> Value<'a> {
    let plain = || Value::String(Cow::Borrowed(text));
    let Some(schema) = schema else {
        return plain();
    };
    let named = schema
        .limits
        .as_ref()
        .and_then(|limits| limits["format"].as_str());
    match (schema.format, named) {
        (Format::DateTime | Format::MicroTime, _) => {
            Timestamp::parse(text).map_or_else(plain, Value::Timestamp)
        }
        (_, Some("date")) => {
            let time = Timestamp::parse(&format!("{text}T00:00:00Z"));
            time.map_or_else(plain, Value::Timestamp)
        }
        (_, Some("duration")) => {
            super::strings::parse_duration(text).map_or_else(plain, Value::Duration)
        }
        (Format::Byte, _) => match crate::protobuf::base64_decode(text) {
            Ok(bytes) => Value::Bytes(bytes.into()),
            Err(_) => plain(),
        },
        _ => plain(),
    }
}

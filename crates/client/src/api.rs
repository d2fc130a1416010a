//! What can be asked of an API server, whoever carries it there.

use std::borrow::Cow;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use serde_json::Value;

/// Result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a request returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Events as they come; the end of the stream is the end of the watch.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent>> + Send>>;

/// A resource of one version of one group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    /// As `v1`.
    pub version: Cow<'static, str>,
    /// As in paths: `pods`.
    pub plural: Cow<'static, str>,
}

impl Resource {
    /// A resource known when this was compiled.
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
        Resource {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
        }
    }
}

/// One object, or one of its subresources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Of which kind.
    pub resource: Resource,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty for a creation.
    pub name: String,
    /// As `status`; empty for the object itself.
    pub subresource: String,
}

impl Target {
    /// An object.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Target {
        Target {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        }
    }

    /// A subresource of it.
    pub fn with_subresource(mut self, subresource: &str) -> Target {
        self.subresource = subresource.to_owned();
        self
    }
}

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Of which kind.
    pub resource: Resource,
    /// Only of this namespace; empty for all.
    pub namespace: String,
    /// `app=web,!old`; empty for all.
    pub label_selector: String,
    /// `spec.nodeName=one`; empty for all.
    pub field_selector: String,
}

impl Query {
    /// All objects of a resource.
    pub fn all(resource: Resource) -> Query {
        Query {
            resource,
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }
}

/// One page of a listing.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// Which objects.
    pub query: Query,
    /// Most objects to return; 0 for all.
    pub limit: usize,
    /// The page before's word on how to go on; empty at first.
    pub from: String,
}

/// Objects, as JSON.
#[derive(Debug, Clone)]
pub struct Page {
    /// What the listing shows, for a watch to go on from.
    pub resource_version: String,
    /// How to go on; empty at the end.
    pub next: String,
    /// Each a JSON object.
    pub items: Vec<Bytes>,
}

/// A watch.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// Which objects.
    pub query: Query,
    /// Only what happened after this.
    pub resource_version: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// It is there, or it fits the query now.
    Added,
    /// It is another.
    Modified,
    /// It is gone, or does not fit any more.
    Deleted,
    /// Nothing, up to the object's resource version.
    Bookmark,
}

/// An event of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object, as JSON.
    pub object: Bytes,
}

/// A change to a part of an object.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes' own, by the schema's merge keys.
    Strategic(Value),
    /// Server-side apply.
    Apply {
        /// Who owns the fields.
        manager: String,
        /// Takes fields from other owners.
        force: bool,
        /// The wanted fields.
        object: Value,
    },
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct Deletion {
    /// Seconds until it is gone for certain; the kind's own when absent.
    pub grace_seconds: Option<u32>,
    /// Only if it is still this one.
    pub uid: Option<String>,
    /// `Background`, `Foreground`, `Orphan`; the kind's own when absent.
    pub propagation: Option<&'static str>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused it.
    #[error("{message}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// As `NotFound`, `Conflict`, `Expired`.
        reason: String,
        /// The server's words.
        message: String,
        /// Seconds after which to try again, where the server said so.
        retry_after_s: Option<u32>,
    },
    /// No answer came.
    #[error("{operation}")]
    Unreachable {
        /// What was asked for.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is no answer.
    #[error("{operation}: the server's answer makes no sense")]
    Malformed {
        /// What was asked for.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The HTTP status code, where there was an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Somebody else was quicker: read again and decide again.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// What happened since is not known any more: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// Reads a `Status` object.
    pub fn from_status(code: u16, status: &Value) -> Error {
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let seconds = status["details"]["retryAfterSeconds"].as_u64();
        Error::Refused {
            code: status["code"]
                .as_u64()
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(code),
            reason: text("reason"),
            message: match text("message") {
                message if message.is_empty() => format!("the server answers {code}"),
                message => message,
            },
            retry_after_s: seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        }
    }
}

/// An API server.
pub trait Api: Send + Sync + 'static {
    /// One page of objects.
    fn list(&self, request: ListRequest) -> Answer<'_, Page>;
    /// Changes from a resource version on, with bookmarks.
    fn watch(&self, request: WatchRequest) -> Answer<'_, WatchStream>;
    /// One object.
    fn get(&self, target: Target) -> Answer<'_, Value>;
    /// Makes an object, or writes to a subresource that is made (`binding`, `eviction`, `token`).
    fn create(&self, target: Target, object: Value) -> Answer<'_, Value>;
    /// Replaces an object; 409 unless it has the resource version that is replaced.
    fn update(&self, target: Target, object: Value) -> Answer<'_, Value>;
    /// Changes a part of an object.
    fn patch(&self, target: Target, patch: Patch) -> Answer<'_, Value>;
    /// Deletes an object.
    fn delete(&self, target: Target, deletion: Deletion) -> Answer<'_, Value>;
}

//! What can go wrong in the engine, by what the caller can do about it.

/// Class of a failure; an HTTP adapter makes a status code of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    NotModified,
    InvalidParameter,
    Forbidden,
    NotFound,
    Conflict,
    Unavailable,
    Internal,
}

/// A failed operation. The message is the reference's where a client may look at it
/// (`No such container: x`, `Conflict. The container name "/x" is already in use by container …`).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Class.
    pub kind: Kind,
    /// For a person; names operation, object, cause and remedy.
    pub message: String,
    /// Cause, where one was given.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of a class.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }
    /// The same with its cause.
    pub fn with(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

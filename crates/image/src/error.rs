//! What can go wrong with images.

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a valid reference; the reference's words (`invalid reference format`).
    #[error("invalid reference format{separator}{reason}", separator = if .0.is_empty() { "" } else { ": " }, reason = .0)]
    InvalidReference(String),
    /// A push of a name that is not here.
    #[error("An image does not exist locally with the tag: {0}")]
    NothingToPush(String),
    /// No such image here.
    #[error("No such image: {0}")]
    NotFound(String),
    /// No such snapshot here.
    #[error("no such snapshot: {0}")]
    SnapshotNotFound(String),
    /// A snapshot with this key is here already.
    #[error("snapshot {0} exists already")]
    SnapshotExists(String),
    /// A layer that an image or snapshot needs is not here.
    #[error("layer {0} is not here; pull or load the image again")]
    LayerNotFound(String),
    /// The registry does not have it, or does not tell.
    #[error("{0}")]
    RegistryNotFound(String),
    /// The registry refuses; says which repository and what to do.
    #[error("{0}")]
    Denied(String),
    /// An ID prefix fits several images.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// In use or tagged more than once.
    #[error("conflict: {0}")]
    Conflict(String),
    /// An archive or a manifest is malformed or hostile; nothing of it was kept.
    #[error("{0}")]
    Invalid(String),
    /// The data root's file system can't carry overlay mounts; says why and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// A registry could not be reached, or answered with something unexpected.
    #[error("{operation}")]
    Registry {
        /// What was tried, on what.
        operation: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry answered with an error.
    #[error("{operation}: {answer}")]
    Answer {
        /// What was tried, on what.
        operation: String,
        /// Status code and the registry's own words.
        answer: String,
        /// HTTP status code.
        status: u16,
        /// The distribution-spec's error code (`MANIFEST_UNKNOWN`), or empty.
        code: String,
    },
    /// The content store failed.
    #[error(transparent)]
    Blob(#[from] wharf_blob::Error),
    /// A file could not be used.
    #[error("{operation}")]
    Io {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// For `map_err`: names the operation.
pub(crate) fn io<E: Into<std::io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation: operation.into(),
        source: source.into(),
    }
}

/// For `map_err` on hot paths: the operation is only put into words when it failed.
pub(crate) fn io_with<E: Into<std::io::Error>>(
    operation: impl FnOnce() -> String,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation: operation(),
        source: source.into(),
    }
}

/// For `map_err`: names the operation and the file.
pub(crate) fn io_at<E: Into<std::io::Error>>(
    operation: &str,
    path: &std::path::Path,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation: format!("{operation} {}", path.display()),
        source: source.into(),
    }
}

impl Error {
    /// Whether the disk is full: nothing that a retry would cure.
    pub fn is_disk_full(&self) -> bool {
        let full = |e: &std::io::Error| {
            matches!(
                e.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            Error::Io { source, .. } => full(source),
            Error::Blob(wharf_blob::Error::Io { source, .. }) => full(source),
            _ => false,
        }
    }
}

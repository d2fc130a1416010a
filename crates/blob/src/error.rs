//! What can go wrong with blobs.

use std::path::PathBuf;

use crate::Digest;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with blobs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not `sha256:` + 64 or `sha512:` + 128 lower-case hexadecimal digits.
    #[error("invalid digest {0:?}: expected sha256: or sha512: and lower-case hexadecimal digits")]
    InvalidDigest(String),
    /// A key of a partial ingest that can't be a file name.
    #[error(
        "invalid ingest key {0:?}: expected 1 to 160 of A-Z a-z 0-9 . _ -, not starting with a dot"
    )]
    InvalidKey(String),
    /// No such blob.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// Somebody writes the same ingest at this moment.
    #[error("ingest {0} is being written by somebody else; try again when it has ended")]
    Busy(String),
    /// The bytes are not what the digest says. They were thrown away.
    #[error("digest mismatch: expected {expected}, got {actual}; the data was thrown away")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// Fewer or more bytes than promised.
    #[error("size mismatch of {what}: expected {expected_bytes} bytes, got {actual_bytes}")]
    Size {
        /// Digest or key.
        what: String,
        /// What was promised.
        expected_bytes: u64,
        /// What came (at least).
        actual_bytes: u64,
    },
    /// A small read would have been larger than the caller allows.
    #[error(
        "blob {digest} has {size_bytes} bytes, more than the {limit_bytes} that may be read at once"
    )]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// Another process has the store open.
    #[error("{0} is in use by another process; stop it or choose another folder")]
    InUse(PathBuf),
    /// A file could not be used.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn io<E: Into<std::io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |source| Error::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

//! What can go wrong between a bundle and its process.

use std::io;
use std::path::PathBuf;

/// A failed operation. `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something impossible.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// A file of the bundle or of the state could not be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call of the parent's side failed.
    #[error("{operation}")]
    System {
        /// What was tried, on what.
        operation: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The control group could not be made or limited.
    #[error("control group {path}")]
    Cgroup {
        /// Path of the group.
        path: String,
        /// Why.
        source: wharf_cgroup::Error,
    },
    /// The container's side failed; its own words.
    #[error("{message}")]
    Init {
        /// Operation, object and cause.
        message: String,
        /// Docker's exit code for it (125, 126, 127).
        exit_code: i32,
    },
    /// The container's side ended without a word.
    #[error("the container's process ended before it was ready (killed?)")]
    Vanished,
    /// No container of this name, or one that is not in the state an operation needs.
    #[error("{0}")]
    State(String),
    /// A hook of a moment failed.
    #[error("error running {moment} hook #{number}")]
    Moment {
        /// Name of the moment (runtime-spec, "POSIX-platform Hooks").
        moment: String,
        /// Place in the list, from 0.
        number: usize,
        /// How.
        source: Box<Error>,
    },
    /// A hook failed.
    #[error("error running hook {path}: {message}")]
    Hook {
        /// The hook's program.
        path: PathBuf,
        /// How it ended and what it said.
        message: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Exit code that stands for this failure in Docker's convention (125, 126, 127).
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Init { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// For `map_err` of a system call.
    pub(crate) fn system<E: Into<io::Error>>(
        operation: impl Into<String>,
    ) -> impl FnOnce(E) -> Error {
        let operation = operation.into();
        move |source| Error::System {
            operation,
            source: source.into(),
        }
    }

    /// The message with all its causes in one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        line
    }
}

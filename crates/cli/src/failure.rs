//! What can go wrong for a command, in the words the user reads and with the exit code the shell sees.

use std::path::PathBuf;

/// Why a command ended without doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon refused.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// Nothing listens, or it may not be reached.
    #[error("Cannot connect to the Wharf daemon at {host}. Is the daemon running?")]
    Connect {
        /// The address as the user would write it.
        host: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The socket is there, but not for this user.
    #[error(
        "permission denied while trying to connect to the Wharf daemon socket at {host}: run as root, or as a user who may write to the socket"
    )]
    Denied {
        /// The address.
        host: String,
    },
    /// The connection broke or spoke something else.
    #[error("error during connect: {during}: {why}")]
    Wire {
        /// Method and path.
        during: String,
        /// What was wrong.
        why: String,
    },
    /// A text for standard error and the exit code.
    #[error("{text}")]
    Exit {
        /// Exit code.
        code: i32,
        /// Text; nothing is printed when empty.
        text: String,
    },
    /// A text for standard error, exit code 1.
    #[error("{0}")]
    Said(String),
    /// A file could not be read or written.
    #[error("{verb} {}: {}", .path.display(), os_words(.source))]
    File {
        /// The system call's name, as Go's library names it.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Standard input or output failed.
    #[error("{0}")]
    Stream(std::io::Error),
}

impl Failure {
    /// A failure said in full.
    pub fn said(text: impl Into<String>) -> Failure {
        Failure::Said(text.into())
    }

    /// Whether the daemon said "no such thing".
    pub fn not_found(&self) -> bool {
        matches!(self, Failure::Daemon { status: 404, .. })
    }

    /// Exit code for the shell.
    pub fn code(&self) -> i32 {
        match self {
            Failure::Exit { code, .. } => *code,
            Failure::Stream(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 141,
            _ => 1,
        }
    }

    /// What is printed to standard error, if anything.
    pub fn text(&self) -> Option<String> {
        match self {
            Failure::Exit { text, .. } if text.is_empty() => None,
            Failure::Stream(error) if error.kind() == std::io::ErrorKind::BrokenPipe => None,
            other => Some(other.to_string()),
        }
    }

    /// Gives a file error its file.
    pub fn file(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Failure {
        let path = path.into();
        move |source| Failure::File { verb, path, source }
    }
}

/// An operating system error in the words of the C library, without Rust's number.
pub fn os_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = match text.find(" (os error") {
        Some(at) => &text[..at],
        None => &text,
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

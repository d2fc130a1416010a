//! What daemon and shim say to each other: length-prefixed JSON over a Unix stream socket, descriptors by
//! SCM_RIGHTS; and the files a shim leaves in the container's run folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the container's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogConfig {
    /// Not at all.
    None,
    /// Docker's json-file format: one JSON object a line with `log`, `stream`, `time` (and `attrs`).
    JsonFile {
        /// The current file; older ones get `.1`, `.2` … appended.
        path: PathBuf,
        /// Rotates before a file grows beyond this; `None`: never.
        max_size_bytes: Option<u64>,
        /// Files kept, the current one included.
        max_files: u32,
        /// Rotated files are compressed with gzip (`.1.gz` …).
        compress: bool,
        /// Added to each line as `attrs`.
        attributes: std::collections::BTreeMap<String, String>,
    },
}

/// Written as `exit.json` to the run folder, atomically, before the shim ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code; 128 + signal number for a process that a signal ended.
    pub exit_code: i32,
    /// Whether the kernel killed a member of the group for want of memory.
    pub oom_killed: bool,
    /// RFC 3339 with nanoseconds, UTC.
    pub started_at: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub finished_at: String,
}

/// Header of a frame on an attach stream without a terminal: stream (0 in, 1 out, 2 err), three zero bytes,
/// length of the payload as a big-endian u32. With a terminal the stream is raw. Input is raw always.
pub const FRAME_HEADER_BYTES: usize = 8;

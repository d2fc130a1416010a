//! What daemon and shim say to each other: length-prefixed JSON over a Unix stream socket, descriptors by
//! SCM_RIGHTS; and the files a shim leaves in the container's run folder.
//!
//! A shim outlives the daemon that started it, so a newer daemon must be able to talk to an older shim: fields
//! and requests are only ever added, unknown fields are skipped, and a shim answers a request it does not know
//! with [`Response::Failed`] and goes on.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::client::{AttachStreams, Notice};

/// Version of the protocol; each side tells the other its own.
pub const VERSION: u32 = 1;

/// Socket in the run folder on which a running shim listens.
pub const SOCKET_FILE: &str = "shim.sock";
/// What is needed to clean up after a shim that was killed ([`RunRecord`]).
pub const RUN_FILE: &str = "shim.json";
/// The exit record ([`ExitRecord`]).
pub const EXIT_FILE: &str = "exit.json";

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
        /// Rotated files are compressed with gzip (`.1.gz` …). A rotated file stays readable under its plain name
        /// until its compressed form is complete.
        compress: bool,
        /// Added to each line as `attrs`.
        attributes: std::collections::BTreeMap<String, String>,
    },
    /// The format of the Container Runtime Interface: `TIME STREAM P|F TEXT`, a line each. Whoever reads the file
    /// rotates it, and says so ([`crate::client::Supervisor::reopen_log`]).
    Cri {
        /// The file.
        path: PathBuf,
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

/// Written as `shim.json` to the run folder once the container's process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of the protocol the shim speaks.
    pub version: u32,
    /// Host PID of the container's init.
    pub pid: i32,
    /// Host PID of the shim.
    pub shim_pid: i32,
    /// RFC 3339 with nanoseconds, UTC.
    pub started_at: String,
    /// The control group, as [`wharf_cgroup::open`] takes it; absent where it is the host's own.
    pub cgroup: Option<String>,
}

/// Header of a frame on an attach stream without a terminal: stream (0 in, 1 out, 2 err), three zero bytes,
/// length of the payload as a big-endian u32. With a terminal the stream is raw. Input is raw always.
pub const FRAME_HEADER_BYTES: usize = 8;

/// What the daemon asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Descriptors: root file system, network namespace (where said), ports, attached clients. Blob: OCI spec.
    Launch(LaunchHead),
    /// First request on a further connection.
    Hello {
        version: u32,
        /// Send [`Response::Notice`]s on this connection from now on.
        notices: bool,
    },
    /// Descriptor: the stream.
    Attach {
        exec_id: Option<String>,
        streams: AttachStreams,
    },
    Resize {
        exec_id: Option<String>,
        height: u16,
        width: u16,
    },
    Signal {
        exec_id: Option<String>,
        signal: i32,
    },
    /// Descriptor: the attached stream, where said. Blob: OCI process.
    Exec(ExecHead),
    /// The log was moved away: a new file is begun.
    ReopenLog,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LaunchHead {
    pub version: u32,
    pub id: String,
    pub run_dir: PathBuf,
    pub log: LogConfig,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub console_size: Option<(u16, u16)>,
    pub rootfs: bool,
    pub netns: bool,
    pub ports: Vec<PortHead>,
    pub attached: Vec<AttachStreams>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PortHead {
    pub target: SocketAddr,
    pub udp: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecHead {
    pub exec_id: String,
    pub open_stdin: bool,
    pub console_size: Option<(u16, u16)>,
    pub attached: Option<AttachStreams>,
}

/// What the shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Running {
        version: u32,
        pid: i32,
        shim_pid: i32,
        started_at: String,
    },
    Executed {
        pid: i32,
    },
    Done,
    Failed {
        message: String,
        exit_code: i32,
    },
    Notice(Notice),
}

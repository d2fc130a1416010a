//! The daemon's side: blocking calls, for a blocking pool.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::protocol::{ExitRecord, LogConfig};

/// What can go wrong between daemon and shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's process could not be started; `exit_code` follows Docker (125, 126, 127).
    #[error("{message}")]
    Start {
        /// The runtime's words.
        message: String,
        /// 127: command not found; 126: not executable; 125: anything else.
        exit_code: i32,
    },
    /// The shim ended or broke off.
    #[error("supervisor of {container}: {operation}")]
    Lost {
        /// Container.
        container: String,
        /// What was tried.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A shim process that waits for its container: spawned ahead, since exec is the dearest part.
#[derive(Debug)]
pub struct Idle {}

/// A host socket whose connections or datagrams the shim carries to `target`.
#[derive(Debug)]
pub struct PortSocket {
    /// Bound (TCP: listening) on the host.
    pub socket: OwnedFd,
    /// The endpoint behind it.
    pub target: std::net::SocketAddr,
    /// Datagrams instead of connections.
    pub udp: bool,
}

/// All that starting one container takes.
#[derive(Debug)]
pub struct Launch {
    /// Container ID.
    pub id: String,
    /// Folder on the run root: bundle, sockets, exit record. Exists.
    pub run_dir: PathBuf,
    /// OCI configuration.
    pub spec: Spec,
    /// Log driver.
    pub log: LogConfig,
    /// Keeps standard input open.
    pub open_stdin: bool,
    /// Closes standard input once the first attached client leaves.
    pub stdin_once: bool,
    /// Initial size (height, width) of the terminal (`spec.process.terminal` says whether there is one).
    pub console_size: Option<(u16, u16)>,
    /// Root file system, a detached mount.
    pub rootfs: Option<OwnedFd>,
    /// Network namespace to join.
    pub netns: Option<OwnedFd>,
    /// Published ports.
    pub ports: Vec<PortSocket>,
    /// Clients attached before the start: no byte of output escapes them.
    pub attached: Vec<(UnixStream, AttachStreams)>,
}

/// Which streams an attached client takes part in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct AttachStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A further process for the container.
#[derive(Debug)]
pub struct ExecLaunch {
    /// Exec ID.
    pub exec_id: String,
    /// OCI process.
    pub process: Process,
    /// Keeps standard input open for the client.
    pub open_stdin: bool,
    /// Initial size (height, width).
    pub console_size: Option<(u16, u16)>,
    /// The client, attached from the beginning; `None`: output is thrown away.
    pub attached: Option<(UnixStream, AttachStreams)>,
}

/// Connection to a running shim. Drops without effect on the container.
#[derive(Debug)]
pub struct Supervisor {
    /// Host PID of the container's init.
    pub pid: i32,
    /// Host PID of the shim.
    pub shim_pid: i32,
    /// RFC 3339 with nanoseconds.
    pub started_at: String,
}

/// News from a shim, in order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Notice {
    /// The kernel killed a process of the container for want of memory.
    Oom,
    /// An exec'd process ended.
    ExecExit {
        /// Exec ID.
        exec_id: String,
        /// Its exit code.
        exit_code: i32,
    },
    /// The container ended: all output is in the log, the exit record is on disk.
    Exit(ExitRecord),
}

impl Idle {
    /// Spawns a shim from the executable embedded in this program. It is not the daemon's child afterwards.
    pub fn spawn() -> Result<Idle> {
        todo!()
    }
    /// Starts the container; returns when its process has exec'd, or with the reason why not (then nothing is
    /// left behind).
    pub fn launch(self, launch: Launch) -> Result<Supervisor> {
        let _ = launch;
        todo!()
    }
}

impl Supervisor {
    /// Connects to the shim of a container that runs; `None`: there is none (see [`exit_record`]).
    pub fn connect(run_dir: &Path) -> Result<Option<Supervisor>> {
        let _ = run_dir;
        todo!()
    }
    /// A second connection for [`Notice`]s: blocks until the next one; `None`: the shim has gone.
    pub fn next_notice(&self) -> Result<Option<Notice>> {
        todo!()
    }
    /// Attaches a client.
    pub fn attach(&self, stream: UnixStream, streams: AttachStreams) -> Result<()> {
        let _ = (stream, streams);
        todo!()
    }
    /// Sets the terminal's size.
    pub fn resize(&self, height: u16, width: u16) -> Result<()> {
        let _ = (height, width);
        todo!()
    }
    /// Runs a further process; returns its host PID once it has exec'd.
    pub fn exec(&self, launch: ExecLaunch) -> Result<i32> {
        let _ = launch;
        todo!()
    }
    /// Sets the size of an exec's terminal.
    pub fn resize_exec(&self, exec_id: &str, height: u16, width: u16) -> Result<()> {
        let _ = (exec_id, height, width);
        todo!()
    }
}

/// The exit record of a container whose shim has gone; `None`: the shim was killed before it could write it.
pub fn exit_record(run_dir: &Path) -> Result<Option<ExitRecord>> {
    let _ = run_dir;
    todo!()
}

//! The daemon's side: blocking calls, for a blocking pool.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{Process, Spec};

use crate::message::{self, Decoder};
use crate::protocol::{
    EXIT_FILE, ExecHead, ExitRecord, LaunchHead, LogConfig, PortHead, Request, Response, VERSION,
};
use crate::run_dir::RunDir;

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

/// A shim process that waits for its container: spawned ahead, since exec is the dearest part. Dropping it (or dying)
/// ends the shim.
#[derive(Debug)]
pub struct Idle {
    socket: UnixStream,
}

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
    /// Version of the protocol that the shim speaks ([`crate::protocol::VERSION`] is ours).
    pub version: u32,
    run_dir: PathBuf,
    notices: Mutex<Conversation>,
}

/// A socket and what came over it beyond the last message.
#[derive(Debug)]
struct Conversation {
    socket: OwnedFd,
    decoder: Decoder,
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

/// Gives the shim's executable to this program, as bytes: it runs from a sealed copy in memory. Called once, before the
/// first [`Idle::spawn`]; later calls have no effect.
pub fn install(executable: &'static [u8]) -> std::io::Result<()> {
    crate::spawn::install(executable)
}

/// Gives the shim's executable as a file, for tests.
pub fn install_path(path: PathBuf) {
    crate::spawn::install_path(path);
}

/// Writes the executable to a file that containers can mount as their init ([`crate::init`]).
///
/// # Errors
/// What writing the file says; an earlier file stays whole.
pub fn write_init(file: &Path) -> io::Result<()> {
    crate::spawn::write_to(file)
}

impl Conversation {
    fn new(socket: OwnedFd) -> Conversation {
        Conversation {
            socket,
            decoder: Decoder::default(),
        }
    }

    fn say(&self, request: &Request, blob: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let head = serde_json::to_vec(request)?;
        message::send(self.socket.as_fd(), &head, blob, fds)
    }

    /// The next answer that this version knows; `None`: the shim has gone.
    fn hear(&mut self) -> io::Result<Option<Response>> {
        match self.decoder.wait(self.socket.as_fd())? {
            Some(message) => Ok(Some(serde_json::from_slice(&message.head)?)),
            None => Ok(None),
        }
    }

    fn ask(
        &mut self,
        request: &Request,
        blob: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Response> {
        // A shim that ended says so by its answer or by the end of the stream, not by a broken pipe.
        let said = self.say(request, blob, fds);
        match self.hear()? {
            Some(response) => Ok(response),
            None => Err(said
                .err()
                .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Puts the operation's and the container's name to a failure.
fn lost<'a>(container: &'a str, operation: &'a str) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Lost {
        container: container.to_owned(),
        operation: operation.to_owned(),
        source,
    }
}

/// The container's name, as far as a run folder tells it.
fn name(run_dir: &Path) -> String {
    run_dir
        .file_name()
        .unwrap_or(run_dir.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn unexpected() -> io::Error {
    io::Error::other("the supervisor gave an answer that does not belong to the request")
}

impl Idle {
    /// Spawns a shim from the executable embedded in this program. It is not the daemon's child afterwards.
    pub fn spawn() -> Result<Idle> {
        let socket = crate::spawn::spawn().map_err(lost("a new container", "spawn"))?;
        Ok(Idle { socket })
    }

    /// Starts the container; returns when its process has exec'd, or with the reason why not (then nothing is
    /// left behind).
    pub fn launch(self, launch: Launch) -> Result<Supervisor> {
        let id = launch.id.clone();
        let failed = lost(&id, "launch");
        let run_dir = launch.run_dir.clone();
        let spec = serde_json::to_vec(&launch.spec).map_err(|error| failed(error.into()))?;
        let head = Request::Launch(LaunchHead {
            version: VERSION,
            id: launch.id,
            run_dir: launch.run_dir,
            log: launch.log,
            open_stdin: launch.open_stdin,
            stdin_once: launch.stdin_once,
            console_size: launch.console_size,
            rootfs: launch.rootfs.is_some(),
            netns: launch.netns.is_some(),
            ports: launch
                .ports
                .iter()
                .map(|port| PortHead {
                    target: port.target,
                    udp: port.udp,
                })
                .collect(),
            attached: launch
                .attached
                .iter()
                .map(|(_, streams)| *streams)
                .collect(),
        });
        let fds: Vec<BorrowedFd<'_>> = [&launch.rootfs, &launch.netns]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
            .chain(launch.ports.iter().map(|port| port.socket.as_fd()))
            .chain(launch.attached.iter().map(|(stream, _)| stream.as_fd()))
            .collect();
        let mut conversation = Conversation::new(self.socket.into());
        match conversation.ask(&head, &spec, &fds).map_err(&failed)? {
            Response::Running {
                version,
                pid,
                shim_pid,
                started_at,
            } => Ok(Supervisor {
                pid,
                shim_pid,
                started_at,
                version,
                run_dir,
                notices: Mutex::new(conversation),
            }),
            Response::Failed { message, exit_code } => Err(Error::Start { message, exit_code }),
            _ => Err(failed(unexpected())),
        }
    }
}

impl Supervisor {
    /// Connects to the shim of a container that runs; `None`: there is none (see [`exit_record`] and [`bury`]).
    pub fn connect(run_dir: &Path) -> Result<Option<Supervisor>> {
        let container = name(run_dir);
        let failed = lost(&container, "connect");
        let Some(socket) = RunDir::open(run_dir)
            .and_then(|dir| dir.connect())
            .map_err(&failed)?
        else {
            return Ok(None);
        };
        let mut conversation = Conversation::new(socket);
        let hello = Request::Hello {
            version: VERSION,
            notices: true,
        };
        let answer = match conversation.ask(&hello, &[], &[]) {
            Ok(answer) => answer,
            // It ended between our connecting and its accepting.
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match answer {
            Response::Running {
                version,
                pid,
                shim_pid,
                started_at,
            } => Ok(Some(Supervisor {
                pid,
                shim_pid,
                started_at,
                version,
                run_dir: run_dir.to_owned(),
                notices: Mutex::new(conversation),
            })),
            _ => Err(failed(unexpected())),
        }
    }

    /// Blocks until the next [`Notice`]; `None`: the shim has gone. Nothing is lost between the launch (or
    /// [`Supervisor::connect`]) and this call, however late it comes. One caller at a time gets them.
    pub fn next_notice(&self) -> Result<Option<Notice>> {
        let container = name(&self.run_dir);
        let failed = lost(&container, "listen to");
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match notices.hear().map_err(&failed)? {
                None => return Ok(None),
                Some(Response::Notice(notice)) => return Ok(Some(notice)),
                // A newer shim may say more than we know.
                Some(_) => {}
            }
        }
    }

    /// A connection of its own for each request, so that none waits for another.
    fn request(
        &self,
        operation: &str,
        request: &Request,
        blob: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Response> {
        let container = name(&self.run_dir);
        let failed = lost(&container, operation);
        let socket = RunDir::open(&self.run_dir)
            .and_then(|dir| dir.connect())
            .and_then(|socket| socket.ok_or_else(|| io::ErrorKind::NotConnected.into()))
            .map_err(&failed)?;
        match Conversation::new(socket)
            .ask(request, blob, fds)
            .map_err(&failed)?
        {
            Response::Failed { message, exit_code } => Err(Error::Start { message, exit_code }),
            response => Ok(response),
        }
    }

    /// Attaches a client.
    pub fn attach(&self, stream: UnixStream, streams: AttachStreams) -> Result<()> {
        let request = Request::Attach {
            exec_id: None,
            streams,
        };
        self.request("attach a client to", &request, &[], &[stream.as_fd()])
            .map(drop)
    }

    /// Sets the terminal's size.
    pub fn resize(&self, height: u16, width: u16) -> Result<()> {
        let request = Request::Resize {
            exec_id: None,
            height,
            width,
        };
        self.request("resize the terminal of", &request, &[], &[])
            .map(drop)
    }

    /// Sends a signal to the container's init. Never reaches another process that got its number.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let request = Request::Signal {
            exec_id: None,
            signal,
        };
        self.request("signal", &request, &[], &[]).map(drop)
    }

    /// Runs a further process; returns its host PID once it has exec'd.
    pub fn exec(&self, launch: ExecLaunch) -> Result<i32> {
        let container = name(&self.run_dir);
        let failed = lost(&container, "run a process in");
        let process = serde_json::to_vec(&launch.process).map_err(|error| failed(error.into()))?;
        let request = Request::Exec(ExecHead {
            exec_id: launch.exec_id,
            open_stdin: launch.open_stdin,
            console_size: launch.console_size,
            attached: launch.attached.as_ref().map(|(_, streams)| *streams),
        });
        let fds: Vec<BorrowedFd<'_>> = launch
            .attached
            .iter()
            .map(|(stream, _)| stream.as_fd())
            .collect();
        match self.request("run a process in", &request, &process, &fds)? {
            Response::Executed { pid } => Ok(pid),
            _ => Err(failed(unexpected())),
        }
    }

    /// Begins a new file of the log: the old one was moved away.
    pub fn reopen_log(&self) -> Result<()> {
        self.request("reopen the log of", &Request::ReopenLog, &[], &[])
            .map(drop)
    }

    /// Sets the size of an exec's terminal.
    pub fn resize_exec(&self, exec_id: &str, height: u16, width: u16) -> Result<()> {
        let request = Request::Resize {
            exec_id: Some(exec_id.to_owned()),
            height,
            width,
        };
        self.request("resize a terminal in", &request, &[], &[])
            .map(drop)
    }

    /// Sends a signal to an exec'd process.
    pub fn signal_exec(&self, exec_id: &str, signal: i32) -> Result<()> {
        let request = Request::Signal {
            exec_id: Some(exec_id.to_owned()),
            signal,
        };
        self.request("signal a process in", &request, &[], &[])
            .map(drop)
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// The exit record of a container whose shim has gone; `None`: the shim was killed before it could write it.
pub fn exit_record(run_dir: &Path) -> Result<Option<ExitRecord>> {
    let container = name(run_dir);
    let failed = lost(&container, "read the exit record of");
    match RunDir::open(run_dir) {
        Ok(dir) => dir.read(EXIT_FILE).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// For a container whose shim was killed: kills what is left of the container, removes its control group and writes
/// the exit record (code 137) in the shim's place. Blocks until every process has gone. `None`: the container never
/// ran. Must not be called while the shim lives ([`Supervisor::connect`] tells).
pub fn bury(run_dir: &Path) -> Result<Option<ExitRecord>> {
    let container = name(run_dir);
    crate::orphan::bury(run_dir).map_err(lost(&container, "clean up after the supervisor of"))
}

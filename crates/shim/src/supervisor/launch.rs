//! From the launch message to a running container, or to the words why not.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{BoxBuilder, Process as OciProcess, Spec};
use wharf_runtime::{CreateRequest, Created, Gate, Stdio};

use super::control::Control;
use super::end::Phase;
use super::log::Log;
use super::poller::{EventFlags, Numbers, Poller, Token};
use super::ports::{Port, Ports};
use super::session::{Process, Session};
use super::streams::{Ends, Pipes};
use super::{BUFFER_BYTES, INIT, Supervisor, clock, title};
use crate::message::{Decoder, Message};
use crate::protocol::{EXIT_FILE, LaunchHead, RUN_FILE, Request, Response, RunRecord, VERSION};
use crate::run_dir::RunDir;

/// Docker's exit code for everything that is not the program's fault.
const DAEMON_FAILURE: i32 = 125;

/// Words and exit code.
pub(super) struct Refusal {
    pub message: String,
    pub exit_code: i32,
}

impl Refusal {
    fn new(operation: &str, cause: &dyn Error) -> Refusal {
        Refusal {
            message: format!("{operation}: {}", words(cause)),
            exit_code: DAEMON_FAILURE,
        }
    }

    fn plain(message: &str) -> Refusal {
        Refusal {
            message: message.to_owned(),
            exit_code: DAEMON_FAILURE,
        }
    }

    pub(super) fn into_response(self) -> Response {
        Response::Failed {
            message: self.message,
            exit_code: self.exit_code,
        }
    }
}

impl From<wharf_runtime::Error> for Refusal {
    fn from(error: wharf_runtime::Error) -> Refusal {
        Refusal {
            exit_code: error.exit_code(),
            message: words(&error),
        }
    }
}

/// An error with all its causes.
pub(super) fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

pub(super) fn context(operation: &'static str) -> impl Fn(std::io::Error) -> Refusal {
    move |error| Refusal::new(operation, &error)
}

/// Launches the container and tells the daemon; `None`: it could not be, and nothing is left behind.
pub(super) fn launch(socket: OwnedFd, decoder: Decoder, message: Message) -> Option<Supervisor> {
    let mut control = match Control::new(socket, decoder) {
        Ok(control) => control,
        Err(_) => return None,
    };
    match try_launch(message) {
        Ok((mut supervisor, listener)) => {
            control.listen(&supervisor.poller, listener);
            control.reply_first(&supervisor.running());
            supervisor.control = control;
            supervisor.control.watch_first(&supervisor.poller);
            Some(supervisor)
        }
        Err(refusal) => {
            control.reply_first(&refusal.into_response());
            None
        }
    }
}

/// Descriptors of the launch, in the order of the protocol.
struct Parts {
    head: LaunchHead,
    rootfs: Option<OwnedFd>,
    netns: Option<OwnedFd>,
    ports: Vec<Port>,
    clients: Vec<OwnedFd>,
}

impl Parts {
    fn new(head: LaunchHead, mut fds: VecDeque<OwnedFd>) -> Result<Parts, Refusal> {
        let mut next = || {
            fds.pop_front()
                .ok_or_else(|| Refusal::plain("the launch lacks descriptors"))
        };
        let rootfs = head.rootfs.then(&mut next).transpose()?;
        let netns = head.netns.then(&mut next).transpose()?;
        let ports = head
            .ports
            .iter()
            .map(|port| {
                Ok(Port {
                    socket: next()?,
                    target: port.target,
                    udp: port.udp,
                })
            })
            .collect::<Result<_, Refusal>>()?;
        let clients = head
            .attached
            .iter()
            .map(|_| next())
            .collect::<Result<_, Refusal>>()?;
        Ok(Parts {
            head,
            rootfs,
            netns,
            ports,
            clients,
        })
    }
}

fn try_launch(message: Message) -> Result<(Supervisor, OwnedFd), Refusal> {
    let head = match serde_json::from_slice(&message.head) {
        Ok(Request::Launch(head)) => head,
        Ok(_) => return Err(Refusal::plain("the first request is not a launch")),
        Err(error) => return Err(Refusal::new("read the launch request", &error)),
    };
    title::set_container(&head.id);
    let mut spec: Spec = serde_json::from_slice(&message.blob)
        .map_err(|error| Refusal::new("read the configuration", &error))?;
    let mut parts = Parts::new(head, message.fds)?;
    let poller = Poller::new().map_err(context("make an epoll instance"))?;
    let run_dir = RunDir::open(&parts.head.run_dir).map_err(context("open the run folder"))?;
    // A container that is started again must not be taken for ended.
    run_dir
        .remove(EXIT_FILE)
        .map_err(context("remove the last exit record"))?;
    let mut session = Session::new(INIT, None, parts.head.stdin_once);
    let log = std::mem::replace(&mut parts.head.log, crate::protocol::LogConfig::None);
    session.log = Log::open(log).map_err(context("open the log"))?;
    for (client, streams) in std::mem::take(&mut parts.clients)
        .into_iter()
        .zip(&parts.head.attached)
    {
        session
            .attach(&poller, client, *streams)
            .map_err(context("attach a client"))?;
    }
    let listener = run_dir
        .listen()
        .map_err(context("listen in the run folder"))?;
    let started = set_size_and_start(&mut spec, &parts, &mut session, &poller);
    let (created, started_at) = match started {
        Ok(started) => started,
        Err(refusal) => {
            session.close_clients(&poller);
            let _ = run_dir.remove(crate::protocol::SOCKET_FILE);
            return Err(refusal);
        }
    };
    let ports = Ports::new(&poller, parts.ports);
    let mut supervisor = Supervisor {
        poller,
        run_dir,
        id: parts.head.id,
        spec: message.blob,
        created: Some(created),
        started_at,
        sessions: BTreeMap::from([(INIT, session)]),
        session_numbers: Numbers::default(),
        control: Control::default(),
        ports,
        oom: None,
        oom_killed: false,
        phase: Phase::Running,
        record: None,
        executed: false,
        buffer: vec![0; BUFFER_BYTES],
    };
    supervisor.watch_oom();
    supervisor.write_run_record(&spec);
    Ok((supervisor, listener))
}

pub(super) fn set_console_size(process: &mut OciProcess, size: Option<(u16, u16)>) {
    if let Some((height, width)) = size {
        let size = BoxBuilder::default().height(height).width(width).build();
        process.set_console_size(size.ok());
    }
}

fn set_size_and_start(
    spec: &mut Spec,
    parts: &Parts,
    session: &mut Session,
    poller: &Poller,
) -> Result<(Created, String), Refusal> {
    let Some(process) = spec.process_mut() else {
        return Err(Refusal::plain("the configuration lacks a process"));
    };
    set_console_size(process, parts.head.console_size);
    let terminal = process.terminal().unwrap_or(false);
    let user = process.user().clone();
    let (pipes, mut ends) = if terminal {
        (Pipes::none(), Ends::default())
    } else {
        Pipes::new(parts.head.open_stdin, true).map_err(context("make pipes"))?
    };
    pipes.give_to(spec, &user);
    let bundle: PathBuf = parts.head.run_dir.clone();
    let mut created = wharf_runtime::create(CreateRequest {
        id: &parts.head.id,
        bundle: &bundle,
        spec,
        stdio: if terminal { Stdio::Pty } else { pipes.stdio() },
        rootfs: parts.rootfs.as_ref().map(AsFd::as_fd),
        netns: parts.netns.as_ref().map(AsFd::as_fd),
        preserve_fds: 0,
        no_pivot: false,
        no_new_keyring: false,
        gate: Gate::Channel,
    })?;
    drop(pipes);
    if let Some(pty) = created.pty.take() {
        ends = Ends::of_terminal(pty, parts.head.open_stdin)
            .map_err(context("duplicate the terminal"))?;
    }
    let process = Process {
        pid: created.pid,
        pidfd: created
            .pidfd
            .try_clone()
            .map_err(context("duplicate a pidfd"))?,
    };
    session
        .begin(poller, process, ends)
        .map_err(context("watch the process"))?;
    let started_at = clock::rfc3339(clock::now());
    created.start()?;
    Ok((created, started_at))
}

impl Supervisor {
    pub(super) fn running(&self) -> Response {
        Response::Running {
            version: VERSION,
            pid: self.sessions.get(&INIT).map_or(0, Session::pid),
            shim_pid: std::process::id().cast_signed(),
            started_at: self.started_at.clone(),
        }
    }

    fn write_run_record(&self, spec: &Spec) {
        let record = RunRecord {
            version: VERSION,
            pid: self.sessions.get(&INIT).map_or(0, Session::pid),
            shim_pid: std::process::id().cast_signed(),
            started_at: self.started_at.clone(),
            cgroup: Some(wharf_runtime::cgroup_path(spec, &self.id)),
        };
        // Needed only after this process was killed; the container runs already, so it is not stopped for it.
        let _ = self.run_dir.write(RUN_FILE, &record, false);
    }

    fn watch_oom(&mut self) {
        let Some(created) = &self.created else { return };
        let Ok(watch) = created.cgroup.oom_watch() else {
            return;
        };
        if self
            .poller
            .add(watch.fd(), Token::Oom, EventFlags::IN)
            .is_ok()
        {
            self.oom = Some(watch);
        }
    }
}

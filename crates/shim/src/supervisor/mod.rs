//! The supervisor: one thread, one loop, no async runtime.
//!
//! Life: detach from the daemon, wait for the launch, create and start the container, serve, and end after the
//! container. The daemon may die and come back at any time; only an idle supervisor ends with it.

mod attached;
pub(crate) mod clock;
mod control;
mod datagrams;
mod end;
mod execute;
mod input;
mod launch;
mod log;
mod pair;
mod poller;
mod ports;
mod session;
mod streams;
mod title;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use wharf_cgroup::OomWatch;
use wharf_runtime::Created;
use wharf_sys::process::{Cloned, clone_process};

use crate::message::Decoder;
use crate::protocol::ExitRecord;
use crate::run_dir::RunDir;
use control::Control;
use end::Phase;
use poller::{EventFlags, Poller, Ready, Token};
use ports::Ports;
use session::Session;

/// One buffer for whatever passes through.
const BUFFER_BYTES: usize = 64 << 10;
/// Number of the container's own session.
const INIT: u32 = 0;
/// Without anything to do for so long, memory is given back.
const QUIET_MS: u64 = 1_000;
/// Blocks from this size on are mapped by themselves.
const LARGE_BYTES: i32 = 32 << 10;

/// The program: expects its socket as standard input.
pub fn main() -> ExitCode {
    let _ = wharf_sys::descriptors::close_from(3);
    wharf_sys::heap::keep_small(LARGE_BYTES);
    title::set_name();
    match clone_process(0, None) {
        // The daemon waits for this end: whoever it spawned is gone, and the supervisor is nobody's child.
        Ok(Cloned::Parent { .. }) => ExitCode::SUCCESS,
        Ok(Cloned::Child) => match detached() {
            Some(()) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        },
        Err(_) => ExitCode::FAILURE,
    }
}

fn detached() -> Option<()> {
    rustix::process::setsid().ok()?;
    rustix::process::chdir("/").ok()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let socket = take_socket()?;
    let mut decoder = Decoder::default();
    // The end of file here is the daemon's end: an idle supervisor is of no use to anybody else.
    let message = decoder.wait(socket.as_fd()).ok()??;
    let supervisor = launch::launch(socket, decoder, message)?;
    // Most of what ran up to here never runs again.
    let _ = wharf_sys::program::forget();
    wharf_sys::heap::trim();
    supervisor.run();
    Some(())
}

/// Moves the socket away from standard input, which programs started later would inherit.
fn take_socket() -> Option<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok()?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    Some(socket)
}

/// The running supervisor.
struct Supervisor {
    poller: Poller,
    run_dir: RunDir,
    id: String,
    /// The configuration as JSON: smaller than parsed, and needed only when something is executed.
    spec: Vec<u8>,
    created: Option<Created>,
    started_at: String,
    sessions: BTreeMap<u32, Session>,
    session_numbers: poller::Numbers,
    control: Control,
    ports: Ports,
    oom: Option<OomWatch>,
    oom_killed: bool,
    phase: Phase,
    record: Option<ExitRecord>,
    buffer: Vec<u8>,
    /// Something was executed since memory was given back: code that is needed rarely is mapped.
    executed: bool,
}

impl Supervisor {
    fn run(mut self) {
        let mut ready = Ready::with_capacity(32);
        loop {
            if self.advance() {
                return;
            }
            let timeout_ms = self.timeout_ms();
            if self.poller.wait(&mut ready, timeout_ms).is_err() {
                return;
            }
            if ready.is_empty() {
                self.give_memory_back();
            }
            for (token, flags) in ready.drain(..) {
                self.dispatch(token, flags);
            }
            self.work_aside();
        }
    }

    /// What can be put off until nothing else is ready, one piece at a time.
    fn work_aside(&mut self) {
        if let Some(log) = self.log().filter(|log| log.is_compressing()) {
            log.compress_piece();
            if !log.is_compressing() {
                wharf_sys::heap::trim();
            }
        }
        self.ports.resume(&self.poller, clock::monotonic_ms());
    }

    pub(in crate::supervisor) fn log(&mut self) -> Option<&mut log::Log> {
        self.sessions.get_mut(&INIT)?.log.as_mut()
    }

    /// A container that wrote much once may be silent for ever after, and what an exec took is needed by the next only.
    fn give_memory_back(&mut self) {
        if std::mem::take(&mut self.executed) {
            let _ = wharf_sys::program::forget();
            wharf_sys::heap::trim();
        }
        if let Some(log) = self.log().filter(|log| log.is_large()) {
            log.shrink();
            wharf_sys::heap::trim();
        }
    }

    fn timeout_ms(&mut self) -> Option<u64> {
        let mut quiet = None;
        if let Some(log) = self.log() {
            if log.is_compressing() {
                return Some(0);
            }
            quiet = log.is_large().then(|| clock::monotonic_ms() + QUIET_MS);
        }
        if self.executed {
            quiet = Some(clock::monotonic_ms() + QUIET_MS);
        }
        let sessions = self
            .sessions
            .values()
            .filter_map(|session| session.deadline_ms);
        let next = sessions
            .chain(self.ports.deadline_ms())
            .chain(self.phase.deadline_ms())
            .chain(quiet)
            .min()?;
        Some(next.saturating_sub(clock::monotonic_ms()))
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Control => self.control.accept(&self.poller),
            Token::Connection(number) => self.serve(number, flags),
            Token::Process(number) => self.process_ended(number),
            Token::Output(number, index) => {
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.take_output(&self.poller, index as usize & 1, &mut self.buffer);
                }
            }
            Token::Input(number) => {
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.resume_input(&self.poller);
                }
            }
            Token::Client(number, client) => {
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.serve_client(&self.poller, client, flags, &mut self.buffer);
                }
            }
            Token::Oom => self.take_oom(),
            Token::Straggler(number) => self.straggler_ended(number),
            Token::Listener(_) | Token::Pair(..) | Token::Datagrams(_) | Token::Flow(_) => {
                self.ports.serve(&self.poller, token, &mut self.buffer);
            }
        }
    }
}

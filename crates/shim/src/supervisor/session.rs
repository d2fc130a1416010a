//! One process with its streams: the container's init or an exec'd one; output goes to the log and to the attached
//! clients, input comes from them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};
use rustix::termios::Winsize;

use super::attached::Client;
use super::input::Input;
use super::log::Log;
use super::poller::{EventFlags, Numbers, Poller, Token};
use super::streams::Ends;
use crate::client::AttachStreams;

/// One process with its streams.
#[derive(Debug)]
pub(super) struct Session {
    number: u32,
    pub exec_id: Option<String>,
    process: Option<Process>,
    pub exit_code: Option<i32>,
    terminal: Option<OwnedFd>,
    input: Input,
    outputs: [Option<OwnedFd>; 2],
    /// Output rests until the slowest client has caught up.
    resting: bool,
    clients: BTreeMap<u32, Client>,
    numbers: Numbers,
    /// The first client that ends its input ends the process's input.
    stdin_once: bool,
    pub log: Option<Log>,
    /// The process has ended: output is taken whoever lags, since what is left of it is bounded.
    pub ending: bool,
    /// When an ended process's streams are closed although somebody holds them open.
    pub deadline_ms: Option<u64>,
}

/// A child of ours.
#[derive(Debug)]
pub(super) struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Session {
    /// A session whose process does not exist yet: clients can be attached.
    pub(super) fn new(number: u32, exec_id: Option<String>, stdin_once: bool) -> Session {
        Session {
            number,
            exec_id,
            process: None,
            exit_code: None,
            terminal: None,
            input: Input::new(None, Token::Input(number)),
            outputs: [None, None],
            resting: false,
            clients: BTreeMap::new(),
            numbers: Numbers::default(),
            stdin_once,
            log: None,
            ending: false,
            deadline_ms: None,
        }
    }

    /// Takes the process over.
    pub(super) fn begin(
        &mut self,
        poller: &Poller,
        process: Process,
        ends: Ends,
    ) -> io::Result<()> {
        for fd in [&ends.stdin, &ends.stdout, &ends.stderr]
            .into_iter()
            .flatten()
        {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        }
        // With a terminal the end of a client's input is not the end of the user's.
        self.stdin_once &= ends.terminal.is_none();
        self.terminal = ends.terminal;
        self.input = Input::new(ends.stdin, Token::Input(self.number));
        self.outputs = [ends.stdout, ends.stderr];
        poller.add(&process.pidfd, Token::Process(self.number), EventFlags::IN)?;
        self.process = Some(process);
        self.watch_outputs(poller);
        self.watch_clients(poller);
        Ok(())
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, |process| process.pid)
    }

    fn framed(&self) -> bool {
        self.terminal.is_none()
    }

    fn watch_outputs(&mut self, poller: &Poller) {
        for (index, fd) in self.outputs.iter_mut().enumerate() {
            let token = Token::Output(self.number, index as u32);
            if fd
                .as_ref()
                .is_some_and(|fd| poller.add(fd, token, EventFlags::IN).is_err())
            {
                *fd = None;
            }
        }
    }

    /// Attaches a client; it gets what is said from now on.
    pub(super) fn attach(
        &mut self,
        poller: &Poller,
        socket: OwnedFd,
        streams: AttachStreams,
    ) -> io::Result<()> {
        let number = self.numbers.next();
        let token = Token::Client(self.number, number);
        let client = Client::new(poller, socket, token, streams)?;
        self.clients.insert(number, client);
        self.watch_clients(poller);
        Ok(())
    }

    /// Reads one piece of output. Whether there was one.
    pub(super) fn take_output(&mut self, poller: &Poller, index: usize, buffer: &mut [u8]) -> bool {
        let Some(fd) = &self.outputs[index] else {
            return false;
        };
        if self.resting && !self.ending {
            return false;
        }
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => self.end_output(poller, index),
            Ok(count) => {
                let bytes = &buffer[..count];
                if let Some(log) = &mut self.log {
                    log.write(index, bytes);
                }
                let framed = self.framed();
                for client in self.clients.values_mut() {
                    client.deliver(index, framed, bytes);
                }
                self.settle(poller);
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that no process has open says EIO.
            Err(_) => self.end_output(poller, index),
        }
        false
    }

    fn end_output(&mut self, poller: &Poller, index: usize) {
        if let Some(fd) = self.outputs[index].take() {
            // A duplicate of a terminal lives on, and would be reported for ever.
            if !self.resting {
                poller.remove(&fd);
            }
            if let Some(log) = &mut self.log {
                log.end(index);
            }
        }
    }

    /// Takes all output that is there now.
    pub(super) fn drain(&mut self, poller: &Poller, buffer: &mut [u8]) {
        for index in 0..2 {
            while self.take_output(poller, index, buffer) {}
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// Closes the outputs, whoever holds their other ends.
    pub(super) fn close_outputs(&mut self, poller: &Poller) {
        self.end_output(poller, 0);
        self.end_output(poller, 1);
    }

    /// There is room in standard input.
    pub(super) fn resume_input(&mut self, poller: &Poller) {
        self.input.resume(poller);
        self.watch_clients(poller);
    }

    /// Something happened on a client's socket.
    pub(super) fn serve_client(
        &mut self,
        poller: &Poller,
        number: u32,
        flags: EventFlags,
        buffer: &mut [u8],
    ) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            client.flush();
        }
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        // What a client sent before it left counts, and is bounded by the socket's buffer.
        while !client.input_ended && (self.input.has_room() || hung_up) {
            match client.receive(buffer) {
                Some(0) => {
                    client.input_ended = true;
                    if self.stdin_once {
                        self.input.close(poller);
                    }
                }
                Some(count) => self.input.push(poller, &buffer[..count]),
                None => break,
            }
        }
        client.gone |= hung_up;
        self.settle(poller);
    }

    /// Removes clients that have gone, and lets output rest or go on.
    fn settle(&mut self, poller: &Poller) {
        let gone: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, c)| c.gone)
            .map(|(n, _)| *n)
            .collect();
        for number in gone {
            if let Some(client) = self.clients.remove(&number) {
                if self.stdin_once && client.streams.stdin {
                    self.input.close(poller);
                }
                client.close(poller);
            }
        }
        if !self.resting && !self.ending && self.clients.values().any(Client::lags) {
            self.resting = true;
            // Removed, not merely masked: a hang-up is reported whatever the mask.
            self.outputs
                .iter()
                .flatten()
                .for_each(|fd| poller.remove(fd));
        } else if self.resting && (self.ending || self.clients.values().all(Client::caught_up)) {
            self.resting = false;
            self.watch_outputs(poller);
        }
        self.watch_clients(poller);
    }

    fn watch_clients(&mut self, poller: &Poller) {
        let has_room = self.input.has_room();
        for client in self.clients.values_mut() {
            client.watch(poller, has_room);
        }
    }

    /// Reaps the process if it has ended; the exit code then.
    pub(super) fn reap(&mut self, poller: &Poller) -> Option<i32> {
        let process = self.process.as_ref()?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let code = match rustix::process::waitid(WaitId::PidFd(process.pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => return None,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => return None,
            },
            // Somebody else has reaped it; the end is certain, its reason is not.
            Err(_) => 255,
        };
        poller.remove(&process.pidfd);
        self.exit_code = Some(code);
        self.ending = true;
        self.settle(poller);
        Some(code)
    }

    /// Sends a signal to the process; never to another one, since it is not reaped before its end is noticed here.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        let process = match &self.process {
            Some(process) if self.exit_code.is_none() => process,
            _ => return Err(io::Error::from(Errno::SRCH)),
        };
        wharf_sys::signal::send_signal(process.pidfd.as_fd(), signal)
    }

    pub(super) fn resize(&self, height: u16, width: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Err(io::Error::from(Errno::NOTTY));
        };
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }

    /// Whether every client has got everything.
    pub(super) fn is_delivered(&self) -> bool {
        self.clients.values().all(Client::is_idle)
    }

    /// Ends the clients' streams.
    pub(super) fn close_clients(&mut self, poller: &Poller) {
        for (_, client) in std::mem::take(&mut self.clients) {
            client.close(poller);
        }
    }

    /// Lets go of clients that have got everything.
    pub(super) fn close_idle_clients(&mut self, poller: &Poller) {
        let idle: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, c)| c.is_idle())
            .map(|(n, _)| *n)
            .collect();
        for number in idle {
            if let Some(client) = self.clients.remove(&number) {
                client.close(poller);
            }
        }
    }
}

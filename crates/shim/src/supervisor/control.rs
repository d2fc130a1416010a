//! Control connections: requests in, answers and notices out. Nobody on the other side can make the loop wait.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::launch::context;
use super::poller::{EventFlags, Numbers, Poller, Token};
use super::session::Session;
use super::{INIT, Supervisor};
use crate::client::Notice;
use crate::message::{Decoder, Message, encode};
use crate::protocol::{Request, Response, VERSION};

/// More than a daemon needs: one for notices and a passing one for each request.
const CONNECTIONS_MAX: usize = 256;
/// A connection that does not read its notices is closed.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Notices kept for a daemon that is away.
const MISSED_MAX: usize = 1024;

/// All control connections.
#[derive(Debug, Default)]
pub(super) struct Control {
    listener: Option<OwnedFd>,
    connections: BTreeMap<u32, Connection>,
    numbers: Numbers,
    missed: VecDeque<Notice>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    queue: Vec<u8>,
    notices: bool,
    watched: EventFlags,
}

impl Control {
    /// The socket that the launch came through stays the first connection, with notices: what happens before the
    /// daemon listens to it waits there, even beyond this process's end.
    pub(super) fn new(socket: OwnedFd, decoder: Decoder) -> io::Result<Control> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        let mut control = Control::default();
        let connection = Connection {
            socket,
            decoder,
            queue: Vec::new(),
            notices: true,
            watched: EventFlags::empty(),
        };
        control.connections.insert(0, connection);
        Ok(control)
    }

    pub(super) fn listen(&mut self, poller: &Poller, listener: OwnedFd) {
        if poller
            .add(&listener, Token::Control, EventFlags::IN)
            .is_ok()
        {
            self.listener = Some(listener);
        }
    }

    pub(super) fn watch_first(&mut self, poller: &Poller) {
        if let Some(connection) = self.connections.get_mut(&0) {
            connection.watched = EventFlags::IN;
            if poller
                .add(&connection.socket, Token::Connection(0), EventFlags::IN)
                .is_err()
            {
                self.connections.remove(&0);
            }
        }
    }

    /// Answers the launch; it fits into the empty buffer of the socket.
    pub(super) fn reply_first(&mut self, response: &Response) {
        if let Some(connection) = self.connections.get_mut(&0) {
            connection.push(response);
        }
    }

    pub(super) fn accept(&mut self, poller: &Poller) {
        let Some(listener) = &self.listener else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(listener, flags) else {
            return;
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let number = self.numbers.next();
        if poller
            .add(&socket, Token::Connection(number), EventFlags::IN)
            .is_ok()
        {
            let connection = Connection {
                socket,
                decoder: Decoder::default(),
                queue: Vec::new(),
                notices: false,
                watched: EventFlags::IN,
            };
            self.connections.insert(number, connection);
        }
    }

    /// Nobody can connect any more.
    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
    }

    /// Tells everybody who asked; keeps the news while nobody does.
    pub(super) fn notify(&mut self, poller: &Poller, notice: Notice) {
        let response = Response::Notice(notice.clone());
        let mut told = false;
        for (number, connection) in &mut self.connections {
            if connection.notices {
                connection.push(&response);
                connection.watch(poller, *number);
                told = true;
            }
        }
        if !told && self.missed.len() < MISSED_MAX {
            self.missed.push_back(notice);
        }
        self.drop_overfull();
    }

    fn drop_overfull(&mut self) {
        self.connections
            .retain(|_, connection| connection.queue.len() <= QUEUE_BYTES_MAX);
    }

    fn subscribe(&mut self, number: u32) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.notices = true;
            for notice in std::mem::take(&mut self.missed) {
                connection.push(&Response::Notice(notice));
            }
        }
    }

    fn answer(&mut self, poller: &Poller, number: u32, response: &Response) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.push(response);
            connection.watch(poller, number);
        }
    }

    /// Whether everything said has been taken.
    pub(super) fn is_delivered(&self) -> bool {
        self.connections
            .values()
            .all(|connection| connection.queue.is_empty())
    }

    /// The next request of a connection; `Err`: the connection has ended.
    fn next(&mut self, number: u32) -> Result<Option<Message>, ()> {
        let connection = self.connections.get_mut(&number).ok_or(())?;
        connection.decoder.next().map_err(|_| ())
    }
}

impl Connection {
    fn push(&mut self, response: &Response) {
        let Ok(text) = serde_json::to_vec(response) else {
            return;
        };
        self.queue.extend_from_slice(&encode(&text, &[], 0));
        self.flush();
    }

    fn flush(&mut self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !self.queue.is_empty() {
            match rustix::net::send(&self.socket, &self.queue, flags) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The reader has gone; its hang-up ends the connection.
                Err(_) => self.queue.clear(),
            }
        }
        self.queue = Vec::new();
    }

    fn watch(&mut self, poller: &Poller, number: u32) {
        let mut wanted = EventFlags::IN;
        if !self.queue.is_empty() {
            wanted |= EventFlags::OUT;
        }
        if wanted != self.watched {
            self.watched = wanted;
            poller.modify(&self.socket, Token::Connection(number), wanted);
        }
    }
}

impl Supervisor {
    /// A control connection is ready.
    pub(super) fn serve(&mut self, number: u32, flags: EventFlags) {
        let Some(connection) = self.control.connections.get_mut(&number) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            connection.flush();
            connection.watch(&self.poller, number);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        match connection.decoder.receive(connection.socket.as_fd()) {
            Ok(0) => drop(self.control.connections.remove(&number)),
            Ok(_) => self.answer_all(number),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => drop(self.control.connections.remove(&number)),
        }
    }

    fn answer_all(&mut self, number: u32) {
        loop {
            match self.control.next(number) {
                Ok(Some(message)) => {
                    let response = self.answer(number, message);
                    self.control.answer(&self.poller, number, &response);
                    if matches!(response, Response::Running { .. }) {
                        self.control.replay(&self.poller, number);
                    }
                }
                Ok(None) => return,
                Err(()) => {
                    self.control.connections.remove(&number);
                    return;
                }
            }
        }
    }

    fn answer(&mut self, number: u32, mut message: Message) -> Response {
        let request = match serde_json::from_slice::<Request>(&message.head) {
            Ok(request) => request,
            Err(error) => {
                return failed(format!(
                    "this supervisor speaks version {VERSION} of its protocol: {error}"
                ));
            }
        };
        let result = match request {
            Request::Hello { notices, .. } => {
                self.control.mark(number, notices);
                return self.running();
            }
            Request::Launch(_) => {
                return failed("this supervisor has a container already".to_owned());
            }
            Request::Exec(head) => {
                return match self.execute(head, message) {
                    Ok(pid) => Response::Executed { pid },
                    Err(refusal) => refusal.into_response(),
                };
            }
            Request::Attach { exec_id, streams } => {
                let poller = &self.poller;
                let Some(session) = find(&mut self.sessions, exec_id.as_deref()) else {
                    return failed("no such process, or it has ended".to_owned());
                };
                match message.fds.pop_front() {
                    Some(socket) => session
                        .attach(poller, socket, streams)
                        .map_err(context("attach a client")),
                    None => return failed("the request lacks its descriptor".to_owned()),
                }
            }
            Request::Resize {
                exec_id,
                height,
                width,
            } => match find(&mut self.sessions, exec_id.as_deref()) {
                Some(session) => session
                    .resize(height, width)
                    .map_err(context("resize the terminal")),
                None => return failed("no such process, or it has ended".to_owned()),
            },
            Request::ReopenLog => match self.log() {
                Some(log) => log.reopen().map_err(context("reopen the log")),
                None => Ok(()),
            },
            Request::Signal { exec_id, signal } => {
                match find(&mut self.sessions, exec_id.as_deref()) {
                    Some(session) => session.signal(signal).map_err(context("send the signal")),
                    None => return failed("no such process, or it has ended".to_owned()),
                }
            }
        };
        match result {
            Ok(()) => Response::Done,
            Err(refusal) => refusal.into_response(),
        }
    }
}

impl Control {
    fn mark(&mut self, number: u32, notices: bool) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.notices |= notices;
        }
    }

    /// What was missed comes after the answer to the hello.
    fn replay(&mut self, poller: &Poller, number: u32) {
        if self
            .connections
            .get(&number)
            .is_some_and(|connection| connection.notices)
        {
            self.subscribe(number);
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.watch(poller, number);
            }
        }
    }
}

fn find<'a>(
    sessions: &'a mut BTreeMap<u32, Session>,
    exec_id: Option<&str>,
) -> Option<&'a mut Session> {
    match exec_id {
        None => sessions.get_mut(&INIT),
        Some(_) => sessions
            .values_mut()
            .find(|session| session.exec_id.as_deref() == exec_id),
    }
}

fn failed(message: String) -> Response {
    Response::Failed {
        message,
        exit_code: 125,
    }
}

//! One carried connection: bytes move from socket to socket through a pipe in the kernel, each direction ends by
//! itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::poller::{EventFlags, Poller, Token};

const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one direction before others get their turn.
const TURN_PIECES: usize = 16;

/// How far a turn got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A socket will say when there is more.
    Waiting,
    /// There is more already.
    More,
    /// Both directions have ended, or one has failed.
    Done,
}

/// Two sockets. They are watched edge-triggered, so each event is followed until nothing moves.
#[derive(Debug)]
pub(super) struct Pair {
    client: OwnedFd,
    target: OwnedFd,
    connected: bool,
    forth: Direction,
    back: Direction,
}

#[derive(Debug)]
struct Direction {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    /// The source has said all.
    ended: bool,
    /// And the sink knows.
    done: bool,
}

impl Pair {
    pub(super) fn new(
        poller: &Poller,
        number: u32,
        client: OwnedFd,
        target: SocketAddr,
    ) -> io::Result<Pair> {
        let family = if target.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let connected = match rustix::net::connect(&socket, &target) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(error) => return Err(error.into()),
        };
        // What is small is often urgent, and was not held back by its sender either.
        for end in [&client, &socket] {
            let _ = rustix::net::sockopt::set_tcp_nodelay(end, true);
            // A peer that vanished without a word must not hold descriptors for ever.
            let _ = rustix::net::sockopt::set_socket_keepalive(end, true);
        }
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        poller.add(&client, Token::Pair(number, 0), flags)?;
        poller.add(&socket, Token::Pair(number, 1), flags)?;
        Ok(Pair {
            client,
            target: socket,
            connected,
            forth: Direction::new()?,
            back: Direction::new()?,
        })
    }

    /// Moves what can be moved.
    pub(super) fn carry(&mut self) -> Progress {
        if !self.connected {
            match rustix::net::sockopt::socket_error(&self.target) {
                Ok(Ok(())) => {}
                _ => return Progress::Done,
            }
            // No error yet may mean no answer yet.
            match rustix::net::getpeername(&self.target) {
                Ok(Some(_)) => self.connected = true,
                _ => return Progress::Waiting,
            }
        }
        let forth = self.forth.carry(&self.client, &self.target);
        let back = self.back.carry(&self.target, &self.client);
        match (forth, back) {
            (Err(_), _) | (_, Err(_)) | (Ok(Progress::Done), Ok(Progress::Done)) => Progress::Done,
            (Ok(Progress::More), _) | (_, Ok(Progress::More)) => Progress::More,
            _ => Progress::Waiting,
        }
    }
}

impl Direction {
    fn new() -> io::Result<Direction> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Direction {
            read,
            write,
            held: 0,
            ended: false,
            done: false,
        })
    }

    fn carry(&mut self, source: &OwnedFd, sink: &OwnedFd) -> Result<Progress, Errno> {
        if self.done {
            return Ok(Progress::Done);
        }
        for _ in 0..TURN_PIECES {
            let taken = self.take(source)?;
            let given = self.give(sink)?;
            if self.ended && self.held == 0 {
                self.done = true;
                // The other side may have gone altogether meanwhile.
                let _ = rustix::net::shutdown(sink, Shutdown::Write);
                return Ok(Progress::Done);
            }
            if !taken && !given {
                return Ok(Progress::Waiting);
            }
        }
        Ok(Progress::More)
    }

    /// Whether something came.
    fn take(&mut self, source: &OwnedFd) -> Result<bool, Errno> {
        if self.ended {
            return Ok(false);
        }
        match splice(source, &self.write, PIECE_BYTES)? {
            None => Ok(false),
            Some(0) => {
                self.ended = true;
                Ok(false)
            }
            Some(count) => {
                self.held += count;
                Ok(true)
            }
        }
    }

    /// Whether something went.
    fn give(&mut self, sink: &OwnedFd) -> Result<bool, Errno> {
        if self.held == 0 {
            return Ok(false);
        }
        let count = splice(&self.read, sink, self.held)?.unwrap_or(0);
        self.held -= count;
        Ok(count > 0)
    }
}

/// `None`: not now.
fn splice(from: &OwnedFd, to: &OwnedFd, bytes: usize) -> Result<Option<usize>, Errno> {
    match rustix::pipe::splice(
        from,
        None,
        to,
        None,
        bytes,
        SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
    ) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

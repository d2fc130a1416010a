//! The epoll instance, and what a ready descriptor stands for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData};

pub(crate) use rustix::event::epoll::EventFlags;

/// What became ready. Numbers below 2^30; an event for something that has gone meanwhile finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The listening control socket.
    Control,
    /// A control connection.
    Connection(u32),
    /// The end of a session's process.
    Process(u32),
    /// A session's output: 0 standard output or terminal, 1 standard error.
    Output(u32, u32),
    /// Room in a session's standard input.
    Input(u32),
    /// A client attached to a session.
    Client(u32, u32),
    /// Out-of-memory notification.
    Oom,
    /// A process of the group that outlives init.
    Straggler(u32),
    /// A port's listening socket.
    Listener(u32),
    /// One side of a carried connection.
    Pair(u32, u32),
    /// A port's datagram socket.
    Datagrams(u32),
    /// Answers for one sender of datagrams.
    Flow(u32),
}

const PART: u64 = (1 << 30) - 1;

impl Token {
    fn encode(self) -> u64 {
        let (kind, a, b) = match self {
            Token::Control => (0, 0, 0),
            Token::Connection(a) => (1, a, 0),
            Token::Process(a) => (2, a, 0),
            Token::Output(a, b) => (3, a, b),
            Token::Input(a) => (4, a, 0),
            Token::Client(a, b) => (5, a, b),
            Token::Oom => (6, 0, 0),
            Token::Straggler(a) => (7, a, 0),
            Token::Listener(a) => (8, a, 0),
            Token::Pair(a, b) => (9, a, b),
            Token::Datagrams(a) => (10, a, 0),
            Token::Flow(a) => (11, a, 0),
        };
        kind << 60 | (u64::from(a) & PART) << 30 | u64::from(b) & PART
    }

    fn decode(value: u64) -> Token {
        let a = (value >> 30 & PART) as u32;
        let b = (value & PART) as u32;
        match value >> 60 {
            0 => Token::Control,
            1 => Token::Connection(a),
            2 => Token::Process(a),
            3 => Token::Output(a, b),
            4 => Token::Input(a),
            5 => Token::Client(a, b),
            6 => Token::Oom,
            7 => Token::Straggler(a),
            8 => Token::Listener(a),
            9 => Token::Pair(a, b),
            10 => Token::Datagrams(a),
            _ => Token::Flow(a),
        }
    }
}

/// Numbers for tokens.
#[derive(Debug, Default)]
pub(crate) struct Numbers(u32);

impl Numbers {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = (self.0 + 1) & PART as u32;
        self.0
    }
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

const BATCH: usize = 32;

/// Ready tokens of one wait.
pub(crate) type Ready = Vec<(Token, EventFlags)>;

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            fd,
            EventData::new_u64(token.encode()),
            flags,
        )?)
    }

    pub(crate) fn modify(&self, fd: impl AsFd, token: Token, flags: EventFlags) {
        let _ = epoll::modify(&self.0, fd, EventData::new_u64(token.encode()), flags);
    }

    /// Must happen before closing wherever the descriptor may have a duplicate elsewhere: epoll would go on
    /// reporting it.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits; an empty list after the timeout.
    pub(crate) fn wait(&self, ready: &mut Ready, timeout_ms: Option<u64>) -> io::Result<()> {
        ready.clear();
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; BATCH];
        let timeout = timeout_ms.and_then(|ms| Timespec::try_from(Duration::from_millis(ms)).ok());
        let count = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        ready.extend(events[..count].iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            (Token::decode(data.u64()), flags)
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_encoding() {
        let big = (1 << 30) - 1;
        let all = [
            Token::Control,
            Token::Connection(big),
            Token::Process(1),
            Token::Output(big, 1),
            Token::Input(0),
            Token::Client(7, big),
            Token::Oom,
            Token::Straggler(3),
            Token::Listener(9),
            Token::Pair(big, 1),
            Token::Datagrams(2),
            Token::Flow(big),
        ];
        for token in all {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}

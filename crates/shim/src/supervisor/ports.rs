//! Published ports that the kernel's address translation does not reach: sockets of the host whose connections and
//! datagrams are carried to the container, from the host's network namespace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Resource, Rlimit};

use super::clock;
use super::datagrams::Datagrams;
use super::pair::Pair;
use super::poller::{EventFlags, Numbers, Poller, Token};

/// Two sockets, and a pipe for each direction.
const DESCRIPTORS_PER_PAIR: u64 = 6;
/// For everything else: streams, control, log, exec'd processes.
const DESCRIPTORS_KEPT: u64 = 256;
/// As many connections at a time, whatever the limit of descriptors.
const PAIRS_MAX: u64 = 16_384;
/// Pause after an accept that failed for want of something.
const PAUSE_MS: u64 = 1_000;

/// A socket as it came from the daemon.
#[derive(Debug)]
pub(super) struct Port {
    pub socket: OwnedFd,
    pub target: SocketAddr,
    pub udp: bool,
}

/// All published ports of the container.
#[derive(Debug, Default)]
pub(super) struct Ports {
    listeners: BTreeMap<u32, Listener>,
    datagrams: BTreeMap<u32, Datagrams>,
    pairs: BTreeMap<u32, Pair>,
    pair_numbers: Numbers,
    flow_numbers: Numbers,
    pairs_max: usize,
    /// New connections wait in the kernel until a pair ends, or until then.
    paused_until_ms: Option<u64>,
    /// Connections with more to move than one turn allows.
    unfinished: Vec<u32>,
    original_limit: Option<Rlimit>,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    target: SocketAddr,
}

impl Ports {
    pub(super) fn new(poller: &Poller, ports: Vec<Port>) -> Ports {
        let mut all = Ports::default();
        if ports.is_empty() {
            return all;
        }
        all.raise_limit();
        for (number, port) in (1..).zip(ports) {
            let flags =
                rustix::fs::fcntl_getfl(&port.socket).unwrap_or(rustix::fs::OFlags::empty());
            let _ = rustix::fs::fcntl_setfl(&port.socket, flags | rustix::fs::OFlags::NONBLOCK);
            if port.udp {
                if poller
                    .add(&port.socket, Token::Datagrams(number), EventFlags::IN)
                    .is_ok()
                {
                    all.datagrams
                        .insert(number, Datagrams::new(port.socket, port.target));
                }
            } else if poller
                .add(&port.socket, Token::Listener(number), EventFlags::IN)
                .is_ok()
            {
                let listener = Listener {
                    socket: port.socket,
                    target: port.target,
                };
                all.listeners.insert(number, listener);
            }
        }
        all
    }

    /// Takes all descriptors that it may have.
    fn raise_limit(&mut self) {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let most = match rustix::process::setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                self.original_limit = Some(limit);
                limit.maximum
            }
            Err(_) => limit.current,
        };
        let room = most.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_PAIR;
        self.pairs_max = usize::try_from(room.clamp(1, PAIRS_MAX)).unwrap_or(1);
    }

    /// Does something that a child inherits the limits of.
    pub(super) fn with_original_limit<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(original) = &self.original_limit else {
            return work();
        };
        let raised = rustix::process::getrlimit(Resource::Nofile);
        let _ = rustix::process::setrlimit(Resource::Nofile, *original);
        let result = work();
        let _ = rustix::process::setrlimit(Resource::Nofile, raised);
        result
    }

    pub(super) fn serve(&mut self, poller: &Poller, token: Token, buffer: &mut [u8]) {
        match token {
            Token::Listener(number) => self.accept(poller, number),
            Token::Pair(number, _) => self.carry(poller, number),
            Token::Datagrams(number) => {
                if let Some(datagrams) = self.datagrams.get_mut(&number) {
                    datagrams.carry_forth(poller, &mut self.flow_numbers, buffer);
                }
            }
            Token::Flow(number) => {
                // A flow belongs to one port; few ports have datagrams.
                let holder = self
                    .datagrams
                    .values_mut()
                    .find(|datagrams| datagrams.has(number));
                if let Some(datagrams) = holder {
                    datagrams.carry_back(number, buffer);
                }
            }
            _ => {}
        }
    }

    fn accept(&mut self, poller: &Poller, number: u32) {
        if self.pairs.len() >= self.pairs_max {
            self.pause(poller, None);
            return;
        }
        let Some(listener) = self.listeners.get(&number) else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&listener.socket, flags) {
            Ok(socket) => socket,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.pause(poller, Some(clock::monotonic_ms() + PAUSE_MS));
                return;
            }
            Err(_) => return,
        };
        let pair = self.pair_numbers.next();
        // A target that refuses at once ends the client's connection, as a closed port would.
        if let Ok(carried) = Pair::new(poller, pair, socket, listener.target) {
            self.pairs.insert(pair, carried);
        }
    }

    fn pause(&mut self, poller: &Poller, until_ms: Option<u64>) {
        for listener in self.listeners.values() {
            poller.remove(&listener.socket);
        }
        self.paused_until_ms = Some(until_ms.unwrap_or(u64::MAX));
    }

    fn go_on(&mut self, poller: &Poller) {
        self.paused_until_ms = None;
        for (number, listener) in &self.listeners {
            let _ = poller.add(&listener.socket, Token::Listener(*number), EventFlags::IN);
        }
    }

    fn carry(&mut self, poller: &Poller, number: u32) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        match pair.carry() {
            super::pair::Progress::Waiting => {}
            super::pair::Progress::More => self.unfinished.push(number),
            super::pair::Progress::Done => {
                self.pairs.remove(&number);
                if self.paused_until_ms.is_some() {
                    self.go_on(poller);
                }
            }
        }
    }

    /// Gives unfinished connections another turn, ends what has been idle too long.
    pub(super) fn resume(&mut self, poller: &Poller, now_ms: u64) {
        for number in std::mem::take(&mut self.unfinished) {
            self.carry(poller, number);
        }
        if self.paused_until_ms.is_some_and(|until| until <= now_ms) {
            self.go_on(poller);
        }
        for datagrams in self.datagrams.values_mut() {
            datagrams.expire(now_ms);
        }
    }

    /// When something has to be done although no descriptor is ready.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        if !self.unfinished.is_empty() {
            return Some(0);
        }
        let paused = self.paused_until_ms.filter(|until| *until != u64::MAX);
        self.datagrams
            .values()
            .filter_map(Datagrams::deadline_ms)
            .chain(paused)
            .min()
    }

    /// The container has ended: ports are free again, connections end.
    pub(super) fn close(&mut self, poller: &Poller) {
        for listener in self.listeners.values() {
            poller.remove(&listener.socket);
        }
        for datagrams in self.datagrams.values() {
            poller.remove(datagrams.socket());
        }
        self.listeners.clear();
        self.datagrams.clear();
        self.pairs.clear();
        self.unfinished.clear();
        self.paused_until_ms = None;
    }
}

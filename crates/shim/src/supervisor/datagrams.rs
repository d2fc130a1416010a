//! Carried datagrams: each sender gets a socket of its own towards the target, so that answers find back; a bounded
//! table that forgets whoever is silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::clock;
use super::poller::{EventFlags, Numbers, Poller, Token};

/// Senders at a time; the one silent for longest makes room.
const FLOWS_MAX: usize = 1024;
/// As long as Docker's proxy remembers a sender.
const SILENCE_MS: u64 = 90_000;
/// Datagrams of one socket before others get their turn.
const TURN_DATAGRAMS: usize = 64;

/// One port.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: OwnedFd,
    target: SocketAddr,
    flows: BTreeMap<u32, Flow>,
    senders: BTreeMap<SocketAddr, u32>,
}

#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    sender: SocketAddr,
    last_ms: u64,
}

impl Datagrams {
    pub(super) fn new(socket: OwnedFd, target: SocketAddr) -> Datagrams {
        Datagrams {
            socket,
            target,
            flows: BTreeMap::new(),
            senders: BTreeMap::new(),
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn has(&self, flow: u32) -> bool {
        self.flows.contains_key(&flow)
    }

    /// Carries what senders have sent. What cannot go on is dropped, as on any network.
    pub(super) fn carry_forth(
        &mut self,
        poller: &Poller,
        numbers: &mut Numbers,
        buffer: &mut [u8],
    ) {
        let now = clock::monotonic_ms();
        for _ in 0..TURN_DATAGRAMS {
            let (length, sender) =
                match rustix::net::recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                    Ok((length, _, Some(sender))) => (length, sender),
                    Err(Errno::AGAIN) => return,
                    // An earlier answer was refused by its receiver.
                    _ => continue,
                };
            let Ok(sender) = SocketAddr::try_from(sender) else {
                continue;
            };
            let Some(flow) = self.flow(poller, numbers, sender, now) else {
                continue;
            };
            flow.last_ms = now;
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(&flow.socket, &buffer[..length], flags);
        }
    }

    fn flow(
        &mut self,
        poller: &Poller,
        numbers: &mut Numbers,
        sender: SocketAddr,
        now: u64,
    ) -> Option<&mut Flow> {
        if let Some(number) = self.senders.get(&sender) {
            return self.flows.get_mut(number);
        }
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self
                .flows
                .iter()
                .min_by_key(|(_, flow)| flow.last_ms)
                .map(|(number, _)| *number)?;
            self.forget(oldest);
        }
        let family = if self.target.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).ok()?;
        rustix::net::connect(&socket, &self.target).ok()?;
        let number = numbers.next();
        poller
            .add(&socket, Token::Flow(number), EventFlags::IN)
            .ok()?;
        self.senders.insert(sender, number);
        Some(self.flows.entry(number).or_insert(Flow {
            socket,
            sender,
            last_ms: now,
        }))
    }

    fn forget(&mut self, number: u32) {
        if let Some(flow) = self.flows.remove(&number) {
            self.senders.remove(&flow.sender);
        }
    }

    /// Carries answers back.
    pub(super) fn carry_back(&mut self, number: u32, buffer: &mut [u8]) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        flow.last_ms = clock::monotonic_ms();
        for _ in 0..TURN_DATAGRAMS {
            let length = match rustix::net::recv(&flow.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                // Nobody listens at the target; somebody may do so later.
                Err(Errno::CONNREFUSED) => continue,
                Err(_) => return,
            };
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::sendto(&self.socket, &buffer[..length], flags, &flow.sender);
        }
    }

    /// Forgets senders that have been silent, in both directions.
    pub(super) fn expire(&mut self, now_ms: u64) {
        if self.deadline_ms().is_none_or(|deadline| deadline > now_ms) {
            return;
        }
        let silent: Vec<u32> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.last_ms + SILENCE_MS <= now_ms)
            .map(|(number, _)| *number)
            .collect();
        for number in silent {
            self.forget(number);
        }
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.flows
            .values()
            .map(|flow| flow.last_ms + SILENCE_MS)
            .min()
    }
}

//! The two loops: datagrams, and connections. Questions that are ours are answered in the loop; one that goes
//! upstream has a task of its own, of which there are never more than a fixed number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{self, Alias, DATAGRAM_BYTES_MAX, Decision, Forward, Transport};
use crate::cache::Cache;
use crate::{Zones, forward};

/// Questions that may be upstream at once.
const FORWARDED_MAX: usize = 1024;
/// Connections that may be open at once, each by a client of the same few containers.
const CONNECTIONS_MAX: usize = 128;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long to leave clients waiting when the kernel gives nothing (no descriptors or memory are left).
const BREATH: Duration = Duration::from_millis(100);

/// Aliases followed for one question.
const ALIASES_MAX: usize = 8;

/// What both loops need.
pub(crate) struct Resolver {
    zones: Arc<dyn Zones>,
    turn: AtomicUsize,
    forwarded: Arc<Semaphore>,
    /// None: every question is asked again, as containers on a network expect.
    cache: Option<Cache>,
}

impl Resolver {
    pub(crate) fn new(zones: Arc<dyn Zones>, remembers: bool) -> Resolver {
        Resolver {
            zones,
            turn: AtomicUsize::new(0),
            forwarded: Arc::new(Semaphore::new(FORWARDED_MAX)),
            cache: remembers.then(Cache::default),
        }
    }

    fn decide(&self, question: &[u8], transport: Transport) -> Decision {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let decision = answer::decide(question, self.zones.as_ref(), turn, transport);
        match decision {
            Decision::Forward(forward) => self
                .remembered(question, &forward)
                .map_or(Decision::Forward(forward), Decision::Answer),
            decision => decision,
        }
    }

    fn remembered(&self, question: &[u8], forward: &Forward) -> Option<Vec<u8>> {
        let reply = self.cache.as_ref()?.get(&forward.key, question)?;
        match answer::encode(reply, forward.limit) {
            Decision::Answer(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Does what needs to wait for others.
    async fn finish(
        &self,
        question: &[u8],
        decision: Decision,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        match decision {
            Decision::Ignore => None,
            Decision::Answer(reply) => Some(reply),
            Decision::Forward(to) => Some(self.forward(question, &to, transport).await),
            Decision::Follow(alias) => self.follow(alias).await,
        }
    }

    async fn forward(&self, question: &[u8], to: &Forward, transport: Transport) -> Vec<u8> {
        let upstreams = self.zones.upstreams(&to.name);
        if upstreams.is_empty() {
            // Nobody else knows more than we do.
            return answer::failure(question, ResponseCode::NXDomain);
        }
        match forward::ask(question, &upstreams, transport).await {
            Some(reply) => {
                if let Some(cache) = &self.cache {
                    cache.put(&to.key, &reply);
                }
                forward::fit(question, reply, to.limit)
            }
            None => answer::failure(question, ResponseCode::ServFail),
        }
    }

    /// The answer with what its alias stands for, and that alias, and so on.
    async fn follow(&self, alias: Box<Alias>) -> Option<Vec<u8>> {
        let mut aliases = vec![alias];
        let mut answer = None;
        while let Some(question) = aliases.last().and_then(|alias| alias.question()) {
            match self.decide(&question, Transport::Stream) {
                Decision::Follow(next) if aliases.len() < ALIASES_MAX => {
                    aliases.push(next);
                    continue;
                }
                Decision::Answer(reply) => answer = Some(reply),
                Decision::Forward(to) => {
                    answer = Some(self.forward(&question, &to, Transport::Datagram).await);
                }
                Decision::Follow(_) | Decision::Ignore => {}
            }
            break;
        }
        while let Some(alias) = aliases.pop() {
            answer = alias.complete(answer.as_deref());
        }
        answer
    }
}

/// Serves datagrams. What is under way ends with the loop.
pub(crate) async fn datagrams(socket: UdpSocket, resolver: Arc<Resolver>) {
    let socket = Arc::new(socket);
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        while under_way.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receive a DNS question");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let question = &buffer[..length];
        match resolver.decide(question, Transport::Datagram) {
            Decision::Ignore => {}
            Decision::Answer(reply) => send(&socket, &reply, client).await,
            decision => {
                let Ok(permit) = Arc::clone(&resolver.forwarded).try_acquire_owned() else {
                    send(
                        &socket,
                        &answer::failure(question, ResponseCode::ServFail),
                        client,
                    )
                    .await;
                    continue;
                };
                let (socket, resolver, question) = (
                    Arc::clone(&socket),
                    Arc::clone(&resolver),
                    question.to_vec(),
                );
                under_way.spawn(async move {
                    let finished = resolver.finish(&question, decision, Transport::Datagram);
                    if let Some(reply) = finished.await {
                        send(&socket, &reply, client).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    // A client that is gone asks again or doesn't.
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%client, %error, "DNS answer");
    }
}

/// Serves connections. They end with the loop.
pub(crate) async fn connections(listener: TcpListener, resolver: Arc<Resolver>) {
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept a DNS connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // One too many is closed at once.
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            continue;
        };
        let resolver = Arc::clone(&resolver);
        under_way.spawn(async move {
            connection(stream, &resolver).await;
            drop(permit);
        });
    }
}

async fn connection(mut stream: TcpStream, resolver: &Resolver) {
    while let Ok(Ok(question)) = timeout(IDLE, forward::read_message(&mut stream)).await {
        let reply = match resolver.decide(&question, Transport::Stream) {
            Decision::Ignore => return,
            Decision::Answer(reply) => reply,
            decision => {
                let Ok(_permit) = resolver.forwarded.acquire().await else {
                    return;
                };
                let finished = resolver.finish(&question, decision, Transport::Stream);
                let Some(reply) = finished.await else {
                    return;
                };
                reply
            }
        };
        if !matches!(
            timeout(IDLE, forward::write_message(&mut stream, &reply)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
}

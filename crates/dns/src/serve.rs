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

use crate::answer::{self, DATAGRAM_BYTES_MAX, Decision, Transport};
use crate::{Records, forward};

/// Questions that may be upstream at once.
const FORWARDED_MAX: usize = 1024;
/// Connections that may be open at once, each by a client of the same few containers.
const CONNECTIONS_MAX: usize = 128;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long to leave clients waiting when the kernel gives nothing (no descriptors or memory are left).
const BREATH: Duration = Duration::from_millis(100);

/// What both loops need.
pub(crate) struct Resolver {
    records: Arc<dyn Records>,
    upstreams: Vec<SocketAddr>,
    turn: AtomicUsize,
    forwarded: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new(records: Arc<dyn Records>, upstreams: Vec<SocketAddr>) -> Resolver {
        let forwarded = Arc::new(Semaphore::new(FORWARDED_MAX));
        Resolver {
            records,
            upstreams,
            turn: AtomicUsize::new(0),
            forwarded,
        }
    }

    fn decide(&self, question: &[u8], transport: Transport) -> Decision {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer::decide(question, self.records.as_ref(), turn, transport)
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
            Decision::Forward { limit } => {
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
                    let reply =
                        forward::ask(&question, &resolver.upstreams, Transport::Datagram, limit)
                            .await;
                    send(&socket, &reply, client).await;
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
            Decision::Forward { limit } => {
                let Ok(_permit) = resolver.forwarded.acquire().await else {
                    return;
                };
                forward::ask(&question, &resolver.upstreams, Transport::Stream, limit).await
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

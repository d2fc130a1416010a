//! A server and its clients over real sockets, with upstream servers of several tempers.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use wharf_dns::{Records, Server};

struct Book;

impl Records for Book {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        (name == "db").then(|| vec![IpAddr::from([172, 18, 0, 2])])
    }
    fn reverse(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn start(upstreams: Vec<SocketAddr>) -> (Server, SocketAddr) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    (
        Server::start(udp, tcp, Arc::new(Book), upstreams).unwrap(),
        address,
    )
}

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(
        Name::from_str_relaxed(name).unwrap(),
        RecordType::A,
    ));
    message
}

/// Asks on a thread outside the runtime.
async fn ask(server: SocketAddr, name: &str) -> Message {
    let message = question(name);
    let reply = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(8)))
            .unwrap();
        socket.send_to(&message.to_vec().unwrap(), server).unwrap();
        let mut buffer = [0; 4096];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        let reply = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(reply.metadata.id, message.metadata.id);
        reply
    });
    reply.await.unwrap()
}

async fn ask_by_stream(server: SocketAddr, name: &str) -> Message {
    let question = question(name).to_vec().unwrap();
    let ask = move || {
        let mut stream = TcpStream::connect(server).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .unwrap();
        stream
            .write_all(&(question.len() as u16).to_be_bytes())
            .unwrap();
        stream.write_all(&question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        Message::from_vec(&reply).unwrap()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn reply_to(question: &[u8], addresses: u32, code: ResponseCode) -> Message {
    let mut reply = Message::from_vec(question).unwrap();
    let name = reply.queries[0].name().clone();
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.response_code = code;
    for n in 0..addresses {
        reply.add_answer(Record::from_rdata(
            name.clone(),
            60,
            RData::A(A((0x0a00_0000 + n).into())),
        ));
    }
    reply
}

/// An upstream server; `temper` makes datagrams to be sent back of each it gets. Streams get the last of them.
fn upstream(
    temper: impl Fn(&[u8]) -> Vec<Message> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (temper, counter) = (Arc::new(temper), Arc::clone(&asked));
    let by_stream = Arc::clone(&temper);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::Relaxed);
            for reply in temper(&buffer[..length]) {
                udp.send_to(&reply.to_vec().unwrap(), client).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            if let Some(reply) = by_stream(&question).last() {
                let reply = reply.to_vec().unwrap();
                stream
                    .write_all(&(reply.len() as u16).to_be_bytes())
                    .unwrap();
                stream.write_all(&reply).unwrap();
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn ours_is_answered_and_the_rest_comes_from_upstream() {
    let (good, asked) = upstream(|q| vec![reply_to(q, 1, ResponseCode::NoError)]);
    let (_server, address) = start(vec![good]);
    assert_eq!(
        ask(address, "db").await.answers[0].data.to_string(),
        "172.18.0.2"
    );
    assert_eq!(
        ask_by_stream(address, "db").await.answers[0]
            .data
            .to_string(),
        "172.18.0.2"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(
        ask(address, "example.org").await.answers[0]
            .data
            .to_string(),
        "10.0.0.0"
    );
    assert_eq!(ask_by_stream(address, "example.org").await.answers.len(), 1);
}

#[tokio::test]
async fn the_next_is_asked_where_one_is_silent_refuses_or_is_not_there() {
    let (silent, was_asked) = upstream(|_| vec![]);
    let (refusing, _) = upstream(|q| vec![reply_to(q, 0, ResponseCode::Refused)]);
    let (good, _) = upstream(|q| vec![reply_to(q, 1, ResponseCode::NoError)]);
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (_server, address) = start(vec![refusing, nobody, good]);
    let started = Instant::now();
    assert_eq!(ask(address, "example.org").await.answers.len(), 1);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "neither is waited for"
    );
    assert_eq!(ask_by_stream(address, "example.org").await.answers.len(), 1);
    let (_server, address) = start(vec![silent, good]);
    assert_eq!(ask(address, "example.org").await.answers.len(), 1);
    assert_eq!(was_asked.load(Ordering::Relaxed), 1);
    let (_server, address) = start(vec![refusing, nobody]);
    assert_eq!(
        ask(address, "example.org").await.metadata.response_code,
        ResponseCode::Refused
    );
    let (_server, address) = start(vec![nobody]);
    assert_eq!(
        ask(address, "example.org").await.metadata.response_code,
        ResponseCode::ServFail
    );
    let (_server, address) = start(vec![]);
    assert_eq!(
        ask(address, "example.org").await.metadata.response_code,
        ResponseCode::NXDomain
    );
}

#[tokio::test]
async fn a_denial_is_final() {
    let (denying, _) = upstream(|q| vec![reply_to(q, 0, ResponseCode::NXDomain)]);
    let (other, asked) = upstream(|q| vec![reply_to(q, 1, ResponseCode::NoError)]);
    let (_server, address) = start(vec![denying, other]);
    assert_eq!(
        ask(address, "nobody").await.metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn forged_answers_are_not_believed() {
    let (forger, _) = upstream(|q| {
        let mut wrong_id = reply_to(q, 2, ResponseCode::NoError);
        wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
        let mut wrong_name = question("elsewhere.org");
        wrong_name.metadata.id = reply_to(q, 0, ResponseCode::NoError).metadata.id;
        wrong_name.metadata.message_type = MessageType::Response;
        let no_answer = Message::from_vec(q).unwrap();
        vec![
            wrong_id,
            wrong_name,
            no_answer,
            reply_to(q, 1, ResponseCode::NoError),
        ]
    });
    let (_server, address) = start(vec![forger]);
    assert_eq!(ask(address, "example.org").await.answers.len(), 1);
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_is_asked_for_by_stream() {
    let (verbose, _) = upstream(|q| vec![reply_to(q, 150, ResponseCode::NoError)]);
    let (_server, address) = start(vec![verbose]);
    let short = ask(address, "example.org").await;
    assert!(short.metadata.truncation && short.answers.is_empty());
    assert_eq!(
        ask_by_stream(address, "example.org").await.answers.len(),
        150
    );
}

#[tokio::test]
async fn ids_and_ports_change_from_question_to_question() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ids = Arc::clone(&seen);
    let (good, _) = upstream(move |q| {
        ids.lock().unwrap().push([q[0], q[1]]);
        vec![reply_to(q, 1, ResponseCode::NoError)]
    });
    let (_server, address) = start(vec![good]);
    for _ in 0..8 {
        ask(address, "example.org").await;
    }
    let mut ids = seen.lock().unwrap().clone();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() >= 7, "{ids:?}");
}

#[tokio::test]
async fn garbage_and_unfinished_business_hold_nobody_up() {
    let (_server, address) = start(vec![]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..100 {
        socket.send_to(&vec![0xc0; length], address).unwrap();
    }
    let mut unfinished = TcpStream::connect(address).unwrap();
    unfinished.write_all(&[255, 255, 1]).unwrap();
    assert_eq!(ask(address, "db").await.answers.len(), 1);
    assert_eq!(ask_by_stream(address, "db").await.answers.len(), 1);
}

#[tokio::test]
async fn a_dropped_server_serves_no_more() {
    let (server, address) = start(vec![]);
    ask(address, "db").await;
    drop(server);
    let gone = || UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
    let patience = Instant::now() + Duration::from_secs(5);
    while !gone() {
        assert!(Instant::now() < patience, "the sockets are still held");
        tokio::task::yield_now().await;
    }
}

//! Asking upstream: over the transport that the client used, one server after the other, with an ID and a
//! source port of our own for every attempt.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answer::{self, DATAGRAM_BYTES_MAX, HEADER_BYTES, Transport};

/// How long one server may take. Resolvers in common use give up after 5 seconds altogether.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Servers asked for one question; resolv.conf(5) has the same limit.
const ATTEMPTS_MAX: usize = 3;

/// The answer of the first server that has one, with the ID of another question. A server's failure is passed on
/// only if no other does better; `None` where all are silent.
pub(crate) async fn ask(
    question: &[u8],
    upstreams: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut last = None;
    for upstream in upstreams.iter().take(ATTEMPTS_MAX) {
        let attempt = async {
            match transport {
                Transport::Datagram => by_datagram_or_stream(question, *upstream).await,
                Transport::Stream => by_stream(question, *upstream).await,
            }
        };
        match timeout(ATTEMPT, attempt).await {
            Ok(Ok(reply)) if is_failure(&reply) => last = Some(reply),
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream DNS server"),
            Err(_) => tracing::debug!(%upstream, "upstream DNS server is silent"),
        }
    }
    last
}

/// What is cut in a datagram is asked for again by a stream; if that fails, the client may try itself.
async fn by_datagram_or_stream(question: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    const TRUNCATED: u8 = 0x02;
    let reply = by_datagram(question, upstream).await?;
    if reply.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
        && let Ok(whole) = by_stream(question, upstream).await
    {
        return Ok(whole);
    }
    Ok(reply)
}

/// SERVFAIL, NOTIMP or REFUSED: another server may do better.
fn is_failure(reply: &[u8]) -> bool {
    reply
        .get(3)
        .is_some_and(|flags| matches!(flags & 0x0f, 2 | 4 | 5))
}

/// The answer for this question's client: with its ID, and cut where it is too long.
pub(crate) fn fit(question: &[u8], mut reply: Vec<u8>, limit: usize) -> Vec<u8> {
    if reply.len() > limit {
        return answer::truncated(question);
    }
    reply[..2].copy_from_slice(&question[..2]);
    reply
}

/// The question with an ID that nobody can guess.
fn disguised(question: &[u8]) -> io::Result<Vec<u8>> {
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let mut bytes = question.to_vec();
    bytes[..2].copy_from_slice(&id);
    Ok(bytes)
}

/// Whether this is the answer to what was asked: ID, direction and question must be right. The case of names
/// counts for nothing.
fn answers(reply: &[u8], asked: &[u8]) -> bool {
    let Some(end) = answer::question_end(asked) else {
        return false;
    };
    reply.len() >= HEADER_BYTES
        && reply[..2] == asked[..2]
        && reply[2] & 0x80 != 0
        && answer::question_end(reply) == Some(end)
        && reply[HEADER_BYTES..end].eq_ignore_ascii_case(&asked[HEADER_BYTES..end])
}

async fn by_datagram(question: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = if upstream.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A new socket each time: the kernel draws a random port. Connected, it takes in only what comes from the
    // server, and hears of it when nobody listens there.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(upstream).await?;
    let asked = disguised(question)?;
    socket.send(&asked).await?;
    // One byte more than anybody gets: what fills it is too long.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], &asked) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_stream(question: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let asked = disguised(question)?;
    write_message(&mut stream, &asked).await?;
    let reply = read_message(&mut stream).await?;
    if answers(&reply, &asked) {
        Ok(reply)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A message on a stream: two bytes of length before it (RFC 1035, section 4.2.2).
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

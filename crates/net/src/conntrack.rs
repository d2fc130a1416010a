//! Forgetting connections whose translation has changed.
//!
//! TCP needs none of this: a new connection is looked at anew. A UDP "connection" is whatever goes on between
//! the same two ports, so a client that keeps sending would be led to the old place for ever.

use std::net::IpAddr;

use crate::netlink::{Attributes, Batch, DUMP, Failure, Socket, Writer};

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PORTS: u16 = 2;
/// `CTA_PROTO_NUM`
const PROTOCOL: u16 = 1;
/// `CTA_FILTER`
const FILTER: u16 = 25;
/// `CTA_FILTER_ORIG_FLAGS`
const FILTER_ORIGINAL: u16 = 1;
/// `CTA_FILTER_FLAG(CTA_PROTO_NUM)`
const FILTER_BY_PROTOCOL: u32 = 1 << 3;
const INET: u8 = 2;
const INET6: u8 = 10;
const UDP: u8 = 17;

/// Which UDP connections to forget.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stale {
    /// Those that were sent to this port, wherever they went.
    SentTo(u16),
    /// Those that this address and port answer.
    AnsweredBy(IpAddr, u16),
}

struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = Attributes::find(bytes, TUPLE_ADDRESSES)?;
    let address = |v4, v6| {
        let v4 = Attributes::find(addresses, v4)
            .and_then(|b| <[u8; 4]>::try_from(b).ok())
            .map(IpAddr::from);
        let v6 = Attributes::find(addresses, v6)
            .and_then(|b| <[u8; 16]>::try_from(b).ok())
            .map(IpAddr::from);
        v4.or(v6)
    };
    let ports = Attributes::find(bytes, TUPLE_PORTS)?;
    let port = |kind| {
        Some(u16::from_be_bytes(
            Attributes::find(ports, kind)?.try_into().ok()?,
        ))
    };
    Some(Tuple {
        source: address(1, 3),
        destination: address(2, 4),
        protocol: *Attributes::find(ports, PROTOCOL)?.first()?,
        source_port: port(2).unwrap_or(0),
        destination_port: port(3).unwrap_or(0),
    })
}

/// A UDP connection as it was tracked.
pub(crate) struct Connection {
    /// Where its first packet was sent, before any translation.
    pub(crate) sent_to: (Option<IpAddr>, u16),
    /// Who is expected to answer.
    pub(crate) answered_by: (Option<IpAddr>, u16),
}

fn is_any(connection: &Connection, stale: &[Stale]) -> bool {
    stale.iter().any(|stale| match *stale {
        Stale::SentTo(port) => connection.sent_to.1 == port,
        Stale::AnsweredBy(address, port) => connection.answered_by == (Some(address), port),
    })
}

/// UDP connections of one family that are stale, each as its original direction's attributes. With `family`
/// the kernel picks out UDP by itself (from Linux 5.8 on); without, it lists everything.
fn find(
    socket: &mut Socket,
    family: Option<u8>,
    is_stale: &impl Fn(&Connection) -> bool,
) -> Result<Vec<(u8, Vec<u8>)>, Failure> {
    let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
    let request = |w: &mut Writer<'_>| {
        w.raw(&[family.unwrap_or(0), 0, 0, 0]);
        if family.is_some() {
            w.nest(TUPLE_ORIGINAL, |w| {
                w.nest(TUPLE_PORTS, |w| w.u8(PROTOCOL, UDP))
            });
            w.nest(FILTER, |w| w.u32(FILTER_ORIGINAL, FILTER_BY_PROTOCOL));
        }
    };
    socket.query(
        GET,
        DUMP,
        "list tracked connections",
        request,
        |_, payload| {
            let (Some(family), Some(attributes)) = (payload.first(), payload.get(4..)) else {
                return;
            };
            let original = Attributes::find(attributes, TUPLE_ORIGINAL);
            let reply = Attributes::find(attributes, TUPLE_REPLY);
            let (Some(original), Some(reply)) = (original, reply) else {
                return;
            };
            if let (Some(o), Some(r)) = (tuple(original), tuple(reply))
                && o.protocol == UDP
                && is_stale(&Connection {
                    sent_to: (o.destination, o.destination_port),
                    answered_by: (r.source, r.source_port),
                })
            {
                found.push((*family, original.to_vec()));
            }
        },
    )?;
    Ok(found)
}

/// Forgets them. A machine without connection tracking over netlink keeps them until they fade (30 s to 2 min
/// without traffic); that is no reason to refuse a port, so it is only noted.
pub(crate) fn forget(socket: &mut Socket, stale: &[Stale]) {
    if !stale.is_empty() {
        forget_where(socket, |connection| is_any(connection, stale));
    }
}

/// Forgets the UDP connections of which this is true.
pub(crate) fn forget_where(socket: &mut Socket, is_stale: impl Fn(&Connection) -> bool) {
    let filtered = find(socket, Some(INET), &is_stale).and_then(|mut v4| {
        v4.extend(find(socket, Some(INET6), &is_stale)?);
        Ok(v4)
    });
    let found = match filtered.or_else(|_| find(socket, None, &is_stale)) {
        Ok(found) => found,
        Err(failure) => return tracing::debug!(errno = failure.errno, "{}", failure.operation),
    };
    let mut batch = Batch::new();
    for (family, original) in &found {
        batch.push(DELETE, 0, "forget a tracked connection", |w| {
            w.raw(&[*family, 0, 0, 0]);
            w.nest(TUPLE_ORIGINAL, |w| w.raw(original));
        });
    }
    // One that has gone by itself in the meantime is reported as missing: all the same.
    if let Err(failure) = socket.send(&batch) {
        tracing::debug!(errno = failure.errno, "{}", failure.operation);
    }
}

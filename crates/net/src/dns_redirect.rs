//! The address 127.0.0.11 inside a namespace: sockets at a free port of it, and rules that lead its port 53
//! there, so that the port itself stays free for whatever runs in the namespace.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use crate::netlink::Socket;
use crate::nftables::{BaseChain, Field, Hook, Rule, Transaction, make_table};
use crate::{Error, Result, namespace};

/// Where containers find their name server.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS: u16 = 53;
const TABLE: &str = "wharf-dns";
const TCP: u8 = 6;
const UDP: u8 = 17;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

/// Makes the sockets and the rules; rules of an earlier call are replaced.
pub(crate) fn sockets(
    home: BorrowedFd<'_>,
    netns: BorrowedFd<'_>,
) -> Result<(UdpSocket, TcpListener)> {
    let (udp, tcp, mut netfilter) = namespace::within(home, netns, || {
        let bind = || -> io::Result<(UdpSocket, TcpListener)> {
            Ok((
                UdpSocket::bind((ADDRESS, 0))?,
                TcpListener::bind((ADDRESS, 0))?,
            ))
        };
        let (udp, tcp) = bind().map_err(|source| Error::Kernel {
            operation: format!("open sockets for DNS at {ADDRESS}"),
            source,
        })?;
        Ok((udp, tcp, Socket::netfilter()?))
    })?;
    let port = |address: io::Result<SocketAddr>| {
        address
            .map(|address| address.port())
            .map_err(|source| Error::Kernel {
                operation: "read the port of a DNS socket".into(),
                source,
            })
    };
    let ports = [
        (UDP, port(udp.local_addr())?),
        (TCP, port(tcp.local_addr())?),
    ];
    make_table(
        &mut netfilter,
        || Transaction::ipv4(TABLE),
        |transaction| redirect(transaction, &ports),
    )?;
    Ok((udp, tcp))
}

fn redirect(transaction: &mut Transaction<'_>, ports: &[(u8, u16)]) {
    let chains = [
        ("output", Hook::Output, DSTNAT),
        ("postrouting", Hook::Postrouting, SRCNAT),
    ];
    for (name, hook, priority) in chains {
        transaction.add_chain(&BaseChain {
            name,
            kind: "nat",
            hook,
            priority,
        });
    }
    for (protocol, port) in ports {
        let asked = Rule::new()
            .with(Field::Destination4, &ADDRESS.octets())
            .with(Field::Protocol, &[*protocol])
            .with(Field::DestinationPort, &DNS.to_be_bytes())
            .translate4_to(false, ADDRESS.octets(), *port);
        transaction.add_rule("output", &asked);
        // Answers are translated back with their question's connection. This is for those that come after
        // connection tracking has forgotten it: they must not show another port.
        let answered = Rule::new()
            .with(Field::Source4, &ADDRESS.octets())
            .with(Field::Protocol, &[*protocol])
            .with(Field::SourcePort, &port.to_be_bytes())
            .translate4_to(true, ADDRESS.octets(), DNS);
        transaction.add_rule("postrouting", &answered);
    }
}

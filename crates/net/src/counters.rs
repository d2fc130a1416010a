//! Traffic of the interfaces in a namespace.

use std::os::fd::BorrowedFd;

use crate::netlink::Socket;
use crate::{Result, namespace, route};

/// Traffic of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LinkCounters {
    pub interface: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

pub(crate) fn read(home: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> Result<Vec<LinkCounters>> {
    let mut inside = namespace::within(home, netns, Socket::route)?;
    let links = route::links(&mut inside)?;
    Ok(links
        .into_iter()
        .filter(|link| link.index != route::LOOPBACK)
        .map(counters)
        .collect())
}

fn counters(link: route::Link) -> LinkCounters {
    let [
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
    ] = link.statistics;
    LinkCounters {
        interface: link.name,
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    }
}

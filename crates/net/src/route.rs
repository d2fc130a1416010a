//! The requests about links, addresses and routes (rtnetlink) that this crate makes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::netlink::{
    Attributes, Batch, CREATE, DUMP, EXCLUSIVE, Failure, REPLACE, Socket, Writer, text,
};
use crate::subnet::Subnet;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
/// `IF_OPER_UP`
const OPERATIONAL: u8 = 6;

/// The work queue takes its time, at most a second, where many links change at once.
const OPERATIONAL_WITHIN: Duration = Duration::from_millis(1200);

/// Index of `lo` in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn put_address(w: &mut Writer<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => w.bytes(kind, &v4.octets()),
        IpAddr::V6(v6) => w.bytes(kind, &v6.octets()),
    }
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A pair of links to be made: one end on a bridge here, the other in a namespace.
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a str,
    pub(crate) bridge_index: u32,
    pub(crate) mtu: u32,
    pub(crate) peer: &'a str,
    pub(crate) peer_mac: [u8; 6],
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) alias: &'a str,
    /// May not send to other isolated ports of the bridge.
    pub(crate) isolated: bool,
    /// Whether the machine has IPv6 at all.
    pub(crate) has_ipv6: bool,
}

/// Makes the pair, with its far end in its namespace from the first moment, and brings the near end up. The
/// near end gets no IPv6 address of its own: it is a port of a bridge.
pub(crate) fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    let what = format!(
        "make the link {} and its peer {} in the namespace",
        veth.host, veth.peer
    );
    batch.push(RTM_NEWLINK, CREATE | EXCLUSIVE, what, |w| {
        w.raw(&link_header(0, 0, 0));
        w.text(IFLA_IFNAME, veth.host);
        w.u32(IFLA_MTU, veth.mtu);
        w.u32(IFLA_MASTER, veth.bridge_index);
        w.nest(IFLA_LINKINFO, |w| {
            w.text(IFLA_INFO_KIND, "veth");
            w.nest(IFLA_INFO_DATA, |w| {
                w.nest(VETH_INFO_PEER, |w| {
                    w.raw(&link_header(0, 0, 0));
                    w.text(IFLA_IFNAME, veth.peer);
                    w.u32(IFLA_MTU, veth.mtu);
                    w.bytes(IFLA_ADDRESS, &veth.peer_mac);
                    w.u32(IFLA_NET_NS_FD, veth.netns.as_raw_fd() as u32);
                });
            });
        });
    });
    let what = format!("set up the link {} as a port of its bridge", veth.host);
    batch.push(RTM_NEWLINK, 0, what, |w| {
        w.raw(&link_header(0, IFF_UP, IFF_UP));
        w.text(IFLA_IFNAME, veth.host);
        w.text(IFLA_IFALIAS, veth.alias);
        w.nest(IFLA_LINKINFO, |w| {
            w.text(IFLA_INFO_KIND, "veth");
            w.text(IFLA_INFO_SLAVE_KIND, "bridge");
            w.nest(IFLA_INFO_SLAVE_DATA, |w| {
                w.u8(IFLA_BRPORT_MODE, 1);
                w.u8(IFLA_BRPORT_ISOLATED, u8::from(veth.isolated));
            });
        });
        if veth.has_ipv6 {
            w.nest(IFLA_AF_SPEC, |w| {
                w.nest(u16::from(AF_INET6), |w| {
                    w.u8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE)
                });
            });
        }
    });
}

/// Makes a bridge with a hardware address that does not change with its ports.
pub(crate) fn add_bridge(batch: &mut Batch, name: &str, mac: [u8; 6], mtu: u32, alias: &str) {
    batch.push(
        RTM_NEWLINK,
        CREATE | EXCLUSIVE,
        format!("make the bridge {name}"),
        |w| {
            w.raw(&link_header(0, 0, 0));
            w.text(IFLA_IFNAME, name);
            w.bytes(IFLA_ADDRESS, &mac);
            w.nest(IFLA_LINKINFO, |w| w.text(IFLA_INFO_KIND, "bridge"));
        },
    );
    batch.push(
        RTM_NEWLINK,
        0,
        format!("mark the bridge {name} as ours, MTU {mtu}"),
        |w| {
            w.raw(&link_header(0, 0, 0));
            w.text(IFLA_IFNAME, name);
            w.u32(IFLA_MTU, mtu);
            w.text(IFLA_IFALIAS, alias);
        },
    );
}

pub(crate) fn set_mtu(batch: &mut Batch, index: u32, name: &str, mtu: u32) {
    batch.push(
        RTM_NEWLINK,
        0,
        format!("set the MTU of {name} to {mtu}"),
        |w| {
            w.raw(&link_header(index, 0, 0));
            w.u32(IFLA_MTU, mtu);
        },
    );
}

pub(crate) fn set_up(batch: &mut Batch, index: u32, name: &str) {
    batch.push(RTM_NEWLINK, 0, format!("bring up {name}"), |w| {
        w.raw(&link_header(index, IFF_UP, IFF_UP));
    });
}

/// Adds an address without duplicate detection; one that is there already stays.
pub(crate) fn add_address(batch: &mut Batch, index: u32, name: &str, address: IpAddr, prefix: u8) {
    let what = format!("give {name} the address {address}/{prefix}");
    batch.push(RTM_NEWADDR, CREATE | REPLACE, what, |w| {
        w.raw(&[family(address), prefix, 0, 0]);
        w.raw(&index.to_ne_bytes());
        put_address(w, IFA_LOCAL, address);
        put_address(w, IFA_ADDRESS, address);
        match address {
            IpAddr::V4(_) if prefix < 31 => {
                let subnet = Subnet::new(address, prefix);
                put_address(w, IFA_BROADCAST, subnet.at(subnet.last()));
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => w.u32(IFA_FLAGS, IFA_F_NODAD),
        }
    });
}

/// Adds an address that is this host's alone: no source of packets to elsewhere unless a program asks for it.
pub(crate) fn add_host_address(batch: &mut Batch, index: u32, name: &str, address: IpAddr) {
    const SCOPE_HOST: u8 = 254;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let what = format!("give {name} the address {address}/{prefix}");
    batch.push(RTM_NEWADDR, CREATE | REPLACE, what, |w| {
        w.raw(&[family(address), prefix, 0, SCOPE_HOST]);
        w.raw(&index.to_ne_bytes());
        put_address(w, IFA_LOCAL, address);
        put_address(w, IFA_ADDRESS, address);
        if address.is_ipv6() {
            w.u32(IFA_FLAGS, IFA_F_NODAD);
        }
    });
}

pub(crate) fn delete_address(
    batch: &mut Batch,
    index: u32,
    name: &str,
    address: IpAddr,
    prefix: u8,
) {
    let what = format!("take the address {address}/{prefix} from {name}");
    batch.push(RTM_DELADDR, 0, what, |w| {
        w.raw(&[family(address), prefix, 0, 0]);
        w.raw(&index.to_ne_bytes());
        put_address(w, IFA_LOCAL, address);
    });
}

pub(crate) fn add_default_route(batch: &mut Batch, index: u32, name: &str, gateway: IpAddr) {
    let what = format!("route everything from {name} to {gateway}");
    batch.push(RTM_NEWROUTE, CREATE | EXCLUSIVE, what, |w| {
        w.raw(&[
            family(gateway),
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            0,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ]);
        put_address(w, RTA_GATEWAY, gateway);
        w.u32(RTA_OIF, index);
    });
}

/// Removes a link; `false` when there is none of that name.
pub(crate) fn delete_link(socket: &mut Socket, name: &str) -> Result<bool, Failure> {
    let mut batch = Batch::new();
    batch.push(RTM_DELLINK, 0, format!("remove the link {name}"), |w| {
        w.raw(&link_header(0, 0, 0));
        w.text(IFLA_IFNAME, name);
    });
    match socket.send(&batch) {
        Ok(()) => Ok(true),
        Err(failure) if failure.is(rustix::io::Errno::NODEV) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// What the kernel says of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) mtu: u32,
    /// `IF_OPER_UP`: packets pass.
    pub(crate) operational: bool,
    /// `struct rtnl_link_stats64`, its first eight numbers.
    pub(crate) statistics: [u64; 8],
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: read_u32(payload.get(4..)?)?,
        ..Link::default()
    };
    for (kind, value) in Attributes(payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.alias = Some(text(value)),
            IFLA_MTU => link.mtu = read_u32(value)?,
            IFLA_OPERSTATE => link.operational = value == [OPERATIONAL],
            IFLA_LINKINFO => link.kind = Attributes::find(value, IFLA_INFO_KIND).map(text),
            IFLA_STATS64 => {
                for (slot, bytes) in link.statistics.iter_mut().zip(value.chunks_exact(8)) {
                    *slot = u64::from_ne_bytes(bytes.try_into().ok()?);
                }
            }
            _ => {}
        }
    }
    Some(link)
}

pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, Failure> {
    let mut links = Vec::new();
    let header = |w: &mut Writer<'_>| w.raw(&link_header(0, 0, 0));
    socket.query(RTM_GETLINK, DUMP, "list links", header, |_, payload| {
        links.extend(read_link(payload))
    })?;
    Ok(links)
}

/// The link of that name, `None` when there is none.
pub(crate) fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Failure> {
    let mut link = None;
    let request = |w: &mut Writer<'_>| {
        w.raw(&link_header(0, 0, 0));
        w.text(IFLA_IFNAME, name);
    };
    let asked = socket.query(
        RTM_GETLINK,
        0,
        "look up a link",
        request,
        |kind, payload| {
            if kind == RTM_NEWLINK {
                link = read_link(payload);
            }
        },
    );
    match asked {
        Err(failure) if !failure.is(rustix::io::Errno::NODEV) => Err(failure),
        _ => Ok(link),
    }
}

/// Addresses of one link with their prefix lengths.
pub(crate) fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<(IpAddr, u8)>, Failure> {
    let mut found = Vec::new();
    socket.query(
        RTM_GETADDR,
        DUMP,
        "list addresses",
        |w| w.raw(&[0; 8]),
        |_, payload| {
            let of_link = payload.get(4..).and_then(read_u32) == Some(index);
            let attributes = payload.get(8..).unwrap_or_default();
            let address = Attributes::find(attributes, IFA_LOCAL)
                .or_else(|| Attributes::find(attributes, IFA_ADDRESS));
            if let (true, Some(prefix), Some(address)) =
                (of_link, payload.get(1), address.and_then(read_address))
            {
                found.push((address, *prefix));
            }
        },
    )?;
    Ok(found)
}

/// Has a range lead to the loopback link.
pub(crate) fn add_loop_route(batch: &mut Batch, range: Subnet) {
    const SCOPE_LINK: u8 = 253;
    let scope = if range.address.is_ipv4() {
        SCOPE_LINK
    } else {
        0
    };
    let what = format!("route {range} to the loopback link");
    batch.push(RTM_NEWROUTE, CREATE | REPLACE, what, |w| {
        let family = family(range.address);
        w.raw(&[
            family,
            range.prefix,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            scope,
            RTN_UNICAST,
        ]);
        w.raw(&[0; 4]);
        put_address(w, RTA_DST, range.address);
        w.u32(RTA_OIF, LOOPBACK);
    });
}

/// A route of the main table.
pub(crate) struct Route {
    /// `None` for the default route.
    pub(crate) destination: Option<Subnet>,
    pub(crate) link: Option<u32>,
}

pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, Failure> {
    let mut found = Vec::new();
    socket.query(
        RTM_GETROUTE,
        DUMP,
        "list routes",
        |w| w.raw(&[0; 12]),
        |_, payload| {
            let (Some(header), Some(attributes)) = (payload.get(..12), payload.get(12..)) else {
                return;
            };
            if header[4] != RT_TABLE_MAIN || header[7] != RTN_UNICAST {
                return;
            }
            let destination = Attributes::find(attributes, RTA_DST)
                .and_then(read_address)
                .filter(|_| header[1] > 0)
                .map(|address| Subnet::new(address, header[1]));
            found.push(Route {
                destination,
                link: Attributes::find(attributes, RTA_OIF).and_then(read_u32),
            });
        },
    )?;
    Ok(found)
}

/// Waits until packets pass a link that was just brought up. The kernel lets that follow in a work queue, and
/// drops what is sent before: a lost first packet costs a TCP client a whole second. To ask is enough for
/// kernels from 6.8 on, which catch up before they answer; older ones are waited for with the socket that
/// `watch` opens in the link's namespace.
pub(crate) fn wait_until_operational(
    socket: &mut Socket,
    name: &str,
    watch: impl FnOnce() -> crate::Result<Socket>,
) -> crate::Result<()> {
    if link(socket, name)?.is_none_or(|link| link.operational) {
        return Ok(());
    }
    let mut changes = watch()?;
    let deadline = Instant::now() + OPERATIONAL_WITHIN;
    while link(socket, name)?.is_some_and(|link| !link.operational) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::debug!(name, "the link has not become operational");
            break;
        }
        changes.wait(left)?;
    }
    Ok(())
}

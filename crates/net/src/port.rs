//! Taking ports of the host by binding sockets to them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol as Number, SocketFlags, SocketType, ipproto, sockopt};

use crate::{Error, PortMapping, Protocol, Published, Result, holder, sysctl};

/// Connections that may wait to be accepted: the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Chooses ports for mappings that leave it open, one after the other through the kernel's ephemeral range.
#[derive(Debug, Default)]
pub(crate) struct Chooser {
    last: u16,
}

impl Chooser {
    /// Every port of the range once, beginning after the one given last.
    fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = sysctl::ephemeral_ports();
        let start = if (first..last).contains(&self.last) {
            self.last + 1
        } else {
            first
        };
        (start..=last).chain(first..start)
    }
}

/// Binds every mapping's socket, or none. Mappings without a host port that differ only in their host address
/// get the same port. Mappings on an unspecified IPv6 address are left out on a machine without IPv6.
pub(crate) fn bind_all(chooser: &mut Chooser, mappings: &[PortMapping]) -> Result<Vec<Published>> {
    let mut published: Vec<Option<Published>> = mappings.iter().map(|_| None).collect();
    for group in groups(mappings) {
        let of_group: Vec<PortMapping> = group.iter().map(|i| mappings[*i]).collect();
        let bound = if of_group[0].host_port == 0 {
            bind_free(chooser, &of_group)?
        } else {
            bind_group(&of_group, of_group[0].host_port)?
        };
        for (index, bound) in group.into_iter().zip(bound) {
            published[index] = bound;
        }
    }
    Ok(published.into_iter().flatten().collect())
}

/// Indices of mappings that must get the same port.
fn groups(mappings: &[PortMapping]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<(u16, Protocol, HashSet<IpAddr>, usize)> = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let joined = open.iter_mut().find(|(port, protocol, addresses, _)| {
            mapping.host_port == 0
                && (*port, *protocol) == (mapping.target_port, mapping.protocol)
                && !addresses.contains(&mapping.host_ip)
        });
        if let Some((_, _, addresses, group)) = joined {
            addresses.insert(mapping.host_ip);
            groups[*group].push(index);
            continue;
        }
        if mapping.host_port == 0 {
            let addresses = HashSet::from([mapping.host_ip]);
            open.push((
                mapping.target_port,
                mapping.protocol,
                addresses,
                groups.len(),
            ));
        }
        groups.push(vec![index]);
    }
    groups
}

fn bind_free(chooser: &mut Chooser, group: &[PortMapping]) -> Result<Vec<Option<Published>>> {
    let mut result = Err(Error::PoolExhausted(
        "the range of ephemeral ports (net.ipv4.ip_local_port_range)".into(),
    ));
    for port in chooser.candidates() {
        match try_group(group, port) {
            Ok(bound) => {
                chooser.last = port;
                return Ok(bound);
            }
            Err((_, Errno::ADDRINUSE)) => {}
            Err((mapping, errno)) => {
                result = Err(refusal(&mapping, port, errno));
                break;
            }
        }
    }
    result
}

fn bind_group(group: &[PortMapping], port: u16) -> Result<Vec<Option<Published>>> {
    try_group(group, port).map_err(|(mapping, errno)| refusal(&mapping, port, errno))
}

type Attempt = std::result::Result<Vec<Option<Published>>, (PortMapping, Errno)>;

fn try_group(group: &[PortMapping], port: u16) -> Attempt {
    let bind_one = |mapping: &PortMapping| match bind(mapping, port) {
        Ok(socket) => Ok(Some(Published {
            mapping: PortMapping {
                host_port: port,
                ..*mapping
            },
            socket,
        })),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if is_any_ipv6(mapping) => Ok(None),
        Err(errno) => Err((*mapping, errno)),
    };
    group.iter().map(bind_one).collect()
}

fn is_any_ipv6(mapping: &PortMapping) -> bool {
    mapping.host_ip.is_ipv6() && mapping.host_ip.is_unspecified()
}

fn refusal(mapping: &PortMapping, port: u16, errno: Errno) -> Error {
    let (address, protocol) = (mapping.host_ip, mapping.protocol);
    if errno == Errno::ADDRINUSE {
        return Error::PortInUse {
            address,
            port,
            protocol,
            holder: holder::of_port(port, protocol),
        };
    }
    let operation = format!(
        "take the host port {}/{protocol}",
        SocketAddr::new(address, port)
    );
    Error::Kernel {
        operation,
        source: errno.into(),
    }
}

fn bind(mapping: &PortMapping, port: u16) -> rustix::io::Result<OwnedFd> {
    let (kind, number): (SocketType, Option<Number>) = match mapping.protocol {
        Protocol::Tcp => (SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => (SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let family = if mapping.host_ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, number) {
        // The kernel can translate SCTP without being able to speak it. Nobody else can take the port then,
        // and there is nothing to serve on it: a descriptor that never becomes ready takes its place.
        Err(Errno::PROTONOSUPPORT) if mapping.protocol == Protocol::Sctp => {
            return rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        }
        socket => socket?,
    };
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if mapping.protocol == Protocol::Tcp {
        // Connections of an earlier holder may still linger in TIME_WAIT.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(mapping.host_ip, port))?;
    if mapping.protocol != Protocol::Udp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: &str, host_port: u16, target_port: u16) -> PortMapping {
        PortMapping {
            host_ip: host_ip.parse().unwrap(),
            host_port,
            target_ip: IpAddr::from([172, 17, 0, 2]),
            target_port,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn both_families_share_an_open_port_and_repetitions_do_not() {
        let open = [
            mapping("0.0.0.0", 0, 80),
            mapping("::", 0, 80),
            mapping("0.0.0.0", 0, 80),
        ];
        assert_eq!(groups(&open), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn the_holder_is_named_and_nothing_stays_bound() {
        let mut chooser = Chooser::default();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = mapping("127.0.0.1", 0, 80);
        let error = bind_all(&mut chooser, &[free, mapping("127.0.0.1", port, 81)]).unwrap_err();
        let Error::PortInUse {
            holder: Some(holder),
            port: named,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(named, port);
        assert!(holder.contains(&std::process::id().to_string()));
        let freed = chooser.last;
        assert!(std::net::TcpListener::bind(("127.0.0.1", freed)).is_ok());
    }
}

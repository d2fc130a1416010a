//! One interface in one namespace: a veth pair from a bridge into it, addresses, routes.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::netlink::{Batch, Failure, Socket};
use crate::route::{self, Veth};
use crate::{Endpoint, Error, Result, namespace, sysctl};

/// What of a bridge its endpoints need.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) bridge: String,
    pub(crate) bridge_index: u32,
    pub(crate) mtu: u32,
    /// Marks links as this instance's.
    pub(crate) alias: String,
    pub(crate) isolated: bool,
}

/// Puts `endpoint` into `netns`; on failure nothing is left. `host` is a socket of the bridge's namespace, and
/// the calling thread is in that namespace, `home`.
pub(crate) fn build(
    home: BorrowedFd<'_>,
    host: &mut Socket,
    netns: BorrowedFd<'_>,
    port: &Port,
    endpoint: &Endpoint,
) -> Result<()> {
    let mut inside = namespace::within(home, netns, Socket::route)?;
    let mut batch = Batch::new();
    let veth = Veth {
        host: &endpoint.host_link,
        bridge_index: port.bridge_index,
        mtu: port.mtu,
        peer: &endpoint.interface,
        peer_mac: endpoint.mac,
        netns,
        alias: &port.alias,
        isolated: port.isolated,
        has_ipv6: sysctl::has_ipv6(),
    };
    route::add_veth(&mut batch, &veth);
    host.send(&batch)
        .map_err(|failure| undo_unless_first(host, endpoint, failure))?;
    let configured = configure(home, &mut inside, netns, endpoint)
        .and_then(|()| wait_until_passable(home, host, &mut inside, netns, port, endpoint));
    if configured.is_err() {
        remove(host, endpoint);
    }
    configured
}

/// Where making the pair itself failed, the link of that name is another's.
fn undo_unless_first(host: &mut Socket, endpoint: &Endpoint, failure: Failure) -> Error {
    if failure.position > 0 {
        remove(host, endpoint);
    }
    failure.into()
}

fn remove(host: &mut Socket, endpoint: &Endpoint) {
    if let Err(failure) = route::delete_link(host, &endpoint.host_link) {
        tracing::warn!(
            errno = failure.errno,
            "undoing a failed endpoint: {}",
            failure.operation
        );
    }
}

fn configure(
    home: BorrowedFd<'_>,
    inside: &mut Socket,
    netns: BorrowedFd<'_>,
    endpoint: &Endpoint,
) -> Result<()> {
    let name = &endpoint.interface;
    let link = route::link(inside, name)?.ok_or_else(|| Error::Kernel {
        operation: format!("find the link {name} in its namespace"),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    if endpoint.ipv6.is_some() {
        namespace::within(home, netns, || turn_on_ipv6(name))?;
    }
    let mut batch = Batch::new();
    if let Some(address) = endpoint.ipv4 {
        route::add_address(
            &mut batch,
            link.index,
            name,
            IpAddr::V4(address),
            endpoint.prefix,
        );
    }
    if let Some(address) = endpoint.ipv6 {
        route::add_address(
            &mut batch,
            link.index,
            name,
            IpAddr::V6(address),
            endpoint.prefix6,
        );
    }
    route::set_up(&mut batch, link.index, name);
    if let Some(gateway) = endpoint.gateway {
        route::add_default_route(&mut batch, link.index, name, IpAddr::V4(gateway));
    }
    if let Some(gateway) = endpoint.gateway6 {
        route::add_default_route(&mut batch, link.index, name, IpAddr::V6(gateway));
    }
    inside.send(&batch)?;
    Ok(())
}

/// Both ends, and the bridge itself, which went out of operation with its last port.
fn wait_until_passable(
    home: BorrowedFd<'_>,
    host: &mut Socket,
    inside: &mut Socket,
    netns: BorrowedFd<'_>,
    port: &Port,
    endpoint: &Endpoint,
) -> Result<()> {
    let watch_inside = || namespace::within(home, netns, Socket::link_changes);
    route::wait_until_operational(inside, &endpoint.interface, watch_inside)?;
    route::wait_until_operational(host, &endpoint.host_link, Socket::link_changes)?;
    route::wait_until_operational(host, &port.bridge, Socket::link_changes)
}

/// Addresses are given, not found: no router is listened to, and nobody else can have them.
fn turn_on_ipv6(interface: &str) -> Result<()> {
    let conf = format!("net/ipv6/conf/{interface}");
    sysctl::set(&format!("{conf}/accept_ra"), "0")?;
    sysctl::set(&format!("{conf}/accept_dad"), "0")?;
    sysctl::set(&format!("{conf}/disable_ipv6"), "0")
}

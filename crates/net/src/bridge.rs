//! A bridge network: its link on the host, the addresses of its endpoints, and namespaces prepared for it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::background::Prepared;
use crate::endpoint::Port;
use crate::ipam::Pool;
use crate::link_address::{mac_of, random_name};
use crate::netlink::{Batch, Socket};
use crate::route::{self, Link};
use crate::{BridgeConfig, Endpoint, EndpointRequest, Error, Result, sysctl};

/// Longest name of a link, without the terminating zero.
const NAME_BYTES_MAX: usize = 15;

/// A bridge that is in place.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) config: BridgeConfig,
    pub(crate) port: Port,
    /// Made by this instance, so that it is its to remove.
    pub(crate) owned: bool,
    /// Tells results meant for an earlier bridge of the same name from those for this one.
    pub(crate) incarnation: u64,
    pub(crate) ready: VecDeque<Prepared>,
    /// Endpoints that the background is preparing.
    pub(crate) preparing: Vec<Endpoint>,
    ipv4: Pool,
    ipv6: Option<Pool>,
}

impl Bridge {
    pub(crate) fn new(
        config: &BridgeConfig,
        port: Port,
        owned: bool,
        incarnation: u64,
    ) -> Result<Bridge> {
        let mut ipv4 = Pool::new(config.subnet, config.ip_range);
        ipv4.take_fixed(IpAddr::V4(config.gateway))?;
        let mut ipv6 = None;
        if let Some((subnet, gateway)) = config.subnet6 {
            let mut pool = Pool::new(subnet, None);
            pool.take_fixed(IpAddr::V6(gateway))?;
            ipv6 = Some(pool);
        }
        let (ready, preparing) = (VecDeque::new(), Vec::new());
        Ok(Bridge {
            config: config.clone(),
            port,
            owned,
            incarnation,
            ready,
            preparing,
            ipv4,
            ipv6,
        })
    }

    /// Takes addresses for an endpoint and says what it will look like.
    pub(crate) fn reserve(&mut self, request: &EndpointRequest) -> Result<Endpoint> {
        let ipv4 = self.take(request.ipv4)?;
        let ipv6 = match self.take6(request.ipv6) {
            Ok(address) => address,
            Err(error) => {
                self.ipv4.release(IpAddr::V4(ipv4));
                return Err(error);
            }
        };
        let routed = request.default_route && !self.config.internal;
        let gateway6 = self.config.subnet6.map(|(_, gateway)| gateway);
        let host_link = match random_name() {
            Ok(name) => name,
            Err(error) => {
                self.release_addresses(Some(ipv4), ipv6);
                return Err(error);
            }
        };
        Ok(Endpoint {
            interface: request.interface.clone(),
            host_link,
            mac: request.mac.unwrap_or_else(|| mac_of(ipv4)),
            ipv4: Some(ipv4),
            prefix: self.config.subnet.prefix,
            gateway: routed.then_some(self.config.gateway),
            ipv6,
            prefix6: self.config.subnet6.map_or(0, |(subnet, _)| subnet.prefix),
            gateway6: gateway6.filter(|_| routed),
        })
    }

    fn take(&mut self, fixed: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let address = match fixed {
            Some(address) => self
                .ipv4
                .take_fixed(IpAddr::V4(address))
                .map(|()| IpAddr::V4(address))?,
            None => self.ipv4.take()?,
        };
        match address {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => Err(Error::AddressUnavailable(format!(
                "{} is no IPv4 range",
                self.config.subnet
            ))),
        }
    }

    fn take6(&mut self, fixed: Option<Ipv6Addr>) -> Result<Option<Ipv6Addr>> {
        let address = match (&mut self.ipv6, fixed) {
            (None, None) => return Ok(None),
            (None, Some(address)) => {
                let words = format!("invalid address {address}: the network has no IPv6 subnet");
                return Err(Error::AddressUnavailable(words));
            }
            (Some(pool), Some(address)) => pool
                .take_fixed(IpAddr::V6(address))
                .map(|()| IpAddr::V6(address))?,
            (Some(pool), None) => pool.take()?,
        };
        Ok(match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        })
    }

    /// Marks addresses as taken that live endpoints have; ones that are marked already stay so.
    pub(crate) fn claim(&mut self, endpoint: &Endpoint) -> Result<()> {
        let addresses = [endpoint.ipv4.map(IpAddr::V4), endpoint.ipv6.map(IpAddr::V6)];
        for address in addresses.into_iter().flatten() {
            self.claim_address(address)?;
        }
        Ok(())
    }

    /// Keeps one address from being given out.
    pub(crate) fn claim_address(&mut self, address: IpAddr) -> Result<()> {
        let pool = match address {
            IpAddr::V4(_) => Some(&mut self.ipv4),
            IpAddr::V6(_) => self.ipv6.as_mut(),
        };
        match pool {
            Some(pool) if !pool.is_taken(address) => pool.take_fixed(address),
            Some(_) => Ok(()),
            None => Err(Error::AddressUnavailable(format!(
                "{address} is in no range of {}",
                self.config.bridge
            ))),
        }
    }

    pub(crate) fn release(&mut self, endpoint: &Endpoint) {
        self.release_addresses(endpoint.ipv4, endpoint.ipv6);
    }

    fn release_addresses(&mut self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) {
        // The bridge's own address is never an endpoint's, whatever a record says.
        if let Some(address) = ipv4.filter(|address| *address != self.config.gateway) {
            self.ipv4.release(IpAddr::V4(address));
        }
        if let (Some(pool), Some(address)) = (&mut self.ipv6, ipv6)
            && self
                .config
                .subnet6
                .is_none_or(|(_, gateway)| gateway != address)
        {
            pool.release(IpAddr::V6(address));
        }
    }

    /// Whether somebody prepared has one of the addresses asked for.
    pub(crate) fn prepared_has(&self, request: &EndpointRequest) -> bool {
        let wanted = |endpoint: &Endpoint| {
            (request.ipv4.is_some() && request.ipv4 == endpoint.ipv4)
                || (request.ipv6.is_some() && request.ipv6 == endpoint.ipv6)
        };
        self.ready.iter().any(|prepared| wanted(&prepared.endpoint))
            || self.preparing.iter().any(wanted)
    }
}

/// Refuses what could never work, with words for whoever declared it.
pub(crate) fn validate(config: &BridgeConfig) -> Result<()> {
    let name = &config.bridge;
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != "..";
    if !fits
        || name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace())
    {
        let source = std::io::ErrorKind::InvalidInput.into();
        let operation = format!(
            "make a bridge named {name:?}: a link's name has 1 to 15 bytes, no slash, colon or space"
        );
        return Err(Error::Kernel { operation, source });
    }
    let unavailable = |words| Err(Error::AddressUnavailable(words));
    if !config.subnet.contains(IpAddr::V4(config.gateway)) {
        return unavailable(format!(
            "the gateway {} is not in the subnet {}",
            config.gateway, config.subnet
        ));
    }
    if let Some(range) = config.ip_range
        && !(config.subnet.contains(range.address) && range.last() <= config.subnet.last())
    {
        return unavailable(format!(
            "the range {range} is not in the subnet {}",
            config.subnet
        ));
    }
    match config.subnet6 {
        Some((subnet, gateway)) if !subnet.contains(IpAddr::V6(gateway)) => unavailable(format!(
            "the gateway {gateway} is not in the subnet {subnet}"
        )),
        _ => Ok(()),
    }
}

/// What was found or made.
pub(crate) struct Placed {
    pub(crate) index: u32,
    pub(crate) owned: bool,
    /// Made just now: to be removed if what follows fails.
    pub(crate) made: bool,
}

/// Makes the bridge's link, or takes the one that is there, and brings it to what is declared.
pub(crate) fn place(
    socket: &mut Socket,
    config: &BridgeConfig,
    mtu: u32,
    alias: &str,
) -> Result<Placed> {
    let existing = route::link(socket, &config.bridge)?;
    let made = existing.is_none();
    let (link, owned) = match existing {
        Some(link) => {
            let owned = check_ownership(&link, alias)?;
            (link, owned)
        }
        None => (make(socket, config, mtu, alias)?, true),
    };
    let placed = Placed {
        index: link.index,
        owned,
        made,
    };
    if let Err(error) = adjust(socket, config, &link, owned, mtu) {
        if made {
            let _ = route::delete_link(socket, &config.bridge);
        }
        return Err(error);
    }
    Ok(placed)
}

/// A bridge that carries nobody's mark is the administrator's: it is used, never removed.
fn check_ownership(link: &Link, alias: &str) -> Result<bool> {
    let refuse = |why: &str| Error::Kernel {
        operation: format!("use the link {} as a bridge: {why}", link.name),
        source: std::io::ErrorKind::AlreadyExists.into(),
    };
    if link.kind.as_deref() != Some("bridge") {
        return Err(refuse(
            "a link of that name exists and is no bridge; choose another name or remove it",
        ));
    }
    match link.alias.as_deref() {
        Some(found) if found == alias => Ok(true),
        Some(found) if found.starts_with(crate::state::ALIAS_PREFIX) => Err(refuse(&format!(
            "it belongs to another daemon ({found}); choose another name"
        ))),
        _ => Ok(false),
    }
}

fn make(socket: &mut Socket, config: &BridgeConfig, mtu: u32, alias: &str) -> Result<Link> {
    let mut batch = Batch::new();
    route::add_bridge(
        &mut batch,
        &config.bridge,
        mac_of(config.gateway),
        mtu,
        alias,
    );
    if let Err(failure) = socket.send(&batch) {
        if failure.position > 0 {
            let _ = route::delete_link(socket, &config.bridge);
        }
        return Err(failure.into());
    }
    route::link(socket, &config.bridge)?.ok_or_else(|| Error::Kernel {
        operation: format!("find the bridge {} just made", config.bridge),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn adjust(
    socket: &mut Socket,
    config: &BridgeConfig,
    link: &Link,
    owned: bool,
    mtu: u32,
) -> Result<()> {
    let mut wanted = vec![(IpAddr::V4(config.gateway), config.subnet.prefix)];
    wanted.extend(
        config
            .subnet6
            .map(|(subnet, gateway)| (IpAddr::V6(gateway), subnet.prefix)),
    );
    set_kernel_options(config)?;
    let present = route::addresses(socket, link.index)?;
    let name = &config.bridge;
    let mut batch = Batch::new();
    if owned && link.mtu != mtu {
        route::set_mtu(&mut batch, link.index, name, mtu);
    }
    for (address, prefix) in present
        .iter()
        .filter(|found| owned && !wanted.contains(found))
    {
        if !is_link_local(*address) {
            route::delete_address(&mut batch, link.index, name, *address, *prefix);
        }
    }
    for (address, prefix) in wanted.iter().filter(|wanted| !present.contains(wanted)) {
        route::add_address(&mut batch, link.index, name, *address, *prefix);
    }
    route::set_up(&mut batch, link.index, name);
    socket.send(&batch)?;
    Ok(())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn set_kernel_options(config: &BridgeConfig) -> Result<()> {
    let conf6 = format!("net/ipv6/conf/{}", config.bridge);
    if config.subnet6.is_some() {
        sysctl::set(&format!("{conf6}/accept_ra"), "0")?;
        sysctl::set(&format!("{conf6}/accept_dad"), "0")?;
        sysctl::set(&format!("{conf6}/disable_ipv6"), "0")?;
    } else {
        sysctl::set_if_present(&format!("{conf6}/disable_ipv6"), "1")?;
    }
    if config.internal {
        return Ok(());
    }
    sysctl::set("net/ipv4/ip_forward", "1")?;
    // So that 127.0.0.1 reaches published ports. What this lets in from the bridge, the ruleset's guard drops.
    sysctl::set(
        &format!("net/ipv4/conf/{}/route_localnet", config.bridge),
        "1",
    )?;
    if config.subnet6.is_some() {
        sysctl::forward_ipv6()?;
    }
    Ok(())
}

/// The MTU of the link that the default route goes through; Ethernet's where there is none.
pub(crate) fn default_mtu(socket: &mut Socket) -> Result<u32> {
    const ETHERNET: u32 = 1500;
    let routes = route::routes(socket)?;
    let Some(index) = routes
        .iter()
        .find(|route| route.destination.is_none())
        .and_then(|route| route.link)
    else {
        return Ok(ETHERNET);
    };
    let link = route::links(socket)?
        .into_iter()
        .find(|link| link.index == index);
    Ok(link.map_or(ETHERNET, |link| link.mtu))
}

//! What the first thread owns: bridges, published ports, and the sockets to the kernel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::background::{Background, Done, Results};
use crate::bridge::{self, Bridge};
use crate::endpoint::{self, Port};
use crate::netlink::Socket;
use crate::nftables::{Element, Transaction, make_table};
use crate::port::Chooser;
use crate::publish::HostPort;
use crate::subnet::Subnet;
use crate::worker::Worker;
use crate::{
    BridgeConfig, Endpoint, EndpointRequest, Error, PortMapping, Result, namespace, route, ruleset,
};

/// Links of all instances carry an alias that begins with this.
pub(crate) const ALIAS_PREFIX: &str = "wharf:";

/// State of the first thread.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) home: OwnedFd,
    pub(crate) route: Socket,
    pub(crate) netfilter: Socket,
    pub(crate) table: String,
    pub(crate) bridges: BTreeMap<String, Bridge>,
    pub(crate) published: HashMap<HostPort, (String, PortMapping)>,
    pub(crate) chooser: Chooser,
    /// Prepares namespaces.
    pub(crate) ahead: Worker<Background>,
    /// Removes links.
    pub(crate) removal: Worker<Background>,
    results: Results,
    alias: String,
    incarnations: u64,
    /// Links that somebody has named since the start.
    claimed: HashSet<String>,
}

impl State {
    /// Opens the sockets and replaces the table of an earlier run. Connections that were translated by it go
    /// on: the kernel keeps their translation, and the new table is there before the old one goes.
    pub(crate) fn open(
        instance: &str,
        ahead: Worker<Background>,
        removal: Worker<Background>,
        results: Results,
    ) -> Result<State> {
        let mut state = State {
            home: namespace::current()?,
            route: Socket::route()?,
            netfilter: Socket::netfilter()?,
            table: format!("wharf-{instance}"),
            alias: format!("{ALIAS_PREFIX}{instance}"),
            bridges: BTreeMap::new(),
            published: HashMap::new(),
            chooser: Chooser::default(),
            ahead,
            removal,
            results,
            incarnations: 0,
            claimed: HashSet::new(),
        };
        state.make_table()?;
        Ok(state)
    }

    pub(crate) fn bridge(&mut self, name: &str) -> Result<&mut Bridge> {
        self.bridges
            .get_mut(name)
            .ok_or_else(|| Error::UnknownBridge(name.to_owned()))
    }

    /// Takes in what the background has done. Called before addresses or prepared namespaces are looked at.
    pub(crate) fn collect(&mut self) {
        for done in self.results.take() {
            match done {
                Done::Prepared {
                    bridge,
                    incarnation,
                    endpoint,
                    result,
                } => {
                    let Some(bridge) = self.incarnation(&bridge, incarnation) else {
                        continue;
                    };
                    bridge
                        .preparing
                        .retain(|one| one.host_link != endpoint.host_link);
                    match result {
                        Ok(prepared) => bridge.ready.push_back(prepared),
                        Err(error) => {
                            tracing::warn!(%error, "could not prepare a network namespace ahead of need");
                            bridge.release(&endpoint);
                        }
                    }
                }
                Done::Removed {
                    bridge,
                    incarnation,
                    endpoint,
                } => {
                    if let Some(bridge) = self.incarnation(&bridge, incarnation) {
                        bridge.release(&endpoint);
                    }
                }
            }
        }
    }

    fn incarnation(&mut self, bridge: &str, incarnation: u64) -> Option<&mut Bridge> {
        self.bridges
            .get_mut(bridge)
            .filter(|bridge| bridge.incarnation == incarnation)
    }

    /// Waits for the background to finish what it has been given, and takes that in.
    pub(crate) fn settle_background(&mut self) -> Result<()> {
        self.ahead.run_blocking(|_| ())?;
        self.removal.run_blocking(|_| ())?;
        self.collect();
        Ok(())
    }

    /// Fails if the range overlaps that of a bridge other than `except`.
    pub(crate) fn check_subnet(&self, subnet: Subnet, except: Option<&str>) -> Result<()> {
        for (name, bridge) in self
            .bridges
            .iter()
            .filter(|(name, _)| Some(name.as_str()) != except)
        {
            let ranges = [
                Some(bridge.config.subnet),
                bridge.config.subnet6.map(|(subnet, _)| subnet),
            ];
            if let Some(other) = ranges
                .into_iter()
                .flatten()
                .find(|other| other.overlaps(&subnet))
            {
                let words =
                    format!("subnet {subnet} overlaps {other} of the network on bridge {name}");
                return Err(Error::Overlap(words));
            }
        }
        Ok(())
    }

    pub(crate) fn free_subnet(&mut self) -> Result<Subnet> {
        let routes = route::routes(&mut self.route)?;
        let routed: Vec<Subnet> = routes
            .into_iter()
            .filter_map(|route| route.destination)
            .collect();
        Subnet::defaults()
            .find(|one| self.check_subnet(*one, None).is_ok() && !routed.iter().any(|other| other.overlaps(one)))
            .ok_or_else(|| {
                Error::PoolExhausted(
                    "the default ranges for networks (172.17-31.0.0/16, 192.168.0.0/16 by /20): name a subnet".into(),
                )
            })
    }

    pub(crate) fn ensure_bridge(&mut self, config: &BridgeConfig) -> Result<()> {
        bridge::validate(config)?;
        self.check_subnet(config.subnet, Some(&config.bridge))?;
        if let Some((subnet, _)) = config.subnet6 {
            self.check_subnet(subnet, Some(&config.bridge))?;
        }
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => bridge::default_mtu(&mut self.route)?,
        };
        self.settle_background()?;
        self.drain(&config.bridge);
        let placed = bridge::place(&mut self.route, config, mtu, &self.alias)?;
        let port = Port {
            bridge: config.bridge.clone(),
            bridge_index: placed.index,
            mtu,
            alias: self.alias.clone(),
            isolated: !config.inter_container,
        };
        let recorded = self.record_bridge(config, port, placed.owned);
        if recorded.is_err() && placed.made {
            let _ = route::delete_link(&mut self.route, &config.bridge);
        }
        recorded
    }

    fn record_bridge(&mut self, config: &BridgeConfig, port: Port, owned: bool) -> Result<()> {
        self.incarnations += 1;
        let mut bridge = Bridge::new(config, port, owned, self.incarnations)?;
        let old = self
            .bridges
            .get(&config.bridge)
            .map(|old| ruleset::bridge_elements(&old.config));
        let (old, new) = (old.unwrap_or_default(), ruleset::bridge_elements(config));
        self.change_table(|transaction| {
            for element in &old {
                transaction.delete_element(
                    element,
                    format!("take back the rules of bridge {}", config.bridge),
                );
            }
            for element in &new {
                transaction.add_element(
                    element,
                    format!("add the rules of bridge {}", config.bridge),
                );
            }
        })?;
        match self.bridges.get_mut(&config.bridge) {
            // The same ranges: what is taken stays taken.
            Some(old) if same_ranges(&old.config, config) => {
                old.config = config.clone();
                old.port = bridge.port;
                old.owned = owned;
            }
            _ => {
                bridge.ready.clear();
                self.bridges.insert(config.bridge.clone(), bridge);
            }
        }
        Ok(())
    }

    /// Removes bridge and rules; published ports of the bridge lose theirs. One that is not there is no error.
    pub(crate) fn remove_bridge(&mut self, name: &str) -> Result<()> {
        self.settle_background()?;
        let Some(bridge) = self.bridges.get(name) else {
            return self.remove_leftover(name);
        };
        let owned = bridge.owned;
        let mut elements = ruleset::bridge_elements(&bridge.config);
        let ports = self.published.values().filter(|(bridge, _)| bridge == name);
        elements.extend(ports.filter_map(|(_, mapping)| ruleset::port_element(mapping)));
        self.change_table(|transaction| {
            for element in &elements {
                transaction
                    .delete_element(element, format!("take back the rules of bridge {name}"));
            }
        })?;
        self.published.retain(|_, (bridge, _)| bridge != name);
        self.drain(name);
        self.bridges.remove(name);
        if owned {
            route::delete_link(&mut self.route, name)?;
        }
        Ok(())
    }

    /// Makes changes to the table, all or none. If the table is gone (`nft flush ruleset`, as firewalls do when
    /// they start), it is made again first, with everything that should be in it.
    pub(crate) fn change_table(&mut self, fill: impl Fn(&mut Transaction<'_>)) -> Result<()> {
        let attempt = |state: &mut State| {
            let mut transaction = Transaction::inet(&state.table);
            fill(&mut transaction);
            transaction.commit(&mut state.netfilter)
        };
        match attempt(self) {
            Err(failure) if failure.is(rustix::io::Errno::NOENT) => {
                tracing::warn!(
                    table = self.table,
                    "the nftables table is gone or was changed; it is made again"
                );
                self.make_table()?;
                Ok(attempt(self)?)
            }
            result => Ok(result?),
        }
    }

    /// The table with all that is known.
    fn make_table(&mut self) -> Result<()> {
        let bridges = self
            .bridges
            .values()
            .flat_map(|bridge| ruleset::bridge_elements(&bridge.config));
        let ports = self
            .published
            .values()
            .filter_map(|(_, mapping)| ruleset::port_element(mapping));
        let elements: Vec<Element> = bridges.chain(ports).collect();
        let fill = |transaction: &mut Transaction<'_>| {
            ruleset::install(transaction);
            for element in &elements {
                transaction.add_element(element, "fill the nftables table");
            }
        };
        make_table(&mut self.netfilter, || Transaction::inet(&self.table), fill)?;
        Ok(())
    }

    fn remove_leftover(&mut self, name: &str) -> Result<()> {
        let link = route::link(&mut self.route, name)?;
        if link.is_some_and(|link| link.alias.as_deref() == Some(&self.alias)) {
            route::delete_link(&mut self.route, name)?;
        }
        Ok(())
    }

    /// Gives up what has been prepared for a bridge. The kernel removes the links with the namespaces, in its
    /// own time; they are removed here first, so that the addresses are free at once.
    pub(crate) fn drain(&mut self, name: &str) {
        let Some(bridge) = self.bridges.get_mut(name) else {
            return;
        };
        for prepared in std::mem::take(&mut bridge.ready) {
            if let Err(failure) = route::delete_link(&mut self.route, &prepared.endpoint.host_link)
            {
                tracing::warn!(errno = failure.errno, "{}", failure.operation);
            }
            bridge.release(&prepared.endpoint);
        }
    }

    /// Reserves addresses, taking back those of prepared namespaces where they are asked for or are the last.
    pub(crate) fn reserve(&mut self, name: &str, request: &EndpointRequest) -> Result<Endpoint> {
        self.collect();
        if self.bridge(name)?.prepared_has(request) {
            self.settle_background()?;
            self.drain(name);
        }
        match self.bridge(name)?.reserve(request) {
            Err(Error::PoolExhausted(_)) => {
                self.settle_background()?;
                self.drain(name);
                self.bridge(name)?.reserve(request)
            }
            reserved => reserved,
        }
    }

    pub(crate) fn attach(
        &mut self,
        name: &str,
        netns: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint> {
        let endpoint = self.reserve(name, request)?;
        let port = self.bridge(name)?.port.clone();
        let mut built =
            endpoint::build(self.home.as_fd(), &mut self.route, netns, &port, &endpoint);
        if let Err(Error::Kernel { source, .. }) = &built
            && source.kind() == std::io::ErrorKind::AlreadyExists
        {
            // An interface that was detached may still be on its way out.
            self.removal.run_blocking(|_| ())?;
            built = endpoint::build(self.home.as_fd(), &mut self.route, netns, &port, &endpoint);
        }
        if let Err(error) = built {
            self.bridge(name)?.release(&endpoint);
            return Err(error);
        }
        self.claimed.insert(endpoint.host_link.clone());
        Ok(endpoint)
    }

    pub(crate) fn restore_endpoint(&mut self, name: &str, endpoint: &Endpoint) -> Result<()> {
        self.collect();
        let asked = EndpointRequest {
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            ..EndpointRequest::default()
        };
        if self.bridge(name)?.prepared_has(&asked) {
            self.settle_background()?;
            self.drain(name);
        }
        self.bridge(name)?.claim(endpoint)?;
        self.claimed.insert(endpoint.host_link.clone());
        Ok(())
    }

    /// Keeps addresses of a network from being given out.
    pub(crate) fn keep_addresses(&mut self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let bridge = self.bridge(name)?;
        addresses
            .iter()
            .try_for_each(|address| bridge.claim_address(*address))
    }

    pub(crate) fn claim_link(&mut self, link: &str) {
        self.claimed.insert(link.to_owned());
    }

    /// Removes links of this instance that nobody has named since the start.
    pub(crate) fn remove_unclaimed(&mut self) -> Result<()> {
        self.settle_background()?;
        let prepared: HashSet<&str> = self
            .bridges
            .values()
            .flat_map(|bridge| {
                bridge
                    .ready
                    .iter()
                    .map(|prepared| prepared.endpoint.host_link.as_str())
            })
            .collect();
        let leftover: Vec<String> = route::links(&mut self.route)?
            .into_iter()
            .filter(|link| link.alias.as_deref() == Some(&self.alias))
            .map(|link| link.name)
            .filter(|name| {
                !self.claimed.contains(name)
                    && !self.bridges.contains_key(name)
                    && !prepared.contains(name.as_str())
            })
            .collect();
        for name in leftover {
            route::delete_link(&mut self.route, &name)?;
        }
        Ok(())
    }

    /// Has the endpoint removed in the background. Its addresses are free when it is gone.
    pub(crate) fn detach(&mut self, bridge: &str, endpoint: Endpoint) -> Result<()> {
        self.claimed.remove(&endpoint.host_link);
        let incarnation = self
            .bridges
            .get(bridge)
            .map_or(0, |bridge| bridge.incarnation);
        let bridge = bridge.to_owned();
        self.removal
            .post(move |removal| removal.remove(bridge, incarnation, endpoint))
    }
}

fn same_ranges(a: &BridgeConfig, b: &BridgeConfig) -> bool {
    (a.subnet, a.ip_range, a.gateway, a.subnet6) == (b.subnet, b.ip_range, b.gateway, b.subnet6)
}

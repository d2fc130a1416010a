//! Publishing: a port of the host leads to a port of an endpoint.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::conntrack::{self, Stale};
use crate::nftables::Transaction;
use crate::state::State;
use crate::{PortMapping, Protocol, Published, Result, port, ruleset};

/// What can be published once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    address: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl HostPort {
    fn of(mapping: &PortMapping) -> HostPort {
        HostPort {
            address: mapping.host_ip,
            port: mapping.host_port,
            protocol: mapping.protocol,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.address, self.port),
            self.protocol
        )
    }
}

impl State {
    /// Binds and adds the rules. Ports of internal networks are not published.
    pub(crate) fn publish(
        &mut self,
        bridge: &str,
        mappings: &[PortMapping],
    ) -> Result<Vec<Published>> {
        if self.bridge(bridge)?.config.internal {
            return Ok(Vec::new());
        }
        let published = port::bind_all(&mut self.chooser, mappings)?;
        let taken: Vec<PortMapping> = published.iter().map(|one| one.mapping).collect();
        self.add_rules(bridge, &taken)?;
        Ok(published)
    }

    pub(crate) fn restore_published(
        &mut self,
        bridge: &str,
        mappings: &[PortMapping],
    ) -> Result<()> {
        if self.bridge(bridge)?.config.internal {
            return Ok(());
        }
        self.add_rules(bridge, mappings)
    }

    fn add_rules(&mut self, bridge: &str, mappings: &[PortMapping]) -> Result<()> {
        // Whoever had a port before has closed its socket, or binding had failed: what is left of it makes room
        // within the same transaction.
        let old: Vec<PortMapping> = mappings
            .iter()
            .filter_map(|mapping| self.published.get(&HostPort::of(mapping)))
            .map(|(_, old)| *old)
            .collect();
        self.change_table(|transaction| {
            for mapping in &old {
                delete_rule(transaction, mapping);
            }
            for mapping in mappings {
                if let Some(element) = ruleset::port_element(mapping) {
                    transaction.add_element(&element, format!("publish {}", HostPort::of(mapping)));
                }
            }
        })?;
        for mapping in mappings {
            self.published
                .insert(HostPort::of(mapping), (bridge.to_owned(), *mapping));
        }
        let stale: Vec<Stale> = udp(mappings)
            .map(|mapping| Stale::SentTo(mapping.host_port))
            .collect();
        conntrack::forget(&mut self.netfilter, &stale);
        Ok(())
    }

    /// Takes the rules away. Ports that are not published, or to another target by now, are left alone.
    pub(crate) fn unpublish(&mut self, mappings: &[PortMapping]) -> Result<()> {
        let is_current = |state: &State, mapping: &PortMapping| {
            state
                .published
                .get(&HostPort::of(mapping))
                .is_some_and(|(_, current)| current == mapping)
        };
        let mut current: Vec<PortMapping> = Vec::new();
        for mapping in mappings {
            if is_current(self, mapping) && !current.contains(mapping) {
                current.push(*mapping);
            }
        }
        self.change_table(|transaction| {
            for mapping in &current {
                delete_rule(transaction, mapping);
            }
        })?;
        for mapping in &current {
            self.published.remove(&HostPort::of(mapping));
        }
        let stale: Vec<Stale> = udp(&current)
            .map(|mapping| Stale::AnsweredBy(mapping.target_ip, mapping.target_port))
            .collect();
        conntrack::forget(&mut self.netfilter, &stale);
        Ok(())
    }
}

fn delete_rule(transaction: &mut Transaction<'_>, mapping: &PortMapping) {
    if let Some(element) = ruleset::port_element(mapping) {
        transaction.delete_element(&element, format!("unpublish {}", HostPort::of(mapping)));
    }
}

fn udp(mappings: &[PortMapping]) -> impl Iterator<Item = &PortMapping> {
    mappings
        .iter()
        .filter(|mapping| mapping.protocol == Protocol::Udp)
}

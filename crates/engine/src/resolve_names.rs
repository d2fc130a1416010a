//! Names on networks of the user's own: what a container's embedded name server answers.

use std::net::IpAddr;
use std::sync::Weak;

use crate::Inner;

/// The view of one container: those it shares a network with.
pub(crate) struct Names {
    pub engine: Weak<Inner>,
    pub container: String,
}

impl Names {
    /// Every running endpoint on a network that the container is on too, with the names it has there.
    fn neighbours(&self) -> Vec<(Vec<String>, Vec<IpAddr>)> {
        let Some(inner) = self.engine.upgrade() else {
            return Vec::new();
        };
        let Ok(own) = inner.containers.find(&self.container) else {
            return Vec::new();
        };
        let (own_networks, links): (Vec<String>, Vec<String>) = {
            let record = own.record();
            let attachments = record.networks.values();
            (
                attachments.clone().map(|a| a.network_id.clone()).collect(),
                attachments.flat_map(|a| a.spec.links.clone()).collect(),
            )
        };
        let mut found = Vec::new();
        for entry in inner.containers.all() {
            let record = entry.record();
            if !record.is_live() {
                continue;
            }
            for attachment in record
                .networks
                .values()
                .filter(|a| own_networks.contains(&a.network_id))
            {
                let Some(endpoint) = &attachment.endpoint else {
                    continue;
                };
                let v4 = endpoint.ipv4.map(IpAddr::from);
                let v6 = endpoint.ipv6.map(IpAddr::from);
                let mut names = attachment.dns_names.clone();
                // Names that only this container has for it.
                names.extend(links.iter().filter_map(|link| {
                    let (target, alias) = link.split_once(':')?;
                    let meant = target == record.name || record.id.starts_with(target);
                    meant.then(|| alias.to_owned())
                }));
                found.push((names, v4.into_iter().chain(v6).collect()));
            }
        }
        found
    }
}

impl wharf_dns::Records for Names {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let wanted = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        let found: Vec<IpAddr> = self
            .neighbours()
            .into_iter()
            .filter(|(names, _)| wanted(names))
            .flat_map(|(_, addresses)| addresses)
            .collect();
        (!found.is_empty()).then_some(found)
    }

    fn reverse(&self, address: IpAddr) -> Option<String> {
        let has = |addresses: &[IpAddr]| addresses.contains(&address);
        self.neighbours()
            .into_iter()
            .find(|(_, addresses)| has(addresses))
            .and_then(|(names, _)| names.into_iter().next())
    }
}

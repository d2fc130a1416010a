//! UDP connections that changes of services leave behind.
//!
//! A client that keeps sending from the same port would stay for ever where its first datagram was led.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{Backend, Balancer, FrontAddress};
use crate::Protocol;
use crate::conntrack::{self, Connection};
use crate::netlink::Socket;

/// Fronts whose connections are to be looked at, with who may go on answering. No address: any of this machine.
#[derive(Default)]
pub(super) struct Stale {
    fronts: HashMap<(Option<IpAddr>, u16), BTreeSet<Backend>>,
}

fn backends(balancer: &Balancer) -> impl Iterator<Item = Backend> + '_ {
    balancer.everywhere.iter().chain(&balancer.here).copied()
}

fn fronts(balancer: &Balancer) -> impl Iterator<Item = (Option<IpAddr>, u16)> + '_ {
    balancer.fronts.iter().map(|front| match front.at {
        FrontAddress::Cluster(address) | FrontAddress::External(address) => {
            (Some(address), front.port)
        }
        FrontAddress::Node => (None, front.port),
    })
}

impl Stale {
    /// Notes what a balancer's change may leave. One that only gets more endpoints leaves nothing.
    pub(super) fn look(&mut self, old: Option<&Balancer>, new: Option<&Balancer>) {
        let is_udp = |balancer: &&Balancer| balancer.protocol == Protocol::Udp;
        let (old, new) = (old.filter(is_udp), new.filter(is_udp));
        let now: BTreeSet<Backend> = new.into_iter().flat_map(backends).collect();
        if let (Some(old), Some(new)) = (old, new)
            && old.fronts == new.fronts
            && backends(old).next().is_some()
            && backends(old).all(|one| now.contains(&one))
        {
            return;
        }
        for front in old.into_iter().flat_map(fronts) {
            self.fronts.entry(front).or_default();
        }
        for front in new.into_iter().flat_map(fronts) {
            self.fronts.entry(front).or_default().extend(&now);
        }
    }

    /// Has the kernel forget connections that are led to nobody, or to what is no endpoint any more.
    pub(super) fn forget(self, netfilter: &mut Socket) {
        if self.fronts.is_empty() {
            return;
        }
        let is_stale = |connection: &Connection| {
            let (to, port) = connection.sent_to;
            let exact = to.and_then(|to| self.fronts.get(&(Some(to), port)));
            let backends = exact.or_else(|| self.fronts.get(&(None, port)));
            match (backends, connection.answered_by) {
                (Some(backends), (Some(address), port)) => !backends.contains(&(address, port)),
                _ => false,
            }
        };
        conntrack::forget_where(netfilter, is_stale);
    }
}

//! Addresses by name and names by address, as the only records: what containers on a network need.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Data, Entry, Found, Kind, Records, Zones};

/// How long others may remember an answer, in seconds: Docker's value.
const TTL_SECONDS: u32 = 600;

/// [`Records`] as [`Zones`].
pub(crate) struct Plain {
    records: Arc<dyn Records>,
    upstreams: Vec<SocketAddr>,
}

impl Plain {
    pub(crate) fn new(records: Arc<dyn Records>, upstreams: Vec<SocketAddr>) -> Plain {
        Plain { records, upstreams }
    }
}

fn found(data: impl Iterator<Item = Data>) -> Found {
    let answers: Vec<Entry> = data
        .map(|data| Entry {
            name: None,
            ttl_s: TTL_SECONDS,
            data,
            is_authoritative: false,
        })
        .collect();
    if answers.is_empty() {
        return Found::Nothing {
            exists: true,
            authority: None,
        };
    }
    Found::Entries {
        answers,
        additional: Vec::new(),
    }
}

impl Zones for Plain {
    fn find(&self, name: &str, kind: Kind) -> Found {
        if kind == Kind::Ptr {
            let known = crate::reverse_address(name).and_then(|a| self.records.reverse(a));
            return match known {
                Some(name) => found(std::iter::once(Data::Pointer(name))),
                None => Found::Elsewhere,
            };
        }
        let Some(addresses) = self.records.lookup(name) else {
            return Found::Elsewhere;
        };
        let is_asked = |address: &IpAddr| match kind {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            Kind::Any => true,
            _ => false,
        };
        found(addresses.into_iter().filter(is_asked).map(Data::Address))
    }

    fn upstreams(&self, _: &str) -> Vec<SocketAddr> {
        self.upstreams.clone()
    }
}

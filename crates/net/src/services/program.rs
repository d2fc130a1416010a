//! From a balancer to chains, maps and elements. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::base::{
    CLUSTER4, CLUSTER6, ENDPOINTS4, ENDPOINTS6, FRONTS4, FRONTS6, NODE4, NODE6, PLACES, PODS4,
    PODS6, REJECT, plain,
};
use super::{Backend, Balancer, Front, FrontAddress};
use crate::nftables::{Address, ClientSet, Element, ElementData, Field, Pool, Rule};
use crate::ruleset::{octets, padded_port, protocol_number};
use crate::subnet::Subnet;

/// Most clients that are remembered for one endpoint.
const CLIENTS_MAX: u32 = 1 << 17;

/// What a balancer is in the kernel.
#[derive(Default)]
pub(super) struct Program {
    /// Rules by chain.
    pub(super) chains: BTreeMap<String, Vec<Rule>>,
    /// Sets that packets fill, by name.
    pub(super) sets: BTreeMap<String, ClientSet>,
    pub(super) elements: Vec<Element>,
}

/// Names of a family's sets.
struct Sets {
    family: Address,
    fronts: &'static str,
    node: &'static str,
    cluster: &'static str,
    endpoints: &'static str,
    pods: &'static str,
    source: Field,
}

fn sets(is_ipv6: bool) -> Sets {
    if is_ipv6 {
        Sets {
            family: Address::V6,
            fronts: FRONTS6,
            node: NODE6,
            cluster: CLUSTER6,
            endpoints: ENDPOINTS6,
            pods: PODS6,
            source: Field::Source6,
        }
    } else {
        Sets {
            family: Address::V4,
            fronts: FRONTS4,
            node: NODE4,
            cluster: CLUSTER4,
            endpoints: ENDPOINTS4,
            pods: PODS4,
            source: Field::Source4,
        }
    }
}

/// The program of a balancer with this number, which no other has.
pub(super) fn program(number: u32, balancer: &Balancer) -> Program {
    let mut program = Program::default();
    let sets = sets(balancer.is_ipv6);
    let has_external = balancer
        .fronts
        .iter()
        .any(|front| !matches!(front.at, FrontAddress::Cluster(_)));
    if !balancer.everywhere.is_empty() {
        let name = format!("svc-{number}");
        program.add_pool(&sets, name, 2 * number, &balancer.everywhere, balancer);
    }
    let is_local = balancer.internal_local || (balancer.external_local && has_external);
    if is_local && !balancer.here.is_empty() {
        let name = format!("loc-{number}");
        program.add_pool(&sets, name, 2 * number + 1, &balancer.here, balancer);
    }
    let is_served = !balancer.everywhere.is_empty() || (is_local && !balancer.here.is_empty());
    if has_external && is_served {
        let rules = external(&sets, number, balancer);
        program.chains.insert(format!("ext-{number}"), rules);
    }
    for (at, front) in balancer.fronts.iter().enumerate() {
        let verdict = if is_served {
            program.way_in(&sets, number, at, front, balancer)
        } else {
            ElementData::Goto(REJECT.to_owned())
        };
        program.add_front(&sets, front, balancer, verdict);
    }
    program
}

/// Rules for what comes from outside the cluster.
fn external(sets: &Sets, number: u32, balancer: &Balancer) -> Vec<Rule> {
    let everywhere = format!("svc-{number}");
    let has_any = !balancer.everywhere.is_empty();
    let mut rules = Vec::new();
    if balancer.external_local {
        if has_any {
            // Pods and this machine's programs know of all endpoints.
            let from_pod = Rule::new().with(Field::Family, &[family_number(balancer.is_ipv6)]);
            rules.push(from_pod.among(&[sets.source], sets.pods).goto(&everywhere));
            let from_here = Rule::new().source_is_local().ask_masquerade();
            rules.push(from_here.goto(&everywhere));
        }
        rules.push(match balancer.here.is_empty() {
            true => Rule::new().drop(),
            false => Rule::new().goto(&format!("loc-{number}")),
        });
    } else if has_any {
        rules.push(Rule::new().ask_masquerade().goto(&everywhere));
    } else {
        rules.push(Rule::new().goto(REJECT));
    }
    rules
}

fn family_number(is_ipv6: bool) -> u8 {
    if is_ipv6 { 10 } else { 2 }
}

/// Mask of a range, as long as its address.
fn mask(range: &Subnet) -> Vec<u8> {
    let bits = u32::from(range.prefix);
    match range.address {
        IpAddr::V4(_) => u32::MAX
            .checked_shl(32 - bits)
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec(),
        IpAddr::V6(_) => u128::MAX
            .checked_shl(128 - bits)
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec(),
    }
}

impl Program {
    /// A chain that leads to one of these endpoints.
    fn add_pool(
        &mut self,
        sets: &Sets,
        chain: String,
        number: u32,
        backends: &[Backend],
        balancer: &Balancer,
    ) {
        let first = octets(backends[0].0);
        let pool = Pool {
            family: sets.family,
            number,
            endpoints: backends.len() as u32,
            only: (backends.len() == 1).then_some((first.as_slice(), backends[0].1)),
        };
        if let Some(seconds) = balancer.affinity_s {
            return self.add_faithful(sets, chain, &pool, backends, seconds);
        }
        if pool.only.is_none() {
            for (place, backend) in backends.iter().enumerate() {
                let data = ElementData::Value(backend_bytes(backend));
                self.add_place(sets.endpoints, number, place, data);
            }
        }
        let rule = Rule::new().lead_to_any(&pool, sets.endpoints);
        self.chains.insert(chain, vec![rule]);
    }

    fn add_place(&mut self, map: &'static str, pool: u32, place: usize, data: ElementData) {
        self.elements.push(Element {
            set: map.into(),
            key: [pool.to_ne_bytes(), (place as u32).to_ne_bytes()].concat(),
            data,
            end: false,
        });
    }

    /// The same where a client is to stay with its endpoint: every endpoint has a set of its clients, which goes
    /// with it, and a chain that puts them in.
    fn add_faithful(
        &mut self,
        sets: &Sets,
        chain: String,
        pool: &Pool<'_>,
        backends: &[Backend],
        seconds: u32,
    ) {
        let mut rules = Vec::new();
        for (place, backend) in backends.iter().enumerate() {
            let address = octets(backend.0);
            let hex: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = format!("{}-{hex}-{}", pool.number, backend.1);
            let (clients, to) = (format!("clients-{name}-{seconds}"), format!("to-{name}"));
            rules.push(Rule::new().among(&[sets.source], &clients).goto(&to));
            let lead = |rule: Rule| rule.lead_to(sets.family, &address, backend.1);
            let remember = Rule::new().remember_client(sets.family, &clients);
            let steps = vec![lead(remember), lead(Rule::new())];
            self.chains.insert(to.clone(), steps);
            let set = ClientSet {
                name: clients.clone(),
                is_ipv6: matches!(sets.family, Address::V6),
                timeout_ms: u64::from(seconds) * 1000,
                clients_max: CLIENTS_MAX,
            };
            self.sets.insert(clients, set);
            self.add_place(PLACES, pool.number, place, ElementData::Goto(to));
        }
        rules.push(Rule::new().go_to_any(pool, PLACES));
        self.chains.insert(chain, rules);
    }

    /// Where a front of a service that has endpoints leads.
    fn way_in(
        &mut self,
        sets: &Sets,
        number: u32,
        at: usize,
        front: &Front,
        balancer: &Balancer,
    ) -> ElementData {
        let goto = |kind: &str| ElementData::Goto(format!("{kind}-{number}"));
        if let FrontAddress::Cluster(_) = front.at {
            return match (balancer.internal_local, balancer.here.is_empty()) {
                (true, true) => ElementData::Drop,
                (true, false) => goto("loc"),
                (false, _) if balancer.everywhere.is_empty() => {
                    ElementData::Goto(REJECT.to_owned())
                }
                (false, _) => goto("svc"),
            };
        }
        if front.sources.is_empty() {
            return goto("ext");
        }
        let chain = format!("from-{number}-{at}");
        let on = format!("ext-{number}");
        let mut rules: Vec<Rule> = front
            .sources
            .iter()
            .filter(|range| range.address.is_ipv6() == balancer.is_ipv6)
            .map(|range| {
                let first = octets(range.address);
                Rule::new()
                    .within(sets.source, &first, &mask(range))
                    .goto(&on)
            })
            .collect();
        rules.push(Rule::new().drop());
        self.chains.insert(chain.clone(), rules);
        ElementData::Goto(chain)
    }

    fn add_front(&mut self, sets: &Sets, front: &Front, balancer: &Balancer, verdict: ElementData) {
        let mut key = match front.at {
            FrontAddress::Cluster(address) | FrontAddress::External(address) => octets(address),
            FrontAddress::Node => Vec::new(),
        };
        key.extend([protocol_number(balancer.protocol), 0, 0, 0]);
        key.extend(padded_port(front.port));
        let set = match front.at {
            FrontAddress::Node => sets.node,
            _ => sets.fronts,
        };
        if let FrontAddress::Cluster(_) = front.at {
            self.elements.push(plain(sets.cluster, key.clone()));
        }
        self.elements.push(Element {
            set: set.into(),
            key,
            data: verdict,
            end: false,
        });
    }
}

fn backend_bytes((address, port): &Backend) -> Vec<u8> {
    let mut bytes = octets(*address);
    bytes.extend(padded_port(*port));
    bytes
}

//! What is in the kernel, and how it becomes what should be there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::base::{self, ITSELF4, ITSELF6, plain};
use super::program::{Program, program};
use super::{Backend, Balancer, Balancers, FrontAddress, ServiceOptions};
use crate::conntrack::{self, Connection};
use crate::netlink::{Batch, Failure, Socket};
use crate::nftables::{Element, Transaction};
use crate::ruleset::octets;
use crate::{Protocol, Result, route, sysctl};

/// State of the thread that changes the table.
pub(super) struct Placed {
    options: ServiceOptions,
    netfilter: Socket,
    balancers: BTreeMap<String, (u32, Balancer)>,
    /// How often an address is an endpoint.
    endpoints: HashMap<IpAddr, u32>,
    /// Elements of fronts by their key: of two services that claim the same, the first has it.
    fronts: HashMap<(&'static str, Vec<u8>), String>,
    next_number: u32,
    is_seen_on_bridges: bool,
}

/// What a transaction is to do, in the order in which it can.
#[derive(Default)]
struct Steps {
    added: Vec<(String, Program)>,
    removed: Vec<Program>,
    endpoints_new: Vec<IpAddr>,
    endpoints_gone: Vec<IpAddr>,
}

impl Placed {
    pub(super) fn open(options: ServiceOptions) -> Result<Placed> {
        let is_seen_on_bridges = !options.masquerade_all && see_bridges();
        Ok(Placed {
            options,
            netfilter: Socket::netfilter()?,
            balancers: BTreeMap::new(),
            endpoints: HashMap::new(),
            fronts: HashMap::new(),
            next_number: 1,
            is_seen_on_bridges,
        })
    }

    pub(super) fn replace(&mut self, balancers: Balancers) -> Result<()> {
        let mut numbered = BTreeMap::new();
        for (name, balancer) in balancers {
            numbered.insert(name, (self.next_number, balancer));
            self.next_number += 1;
        }
        self.install(&numbered)?;
        self.balancers = numbered;
        let names: Vec<String> = self.balancers.keys().cloned().collect();
        self.forget_connections(&names);
        Ok(())
    }

    /// Writes the whole table.
    fn install(&mut self, balancers: &BTreeMap<String, (u32, Balancer)>) -> Result<()> {
        let mut fronts = HashMap::new();
        let mut endpoints = HashMap::new();
        let mut transaction = Transaction::inet(&self.options.table);
        transaction.replace_table();
        base::install(&mut transaction, &self.options, self.is_seen_on_bridges);
        for (name, (number, balancer)) in balancers {
            let mut program = program(*number, balancer);
            claim(&mut fronts, name, &mut program);
            make(&mut transaction, name, &program);
            fill(&mut transaction, name, &program);
            for address in addresses(balancer) {
                *endpoints.entry(address).or_insert(0) += 1;
            }
        }
        for address in endpoints.keys() {
            transaction.add_element(&itself(*address), format!("name the endpoint {address}"));
        }
        transaction.commit(&mut self.netfilter)?;
        (self.fronts, self.endpoints) = (fronts, endpoints);
        Ok(())
    }

    pub(super) fn change(&mut self, changes: Vec<(String, Option<Balancer>)>) -> Result<()> {
        let last: BTreeMap<String, Option<Balancer>> = changes.into_iter().collect();
        let changed: Vec<(String, Option<Balancer>)> = last
            .into_iter()
            .filter(|(name, new)| self.balancers.get(name).map(|(_, old)| old) != new.as_ref())
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut after = self.balancers_after(&changed);
        match self.attempt(&changed, &after) {
            Ok(()) => {}
            Err(failure) if failure.is(rustix::io::Errno::NOENT) => {
                tracing::warn!(
                    table = self.options.table,
                    "the nftables table is gone or was changed; it is made again"
                );
                let mut all = self.balancers.clone();
                for (name, new) in std::mem::take(&mut after) {
                    match new {
                        Some(new) => all.insert(name, new),
                        None => all.remove(&name),
                    };
                }
                self.install(&all)?;
                self.balancers = all;
            }
            Err(failure) => return Err(failure.into()),
        }
        for (name, new) in after {
            match new {
                Some(new) => self.balancers.insert(name, new),
                None => self.balancers.remove(&name),
            };
        }
        let names: Vec<String> = changed.into_iter().map(|(name, _)| name).collect();
        self.forget_connections(&names);
        Ok(())
    }

    /// The changed ones with their numbers: a balancer that stays keeps its own.
    fn balancers_after(
        &mut self,
        changed: &[(String, Option<Balancer>)],
    ) -> BTreeMap<String, Option<(u32, Balancer)>> {
        let mut after = BTreeMap::new();
        for (name, new) in changed {
            let numbered = new.as_ref().map(|new| {
                let number = match self.balancers.get(name) {
                    Some((number, _)) => *number,
                    None => {
                        self.next_number += 1;
                        self.next_number - 1
                    }
                };
                (number, new.clone())
            });
            after.insert(name.clone(), numbered);
        }
        after
    }

    fn attempt(
        &mut self,
        changed: &[(String, Option<Balancer>)],
        after: &BTreeMap<String, Option<(u32, Balancer)>>,
    ) -> std::result::Result<(), Failure> {
        let (mut fronts, mut endpoints) = (HashMap::new(), HashMap::new());
        std::mem::swap(&mut fronts, &mut self.fronts);
        std::mem::swap(&mut endpoints, &mut self.endpoints);
        let mut steps = Steps::default();
        let mut delta: BTreeMap<IpAddr, i64> = BTreeMap::new();
        let mut released = Vec::new();
        for (name, _) in changed {
            if let Some((number, old)) = self.balancers.get(name) {
                let mut old_program = program(*number, old);
                old_program
                    .elements
                    .retain(|element| owner(&fronts, element).is_none_or(|owner| owner == name));
                released.extend(
                    old_program
                        .elements
                        .iter()
                        .filter_map(front_key)
                        .map(|key| (key, name.clone())),
                );
                steps.removed.push(old_program);
                for address in addresses(old) {
                    *delta.entry(address).or_default() -= 1;
                }
            }
        }
        for (key, _) in &released {
            fronts.remove(key);
        }
        for (name, new) in after {
            if let Some((number, new)) = new {
                let mut new_program = program(*number, new);
                claim(&mut fronts, name, &mut new_program);
                steps.added.push((name.clone(), new_program));
                for address in addresses(new) {
                    *delta.entry(address).or_default() += 1;
                }
            }
        }
        count(&mut endpoints, &delta, &mut steps);
        let mut transaction = Transaction::inet(&self.options.table);
        steps.write(&mut transaction);
        let outcome = transaction.commit(&mut self.netfilter);
        if outcome.is_err() {
            // As before: counted back.
            let back = delta.iter().map(|(a, n)| (*a, -n)).collect();
            count(&mut endpoints, &back, &mut Steps::default());
            let touched: HashSet<&String> = changed.iter().map(|(name, _)| name).collect();
            fronts.retain(|_, owner| !touched.contains(owner));
            fronts.extend(released);
        }
        (self.fronts, self.endpoints) = (fronts, endpoints);
        outcome
    }

    pub(super) fn remove(&mut self) -> Result<()> {
        let mut transaction = Transaction::inet(&self.options.table);
        transaction.remove_table();
        match transaction.commit(&mut self.netfilter) {
            Err(failure) if failure.is(rustix::io::Errno::NOENT) => {}
            result => result?,
        }
        self.balancers.clear();
        self.fronts.clear();
        self.endpoints.clear();
        Ok(())
    }

    pub(super) fn keep_address(&mut self, address: IpAddr) -> Result<()> {
        let mut batch = Batch::new();
        route::add_host_address(&mut batch, route::LOOPBACK, "lo", address);
        Socket::route()?.send(&batch)?;
        Ok(())
    }

    /// UDP connections to the fronts of these balancers that are led to nobody, or to what is no endpoint of
    /// theirs any more. A client that keeps sending from the same port would stay there for ever.
    fn forget_connections(&mut self, names: &[String]) {
        let mut served: HashMap<(Option<IpAddr>, u16), BTreeSet<Backend>> = HashMap::new();
        for name in names {
            let Some((_, balancer)) = self.balancers.get(name) else {
                continue;
            };
            if balancer.protocol != Protocol::Udp {
                continue;
            }
            for front in &balancer.fronts {
                let address = match front.at {
                    FrontAddress::Cluster(a) | FrontAddress::External(a) => Some(a),
                    FrontAddress::Node => None,
                };
                let backends = balancer.everywhere.iter().chain(&balancer.here).copied();
                served
                    .entry((address, front.port))
                    .or_default()
                    .extend(backends);
            }
        }
        if served.is_empty() {
            return;
        }
        let is_stale = |connection: &Connection| {
            let (to, port) = connection.sent_to;
            let exact = to.and_then(|to| served.get(&(Some(to), port)));
            let backends = exact.or_else(|| served.get(&(None, port)));
            let answered = (connection.answered_by.0, connection.answered_by.1);
            match (backends, answered) {
                (Some(backends), (Some(address), port)) => !backends.contains(&(address, port)),
                _ => false,
            }
        };
        conntrack::forget_where(&mut self.netfilter, is_stale);
    }
}

/// Has packets between ports of a bridge pass the rules, where the kernel can; says whether they do.
fn see_bridges() -> bool {
    let key = "net/bridge/bridge-nf-call-iptables";
    let is_seen = sysctl::set(key, "1").is_ok();
    let _ = sysctl::set_if_present("net/bridge/bridge-nf-call-ip6tables", "1");
    is_seen
}

fn addresses(balancer: &Balancer) -> BTreeSet<IpAddr> {
    let backends = balancer.everywhere.iter().chain(&balancer.here);
    backends.map(|(address, _)| *address).collect()
}

fn itself(address: IpAddr) -> Element {
    let set = if address.is_ipv4() { ITSELF4 } else { ITSELF6 };
    plain(set, [octets(address), octets(address)].concat())
}

/// Which set and key, for the elements that more than one balancer may want.
fn front_key(element: &Element) -> Option<(&'static str, Vec<u8>)> {
    let is_front = [
        base::FRONTS4,
        base::FRONTS6,
        base::NODE4,
        base::NODE6,
        base::CLUSTER4,
        base::CLUSTER6,
    ]
    .contains(&element.set);
    is_front.then(|| (element.set, element.key.clone()))
}

fn owner<'a>(
    fronts: &'a HashMap<(&'static str, Vec<u8>), String>,
    element: &Element,
) -> Option<&'a String> {
    fronts.get(&front_key(element)?)
}

/// Takes the fronts that nobody has; leaves out the others.
fn claim(fronts: &mut HashMap<(&'static str, Vec<u8>), String>, name: &str, program: &mut Program) {
    program.elements.retain(|element| {
        let Some(key) = front_key(element) else {
            return true;
        };
        match fronts.get(&key) {
            Some(owner) => {
                tracing::warn!(service = name, %owner, "an address and port of the service is another's already");
                false
            }
            None => {
                fronts.insert(key, name.to_owned());
                true
            }
        }
    });
}

/// Counts endpoints, and notes which are new and which are none any more.
fn count(endpoints: &mut HashMap<IpAddr, u32>, delta: &BTreeMap<IpAddr, i64>, steps: &mut Steps) {
    for (address, by) in delta {
        let before = i64::from(endpoints.get(address).copied().unwrap_or(0));
        let after = (before + by).max(0);
        match (before > 0, after > 0) {
            (false, true) => steps.endpoints_new.push(*address),
            (true, false) => steps.endpoints_gone.push(*address),
            _ => {}
        }
        if after == 0 {
            endpoints.remove(address);
        } else {
            endpoints.insert(*address, after as u32);
        }
    }
}

fn make(transaction: &mut Transaction<'_>, name: &str, program: &Program) {
    for chain in program.chains.keys() {
        transaction.add_plain_chain(chain, name);
    }
    for memory in program.memories.values() {
        transaction.add_learning_map(memory);
    }
}

fn fill(transaction: &mut Transaction<'_>, name: &str, program: &Program) {
    for (chain, rules) in &program.chains {
        for rule in rules {
            transaction.add_rule(chain, rule);
        }
    }
    for element in &program.elements {
        transaction.add_element(
            element,
            format!("add an address or endpoint of the service {name}"),
        );
    }
}

impl Steps {
    /// Chains and maps come before what leads to them and go after it. What is the same before and after is not
    /// touched.
    fn write(mut self, transaction: &mut Transaction<'_>) {
        let old_chains: HashMap<String, Vec<Vec<u8>>> = take_chains(&mut self.removed);
        let old_memories: HashSet<String> = self
            .removed
            .iter()
            .flat_map(|program| program.memories.keys().cloned())
            .collect();
        let new_chains: HashSet<String> = self
            .added
            .iter()
            .flat_map(|(_, program)| program.chains.keys().cloned())
            .collect();
        let new_memories: HashSet<String> = self
            .added
            .iter()
            .flat_map(|(_, program)| program.memories.keys().cloned())
            .collect();
        for (name, program) in &self.added {
            for chain in program
                .chains
                .keys()
                .filter(|c| !old_chains.contains_key(*c))
            {
                transaction.add_plain_chain(chain, name);
            }
            for (memory, map) in &program.memories {
                if !old_memories.contains(memory) {
                    transaction.add_learning_map(map);
                }
            }
        }
        self.delete_elements(transaction);
        let is_same = |chain: &String, rules: &[crate::nftables::Rule]| {
            old_chains
                .get(chain)
                .is_some_and(|old| old.iter().eq(rules.iter().map(|rule| rule.bytes())))
        };
        for (_, program) in &self.added {
            for (chain, rules) in &program.chains {
                if old_chains.contains_key(chain) && !is_same(chain, rules) {
                    transaction.clear_chain(chain);
                }
            }
        }
        let gone: Vec<&String> = old_chains
            .keys()
            .filter(|c| !new_chains.contains(*c))
            .collect();
        for chain in &gone {
            transaction.clear_chain(chain);
        }
        for (_, program) in &mut self.added {
            program.chains.retain(|chain, rules| !is_same(chain, rules));
        }
        for (name, program) in &self.added {
            fill(transaction, name, program);
        }
        for address in &self.endpoints_new {
            transaction.add_element(&itself(*address), format!("name the endpoint {address}"));
        }
        for chain in gone {
            transaction.delete_chain(chain);
        }
        for memory in old_memories.difference(&new_memories) {
            transaction.delete_set(memory);
        }
    }

    /// Elements that go or change go first; those that stay are neither deleted nor added.
    fn delete_elements(&mut self, transaction: &mut Transaction<'_>) {
        let new: HashSet<&Element> = self
            .added
            .iter()
            .flat_map(|(_, program)| &program.elements)
            .collect();
        let mut kept: HashSet<Element> = HashSet::new();
        for element in self.removed.iter().flat_map(|program| &program.elements) {
            if new.contains(element) {
                kept.insert(element.clone());
            } else {
                transaction.delete_element(element, "take out an address or endpoint of a service");
            }
        }
        for (_, program) in &mut self.added {
            program.elements.retain(|element| !kept.contains(element));
        }
        for address in &self.endpoints_gone {
            transaction.delete_element(&itself(*address), format!("forget the endpoint {address}"));
        }
    }
}

fn take_chains(programs: &mut [Program]) -> HashMap<String, Vec<Vec<u8>>> {
    programs
        .iter_mut()
        .flat_map(|program| std::mem::take(&mut program.chains))
        .map(|(chain, rules)| {
            (
                chain,
                rules.iter().map(|rule| rule.bytes().to_vec()).collect(),
            )
        })
        .collect()
}
